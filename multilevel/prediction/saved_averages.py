"""The published averages of every level as they are kept: the estimates of the table, and how they vary together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from multilevel.arrays import Floats
from multilevel.design.nesting import Nesting
from multilevel.estimands.drawn_averages import integrates_draws, is_median, level_draws
from multilevel.estimands.expected_outcome import ExpectedOutcome
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.log_means import variance_error
from multilevel.estimands.population import population, units_of
from multilevel.estimands.standardise import Standardisation, standardise
from multilevel.prediction.saved_model import SavedModel


@dataclass(frozen=True)
class SavedAverages:
    """``group_estimates`` of one factor, with the joint distribution of its rows.

    of : of the members as they are, or of new ones. levels, parents : as in ``Factor``. estimate, std_error : (L,) of the table, in units
    of the outcome. spread : (L, S), linear about the estimates: deviations of posterior draws where ``has_draws``, else a root of the
    covariance; either way its cross-product over S - 1 is the covariance that comes from the coefficients. own : (L,) sd of what is unknown
    of each level beyond the coefficients, independent between levels. is_positive : whether the outcome is above zero, so that ratios make
    sense. interval : probability of the study's intervals. is_median : whether estimates are medians of draws, whose variance need not
    exist: ``spread`` is then all of them about the median, and errors are (upper - lower) / (2 z).
    """

    factor: str
    of: Literal["members", "population"]
    levels: tuple[str, ...]
    parents: tuple[str, ...] | None
    estimate: Floats
    std_error: Floats
    spread: NDArray[np.float32]
    own: Floats
    has_draws: bool
    is_positive: bool
    interval: float
    is_median: bool = False


def saved_averages(
    outcome: ExpectedOutcome,
    tree: Nesting,
    variance: LevelVariance | None,
    models: Sequence[SavedModel],
    table: pa.Table,
    sampled: Sequence[str] = (),
) -> tuple[SavedAverages, ...]:
    """Of every factor, the headline's first where it has two.

    Parameters
    ----------
    outcome, tree, variance, sampled : those that ``table``, the published ``group_estimates``, was made of. models : the saved parts.
    """
    found = []
    for name in tree.factors:
        units = units_of(tree, name, sampled)
        if units is not None:
            of_new = population(outcome, tree, name, variance, sampled, units)
            if integrates_draws(of_new):
                found.append(_of_draws(name, of_new, tree, len(models[0].deviations), table, variance_error(of_new, variance, tree, name)))
            else:
                found.append(_of_factor(name, of_new, tree, models, table, "population"))
        found.append(_of_factor(name, standardise(outcome, tree, name, variance), tree, models, table, "members"))
    return tuple(found)


def published_estimates(table: pa.Table, of: Literal["members", "population"]) -> dict[tuple[str, str | None, str], tuple[float, float]]:
    """Estimate and standard error of every level seen, by factor, parent level and level, from the published ``group_estimates``."""
    names = ("estimate", "std_error") if of == "members" else ("population_estimate", "population_std_error")
    columns = table.select(["grouping_factor", "parent_level", "level", "is_new", *names]).to_pylist()
    keys = ("grouping_factor", "parent_level", "level")
    return {(row[keys[0]], row[keys[1]], row[keys[2]]): (row[names[0]], row[names[1]]) for row in columns if not row["is_new"]}


def _labels(tree: Nesting, name: str) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    factor = tree.factors[name]
    return tuple(map(str, factor.levels)), None if factor.parents is None else tuple(map(str, factor.parents))


def _of_table(
    name: str, levels: tuple[str, ...], parents: tuple[str, ...] | None, table: pa.Table, of: Literal["members", "population"]
) -> tuple[Floats, Floats]:
    """(L,) estimates and standard errors as published."""
    published = published_estimates(table, of)
    keys = [(name, None if parents is None else parents[place], level) for place, level in enumerate(levels)]
    estimate, std_error = np.array([published[key] for key in keys], dtype=np.float64).T
    return estimate, std_error


def _of_draws(name: str, standard: Standardisation, tree: Nesting, size: int, table: pa.Table, error: Floats) -> SavedAverages:
    """Of a population whose variances are drawn: deviations of the averages themselves, ``error`` (L,) the sd of each log mean beyond."""
    levels, parents = _labels(tree, name)
    estimate, std_error = _of_table(name, levels, parents, table, "population")
    spread = (level_draws(standard, size) - estimate[:, None]).astype(np.float32)
    is_positive = not standard.outcome.parts[-1].response.is_linear
    own, interval = error * estimate, standard.outcome.interval
    median = is_median(standard)
    return SavedAverages(name, "population", levels, parents, estimate, std_error, spread, own, True, is_positive, interval, median)


def _of_factor(
    name: str,
    standard: Standardisation,
    tree: Nesting,
    models: Sequence[SavedModel],
    table: pa.Table,
    of: Literal["members", "population"],
) -> SavedAverages:
    outcome = standard.outcome
    levels, parents = _labels(tree, name)
    estimate, std_error = _of_table(name, levels, parents, table, of)
    gradients = standard.gradients()
    pieces = [model.spread(rows) for model, rows in zip(models, gradients, strict=True)]
    has_draws = outcome.has_draws and len(pieces) == 1
    # parts have no parameter in common: their roots stand side by side
    spread = pieces[0] if len(pieces) == 1 else np.hstack([piece / np.sqrt(piece.shape[1] - 1) for piece in pieces])
    spread = spread if len(pieces) == 1 else spread * np.sqrt(spread.shape[1] - 1)
    linear = np.sqrt(np.sum(spread**2, axis=1) / (spread.shape[1] - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        shrunk = np.where(linear > std_error, std_error / linear, 1.0)
    own = np.sqrt(np.maximum(std_error**2 - linear**2, 0.0))
    kept = (spread * shrunk[:, None]).astype(np.float32)
    is_positive = not outcome.parts[-1].response.is_linear
    return SavedAverages(name, of, levels, parents, estimate, std_error, kept, own, has_draws, is_positive, outcome.interval)
