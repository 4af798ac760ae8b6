"""Published averages of some levels of a factor, read from the saved models' folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from scipy.sparse import csr_array

from multilevel.arrays import Integers
from multilevel.prediction.kept_coefficients import KeptCoefficients
from multilevel.prediction.parquet_rows import Table, flat, list_starts, read_all, read_at
from multilevel.prediction.saved_averages import AtPoints, SavedAverages, spread_of_parts


class KeptAverages:
    """``averages`` of a folder, and the coefficients of each part that they are rows of; ``interval``: probability of the study's."""

    def __init__(self, folder: Path, coefficients: Sequence[KeptCoefficients], interval: float) -> None:
        self._file, self._coefficients, self._interval = folder / "averages.parquet", coefficients, interval

    def at(self, factor: str, places: Integers) -> tuple[SavedAverages, ...]:
        """Of the levels at ``places``, one for each kind, the headline's first."""
        kinds = [of for name, of, _ in self._starts if name == factor]
        return tuple(self._of(factor, of, places) for of in dict.fromkeys(kinds))

    def highest(self, factor: str, of: str | None, size: int, parent: str | None) -> Integers:
        """Places of the ``size`` levels with the highest averages, of those below ``parent`` if it is named."""
        found = next((key for key in self._starts if key[0] == factor and of in (None, key[1])), None)
        if found is None:
            return np.zeros(0, np.int64)
        start, stop = self._starts[found]
        rows = read_at(self._file, np.arange(start, stop), ("place", "parent_level", "estimate"))
        if parent is not None:
            rows = rows.filter(pc.field("parent_level") == parent)
        order = np.argsort(-rows["estimate"].to_numpy(), kind="stable")[:size]
        return rows["place"].to_numpy()[order]

    @cached_property
    def _starts(self) -> dict[tuple[str, str, int], tuple[int, int]]:
        """First row, and the one after the last, of every factor, kind and part, in the order of the file."""
        keys = read_all(self._file, ("grouping_factor", "of", "model"))
        coded = [keys[name].combine_chunks().dictionary_encode() for name in keys.column_names]
        codes = np.stack([each.indices.to_numpy() for each in coded])
        first = np.flatnonzero(np.any(codes[:, 1:] != codes[:, :-1], axis=0)) + 1
        starts = [0, *first.tolist()] if keys.num_rows else []
        found = {}
        for start, stop in zip(starts, [*starts[1:], keys.num_rows], strict=True):
            factor, of, model = (each.dictionary[int(code)].as_py() for each, code in zip(coded, codes[:, start], strict=True))
            found[(factor, of, model)] = start, stop
        return found

    def _of(self, factor: str, of: Any, places: Integers) -> SavedAverages:
        first = read_at(self._file, self._starts[(factor, of, 0)][0] + places)
        if first["spread"].null_count:
            pieces = []
            for model, coefficients in enumerate(self._coefficients):
                rows = read_at(self._file, self._starts[(factor, of, model)][0] + places, ("places", "values"))
                pieces.append(coefficients.spread(_rows(rows)))
            spread = spread_of_parts(pieces)
        else:
            spread = flat(first["spread"]).reshape(first.num_rows, -1)
        parents = first["parent_level"]
        return SavedAverages(
            factor,
            of,
            tuple(first["level"].to_pylist()),
            None if parents.null_count else tuple(parents.to_pylist()),
            first["estimate"].to_numpy(),
            first["std_error"].to_numpy(),
            np.asarray(spread, np.float32),
            first["own"].to_numpy(),
            bool(first["has_draws"][0].as_py()),
            bool(first["is_positive"][0].as_py()),
            self._interval,
            bool(first["is_median"][0].as_py()),
            None if first["away"].null_count else self._at_points(first),
        )

    def _at_points(self, rows: Table) -> AtPoints:
        weights = self._coefficients[0].point_weights
        away, roots = flat(rows["away"]), flat(rows["roots"])
        return AtPoints(away.reshape(rows.num_rows, -1), roots.reshape(rows.num_rows, len(weights), -1), weights)


def _rows(table: Table) -> csr_array:
    columns = flat(table["places"]).astype(np.int64)
    width = int(columns.max(initial=0)) + 1
    return csr_array((flat(table["values"]), columns, list_starts(table["places"])), shape=(table.num_rows, width))
