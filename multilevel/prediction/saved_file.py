"""The saved models of a run as one ``.npz`` file; nothing in it is pickled."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from multilevel.errors import DataError
from multilevel.prediction.saved_averages import SavedAverages
from multilevel.prediction.saved_model import SavedFactor, SavedMeans, SavedModel

FORMAT, READ = 6, (3, 4, 5, 6)
"""The format written, and those read: 3 has no averages, 4 none that are medians, 5 holds the variances at their estimates."""

AVERAGES = ("factor", "of", "levels", "parents", "has_draws", "is_positive", "interval", "is_median")
AVERAGE_ARRAYS = ("estimate", "std_error", "spread", "own")
POINTS = ("point_weights", "point_means", "point_roots")
PLAIN = ("part", "formula", "family", "log_outcome", "engine", "interval", "population", "blocks", "log_variance", "log_variance_error")


def write_models(models: Sequence[SavedModel], file: Path, averages: Sequence[SavedAverages] = ()) -> None:
    """Write the one file; ``read_models`` and ``read_averages`` read it."""
    described = {
        "format": FORMAT,
        "models": [_described(model) for model in models],
        "averages": [{name: getattr(one, name) for name in AVERAGES} for one in averages],
    }
    arrays: dict[str, Any] = {"description": np.array(json.dumps(described))}
    for place, model in enumerate(models):
        arrays |= {f"{place}.{name}": values for name, values in _arrays(model).items()}
    for place, one in enumerate(averages):
        arrays |= {f"averages.{place}.{name}": getattr(one, name) for name in AVERAGE_ARRAYS}
    with file.open("wb") as target:
        np.savez(target, allow_pickle=False, **arrays)


def read_models(file: Path) -> tuple[SavedModel, ...]:
    """Read what ``write_models`` wrote.

    Raises
    ------
    DataError
        The file is damaged, or of another version.
    """
    return _read(file, lambda described, stored: tuple(_restored(each, stored, f"{at}.") for at, each in enumerate(described["models"])))


def read_averages(file: Path) -> tuple[SavedAverages, ...]:
    """The averages beside the models; none in a file of an earlier version. Raises DataError as ``read_models`` does."""

    def restored(described: dict[str, Any], stored: Any) -> tuple[SavedAverages, ...]:
        return tuple(_average(each, stored, f"averages.{place}.") for place, each in enumerate(described.get("averages", ())))

    return _read(file, restored)


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


def _described(model: SavedModel) -> dict[str, Any]:
    return {
        **{name: getattr(model, name) for name in PLAIN},
        "labels": dict(model.labels),
        "moments": dict(model.moments),
        "fills": dict(model.fills),
        "means": [asdict(mean) for mean in model.means],
        "factors": [asdict(factor) for factor in model.factors.values()],
        "contrasts": [list(key) for key in model.contrasts],
    }


def _arrays(model: SavedModel) -> dict[str, Any]:
    arrays: dict[str, Any] = {"mean": model.mean, "deviations": model.deviations}
    arrays |= {name: values for name in POINTS if (values := getattr(model, name)) is not None}
    arrays |= {f"matrix.{name}": getattr(model.matrix, name) for name in ("data", "indices", "indptr")}
    arrays |= {f"map.{index}": own for index, own in enumerate(model.maps)}
    for index, covariance in enumerate(model.covariances):
        arrays[f"covariance.{index}"] = covariance
        if model.covariance_points is not None:
            arrays[f"covariance_points.{index}"] = model.covariance_points[index]
        if model.covariance_draws is not None:
            arrays[f"covariance_draws.{index}"] = model.covariance_draws[index]
    for index, rows in enumerate(model.contrasts.values()):
        arrays |= {f"rows.{index}.{name}": getattr(rows, name) for name in ("data", "indices", "indptr")}
    return arrays


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
        mean=array("mean"),
        deviations=array("deviations"),
        covariances=tuple(array(f"covariance.{index}") for index in range(n_blocks)),
        covariance_points=tuple(array(f"covariance_points.{index}") for index in range(n_blocks)) if has_points else None,
        point_weights=known("point_weights"),
        point_means=known("point_means"),
        point_roots=known("point_roots"),
        covariance_draws=tuple(array(f"covariance_draws.{index}") for index in range(n_blocks)) if has_draws else None,
        contrasts=contrasts,
        matrix=csr_array((array("matrix.data"), array("matrix.indices"), array("matrix.indptr")), shape=(width, width)),
        maps=tuple(array(f"map.{index}") for index in range(n_blocks)),
    )


def _factor(each: dict[str, Any]) -> SavedFactor:
    parents = None if each["parents"] is None else tuple(each["parents"])
    tuples = _tuples(each, "columns", "levels", "log_variances", "log_variance_errors")
    changed: dict[str, Any] = {**each, **tuples, "parents": parents, "keys": _keys(each)}
    return SavedFactor(**changed)


def _tuples(each: dict[str, Any], *names: str) -> dict[str, tuple[Any, ...]]:
    return {name: tuple(each[name]) for name in names}


def _keys(each: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(key) for key in each["keys"])
