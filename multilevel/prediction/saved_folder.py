"""Saved models as a folder of tables, of which only the rows that a question needs are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from multilevel.arrays import Integers
from multilevel.prediction.joint_rows import plain_forms
from multilevel.prediction.kept_averages import KeptAverages
from multilevel.prediction.kept_coefficients import KeptCoefficients
from multilevel.prediction.kept_levels import KeptLevels, Levels, Texts
from multilevel.prediction.parquet_rows import flat, list_starts, read_all, read_at
from multilevel.prediction.saved_averages import SavedAverages
from multilevel.prediction.saved_model import SavedFactor, SavedMeans, SavedModel

NO_TEXTS: Texts = {}

FEW_MEANS = 10_000
"""Level means that are read whole."""


class SavedFolder:
    """The tables of ``multilevel.catalogue.joint_tables`` in ``folder``; DataError where they cannot be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _parts(self) -> list[_Part]:
        heads, blocks, factors = (read_all(self._folder / f"{name}.parquet").to_pylist() for name in ("models", "blocks", "factors"))
        found: list[_Part] = []
        for head in heads:
            own_blocks, own_factors = ([each for each in rows if each["model"] == head["place"]] for rows in (blocks, factors))
            found.append(_Part(self._folder, head, own_blocks, own_factors, found[-1].after if found else _Starts()))
        return found

    def bare(self) -> tuple[SavedModel, ...]:
        """The models without their levels: what the formula needs of a table."""
        return tuple(part.model(KeptLevels.none) for part in self._parts)

    def factors(self) -> dict[str, SavedFactor]:
        """Every factor of the first model with all of its levels."""
        return self._parts[0].every_factor()

    def at_rows(self, texts: Texts) -> tuple[SavedModel, ...]:
        """The models with at least the levels that rows with these labels have."""
        return tuple(part.model(lambda levels: levels.of_rows(texts), means=texts) for part in self._parts)

    def at_labels(self, labels: Sequence[str]) -> tuple[SavedModel, ...]:
        """The models with the levels that ``labels`` name, ``level`` or ``parent:level``, and those that their coefficients are of."""
        return tuple(part.model(lambda levels: levels.named(labels), with_rows=True) for part in self._parts)

    def averages(self, factor: str, labels: Sequence[str]) -> tuple[SavedAverages, ...]:
        """The published averages of the levels of a factor that ``labels`` name: the headline's first where there are two kinds."""
        return self._averages.at(factor, self._parts[0].levels[factor].named(labels).places)

    def highest(self, factor: str, of: str | None, size: int, parent: str | None) -> list[str]:
        """The ``size`` levels with the highest averages, as ``parent:level`` where they have parents."""
        levels = self._parts[0].levels[factor]
        return levels.names(self._averages.highest(factor, of, size, parent))

    @cached_property
    def _averages(self) -> KeptAverages:
        return KeptAverages(self._folder, [part.coefficients for part in self._parts], float(self._parts[0].head["interval"]))


@dataclass(frozen=True)
class _Starts:
    """Rows of ``coefficients``, ``levels`` and ``level_rows`` before a model's own."""

    coordinates: int = 0
    levels: int = 0
    rows: int = 0


