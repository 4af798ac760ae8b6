"""The saved models of versions published before tables kept them: one ``.npz`` file, read alone; nothing in it is pickled."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from multilevel.errors import DataError
from multilevel.fit.theta_spread import ThetaMixture
from multilevel.prediction.kept_levels import Texts
from multilevel.prediction.saved_averages import SavedAverages
from multilevel.prediction.saved_joint import KeptDeviations, KeptMixture, SavedJoint
from multilevel.prediction.saved_model import SavedFactor, SavedMeans, SavedModel

READ = (3, 4, 5, 6)
"""Formats: 3 has no averages, 4 none that are medians, 5 holds the variances at their estimates."""

AVERAGE_ARRAYS = ("estimate", "std_error", "spread", "own")
PLAIN = ("part", "formula", "family", "log_outcome", "engine", "interval", "population", "blocks", "log_variance", "log_variance_error")


class NpzFile:
    """The models of one file, as ``SavedFolder`` gives those of a folder; DataError where it is damaged or of another version."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @cached_property
    def _models(self) -> tuple[SavedModel, ...]:
        return _read(self._file, lambda known, stored: tuple(_restored(each, stored, f"{at}.") for at, each in enumerate(known["models"])))

    @cached_property
    def _averages(self) -> tuple[SavedAverages, ...]:
        """None in a file of an earlier version."""

        def restored(described: dict[str, Any], stored: Any) -> tuple[SavedAverages, ...]:
            return tuple(_average(each, stored, f"averages.{place}.") for place, each in enumerate(described.get("averages", ())))

        return _read(self._file, restored)

    def bare(self) -> tuple[SavedModel, ...]:
        """The models."""
        return self._models

    def at_rows(self, texts: Texts) -> tuple[SavedModel, ...]:
        """The models."""
        return self._models

    def at_labels(self, labels: Sequence[str]) -> tuple[SavedModel, ...]:
        """The models."""
        return self._models

    def factors(self) -> Mapping[str, SavedFactor]:
        """Every factor of the first model."""
        return self._models[0].factors

    def averages(self, factor: str, labels: Sequence[str]) -> tuple[SavedAverages, ...]:
        """The published averages of all levels of a factor: the headline's first where there are two kinds."""
        return tuple(one for one in self._averages if one.factor == factor)

    def highest(self, factor: str, of: str | None, size: int, parent: str | None) -> list[str]:
        """As of ``SavedFolder``."""
        kept = next((one for one in self._averages if one.factor == factor and of in (None, one.of)), None)
        if kept is None:
            return []
        places = np.argsort(-kept.estimate, kind="stable")
        if kept.parents is None:
            return [kept.levels[place] for place in places][:size] if parent is None else []
        return [f"{kept.parents[at]}:{kept.levels[at]}" for at in places if parent in (None, kept.parents[at])][:size]


def _average(each: dict[str, Any], stored: Any, prefix: str) -> SavedAverages:
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in each.items()}
    return SavedAverages(**plain, **{name: stored[prefix + name] for name in AVERAGE_ARRAYS})


def _read[T](file: Path, restored: Callable[[dict[str, Any], Any], T]) -> T:
    try:
        with np.load(file, allow_pickle=False) as stored:
            described = json.loads(str(stored["description"]))
            if described["format"] in READ:
                return restored(described, stored)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError(f"{file}: cannot be read as a saved model ({error}); run groupwise estimate again.") from error
    raise DataError(f"{file}: kept by another version of groupwise (format {described['format']}); run groupwise estimate again.")


def _restored(described: dict[str, Any], stored: Any, prefix: str) -> SavedModel:
    def array(name: str) -> Any:
        return stored[prefix + name]

    def known(name: str) -> Any:
        return array(name) if prefix + name in stored else None

    n_blocks, width = len(described["blocks"]), len(array("mean"))
    has_draws = f"{prefix}covariance_draws.0" in stored
    has_points = f"{prefix}covariance_points.0" in stored
    contrasts = {}
    for index, (factor, term) in enumerate(described["contrasts"]):
        data, indices, indptr = (array(f"rows.{index}.{name}") for name in ("data", "indices", "indptr"))
        contrasts[(factor, term)] = csr_array((data, indices, indptr), shape=(len(indptr) - 1, width))
    plain: dict[str, Any] = {name: tuple(described[name]) if isinstance(described[name], list) else described[name] for name in PLAIN}
    return SavedModel(
        **plain,
        labels={name: tuple(values) for name, values in described["labels"].items()},
        moments={label: (pair[0], pair[1]) for label, pair in described["moments"].items()},
        fills=described["fills"],
        means=tuple(SavedMeans(**{**each, **_tuples(each, "columns", "values"), "keys": _keys(each)}) for each in described["means"]),
        factors={each["name"]: _factor(each) for each in described["factors"]},
        scale=None,
        log_scale_error=0.0,
        scale_draws=None,
        terms=tuple(tuple(map(str, range(len(array(f"map.{index}"))))) for index in range(n_blocks)),
        mean=array("mean"),
        joint=_joint(array, known, has_draws, width),
        covariances=tuple(array(f"covariance.{index}") for index in range(n_blocks)),
        covariance_points=tuple(array(f"covariance_points.{index}") for index in range(n_blocks)) if has_points else None,
        point_weights=known("point_weights"),
        covariance_draws=tuple(array(f"covariance_draws.{index}") for index in range(n_blocks)) if has_draws else None,
        contrasts=contrasts,
        population_map=_matrix(array, width)[: len(described["population"]), : len(described["population"])].toarray(),
        maps=tuple(array(f"map.{index}") for index in range(n_blocks)),
    )


def _joint(array: Callable[[str], Any], known: Callable[[str], Any], has_draws: bool, width: int) -> SavedJoint:
    """Deviations, or the mixture where there is one."""
    means, roots, matrix = known("point_means"), known("point_roots"), _matrix(array, width)
    if means is None or roots is None or has_draws:
        return KeptDeviations(array("deviations"), matrix, has_draws)
    return KeptMixture(ThetaMixture(means, roots.astype(np.float64), (), known("point_weights"), matrix))


def _matrix(array: Callable[[str], Any], width: int) -> csr_array:
    return csr_array((array("matrix.data"), array("matrix.indices"), array("matrix.indptr")), shape=(width, width))


def _factor(each: dict[str, Any]) -> SavedFactor:
    parents = None if each["parents"] is None else tuple(each["parents"])
    tuples = _tuples(each, "columns", "levels", "log_variances", "log_variance_errors")
    changed: dict[str, Any] = {**each, **tuples, "parents": parents, "keys": _keys(each)}
    return SavedFactor(**changed)


def _tuples(each: dict[str, Any], *names: str) -> dict[str, tuple[Any, ...]]:
    return {name: tuple(each[name]) for name in names}


def _keys(each: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(key) for key in each["keys"])