class _Part:
    """One saved model; ``before``: those of the one before it."""

    def __init__(
        self, folder: Path, head: Mapping[str, Any], blocks: list[dict[str, Any]], factors: list[dict[str, Any]], before: _Starts
    ) -> None:
        self._folder, self.head, self._blocks, self._factors, self._before = folder, head, blocks, factors, before
        self.coefficients = KeptCoefficients(folder, head, blocks, before.coordinates)
        self._sizes = {str(factor["grouping_factor"]): int(factor["levels"]) for factor in factors}
        starts, at = {}, before.levels
        for name in sorted(self._sizes):
            starts[name] = at
            at += self._sizes[name]
        self.levels = {name: KeptLevels(folder, factor, starts[name]) for name, factor in zip(self._sizes, factors, strict=True)}

    @property
    def after(self) -> _Starts:
        """Rows before the next model's."""
        before = self._before
        rows = sum(self._sizes[block["grouping_factor"]] * len(block["terms"]) for block in self._blocks)
        return _Starts(before.coordinates + self.head["coordinates"], before.levels + sum(self._sizes.values()), before.rows + rows)

    def every_factor(self) -> dict[str, SavedFactor]:
        """By name, with all levels."""
        return {name: _factor(factor, self.levels[name].every()) for name, factor in zip(self._sizes, self._factors, strict=True)}

    def model(self, chosen: Callable[[KeptLevels], Levels], *, with_rows: bool = False, means: Texts = NO_TEXTS) -> SavedModel:
        """The model with the levels that ``chosen`` picks of each factor, ``with_rows`` those that their coefficients are of too;
        ``means``: the labels whose level means are needed."""
        found = {name: chosen(levels) for name, levels in self.levels.items()}
        rows: dict[tuple[str, str], csr_array] = {}
        if with_rows:
            found, rows = self._with_rows(found)
        head, blocks = self.head, self._blocks
        mean, joint = self.coefficients.at([found[block["grouping_factor"]].places for block in blocks])
        terms = [len(block["terms"]) for block in blocks]
        details = json.loads(head["details"])
        has_points = bool(blocks) and blocks[0]["covariance_points"] is not None
        has_draws = bool(blocks) and blocks[0]["covariance_draws"] is not None
        return SavedModel(
            part=head["part"],
            formula=head["formula"],
            family=head["family"],
            log_outcome=head["log_outcome"],
            engine=head["engine"],
            interval=head["interval"],
            population=tuple(head["population"]),
            labels={name: tuple(values) for name, values in details["labels"].items()},
            moments={label: (pair[0], pair[1]) for label, pair in details["moments"].items()},
            means=self._means(means),
            factors={factor["grouping_factor"]: _factor(factor, found[factor["grouping_factor"]]) for factor in self._factors},
            blocks=tuple(block["grouping_factor"] for block in blocks),
            terms=tuple(tuple(block["terms"]) for block in blocks),
            scale=head["scale"],
            log_scale_error=head["log_scale_error"],
            scale_draws=None if head["scale_draws"] is None else np.array(head["scale_draws"], np.float32),
            log_variance=head["log_variance"],
            log_variance_error=head["log_variance_error"],
            fills=details["fills"],
            mean=mean,
            joint=joint,
            covariances=tuple(np.array(block["covariance"]).reshape(k, k) for block, k in zip(blocks, terms, strict=True)),
            covariance_points=_stacks(blocks, "covariance_points", terms, np.float64) if has_points else None,
            point_weights=None if head["point_weights"] is None else np.array(head["point_weights"]),
            covariance_draws=_stacks(blocks, "covariance_draws", terms, np.float32) if has_draws else None,
            contrasts=rows,
            population_map=self.coefficients.population_map,
            maps=self.coefficients.maps,
        )

    def _with_rows(self, found: dict[str, Levels]) -> tuple[dict[str, Levels], dict[tuple[str, str], csr_array]]:
        """The rows of the levels' coefficients by factor and term, and the levels with those that the rows are of."""
        raw = {key: self._level_rows(start, found[key[0]].places) for key, start in self._row_starts.items()}
        places = {name: [levels.places] for name, levels in found.items()}
        for rows in raw.values():
            for block, k, start, stop in self._spans:
                own = rows.indices[(rows.indices >= start) & (rows.indices < stop)]
                places[block].append(np.unique((own - start) // k))
        whole = {name: np.unique(np.concatenate(own)) for name, own in places.items()}
        grown = {name: self._grown(name, found[name], own) for name, own in whole.items()}
        kept = self.coefficients.places([whole[block["grouping_factor"]] for block in self._blocks])
        order = np.argsort(kept, kind="stable")
        result = {}
        for key, rows in raw.items():
            columns = order[np.searchsorted(kept[order], rows.indices)]
            at = np.searchsorted(whole[key[0]], found[key[0]].places)
            sizes = np.zeros(len(whole[key[0]]), np.int64)
            sizes[at] = np.diff(rows.indptr)
            result[key] = csr_array((rows.data, columns, np.concatenate([[0], np.cumsum(sizes)])), shape=(len(sizes), len(kept)))
        return grown, result

    def _grown(self, name: str, found: Levels, places: Integers) -> Levels:
        """More levels, of which nothing but their labels is known."""
        if len(places) == len(found.places):
            return found
        block = next(at for at, each in enumerate(self._blocks) if each["grouping_factor"] == name)
        levels, parents = self.coefficients.labels(block, places)
        nested = tuple(map(str, parents)) if found.parents is not None else None
        return Levels(places, tuple(levels), nested, ((),) * len(found.keys))

    @cached_property
    def _spans(self) -> list[tuple[str, int, int, int]]:
        """Per block its factor, how many terms, and where its effects begin and end."""
        found = []
        for block in self._blocks:
            name, k, start = block["grouping_factor"], len(block["terms"]), int(block["start"])
            found.append((name, k, start, start + self._sizes[name] * k))
        return found

    @cached_property
    def _row_starts(self) -> dict[tuple[str, str], int]:
        """Per factor and term, where its rows in ``level_rows`` begin."""
        keys = [(block["grouping_factor"], term) for block in self._blocks for term in block["terms"]]
        starts, at = {}, self._before.rows
        for key in sorted(keys):
            starts[key] = at
            at += self._sizes[key[0]]
        return starts

    def _level_rows(self, start: int, places: Integers) -> csr_array:
        """(n, coefficients) of levels at ``places`` (n,)."""
        table = read_at(self._folder / "level_rows.parquet", start + places, ("places", "values"))
        entries = (flat(table["values"]), flat(table["places"]).astype(np.int64), list_starts(table["places"]))
        return csr_array(entries, shape=(len(places), int(self.head["coefficients"])))

    def _means(self, wanted: Texts) -> tuple[SavedMeans, ...]:
        """The means of levels that ``wanted`` labels."""
        table = read_all(self._folder / "level_means.parquet")
        table = table.filter(pc.field("model") == self.head["place"])
        found = []
        for name in dict.fromkeys(table["predictor"].to_pylist()):
            own = table.filter(pc.field("predictor") == name)
            columns = tuple(own["columns"][0].as_py())
            if own.num_rows > FEW_MEANS:
                labels = {form for text in wanted.get(columns[-1], ()) if text is not None for form in (text, *plain_forms(text))}
                last = pc.list_element(own["keys"], len(columns) - 1)
                own = own.filter(pc.is_in(last, pa.array(sorted(labels), pa.string())))
            keys = tuple(zip(*own["keys"].to_pylist(), strict=True)) if own.num_rows else ((),) * len(columns)
            found.append(SavedMeans(name, columns, keys, tuple(own["value"].to_pylist())))
        return tuple(found)


def _factor(factor: Mapping[str, Any], levels: Levels) -> SavedFactor:
    return SavedFactor(
        factor["grouping_factor"],
        tuple(factor["columns"]),
        levels.keys,
        levels.levels,
        levels.parents,
        levels.log_variances,
        levels.log_variance_errors,
        factor["log_variance_sd"],
    )


def _stacks(blocks: Sequence[Mapping[str, Any]], name: str, terms: Sequence[int], type_: Any) -> tuple[Any, ...]:
    return tuple(np.array(block[name], type_).reshape(-1, k, k) for block, k in zip(blocks, terms, strict=True))
