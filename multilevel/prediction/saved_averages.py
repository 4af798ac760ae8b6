"""The published averages of every level as they are kept: the estimates of the table, and how they vary together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from multilevel.arrays import Floats
from multilevel.design.nesting import Nesting
from multilevel.estimands.drawn_averages import integrates_draws, is_median, level_draws
from multilevel.estimands.expected_outcome import ExpectedOutcome
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.log_means import variance_error
from multilevel.estimands.population import population, units_of
from multilevel.estimands.standardise import Standardisation, standardise
from multilevel.fit.interval_estimates import Moments, std_errors
from multilevel.fit.shared_rows import Rows, SharedRows, as_csr, as_shared, joined, scaled, stacked
from multilevel.prediction.saved_joint import KeptMixture
from multilevel.prediction.saved_model import SavedModel

FEW_LEVELS = 50
"""Levels up to which averages are kept at every point of theta: differences between few levels are far from normal."""

DENSE_LEVELS = 500
"""Levels up to which the covariance of each average with every other is kept; of more, the rows of coefficients that they are."""


@dataclass(frozen=True)
class AtPoints:
    """Averages of L levels at K points of theta with ``weights`` (K,). away : (L, K) conditional means less the estimates. roots :
    (L, K, r), whose products of two levels at one point are their conditional covariance."""

    away: NDArray[np.float32]
    roots: NDArray[np.float32]
    weights: Floats

    def at(self, places: Sequence[int]) -> AtPoints:
        """Of the levels at ``places``."""
        return AtPoints(self.away[list(places)], self.roots[list(places)], self.weights)

    def combined(self, factors: Floats, own: float) -> Moments:
        """Deviation of ``factors`` (L,) times the averages from the same of the estimates; ``own``: sd of what is unknown beyond."""
        root = np.einsum("l,lkr->kr", factors, self.roots.astype(np.float64))
        variance = np.sum(root**2, axis=1) + own**2
        return Moments((factors @ self.away.astype(np.float64))[None], variance[None], self.weights)

    def draws(self, size: int, rng: np.random.Generator) -> Floats:
        """(L, size) deviations from the estimates, each point as often as it weighs."""
        points = np.searchsorted(np.cumsum(self.weights), (np.arange(size) + 0.5) / size).clip(max=len(self.weights) - 1)
        normal = rng.standard_normal((self.roots.shape[2], size))
        moved = np.empty((len(self.away), size))
        for point in np.unique(points):
            here = points == point
            moved[:, here] = self.away[:, [point]] + self.roots[:, point].astype(np.float64) @ normal[:, here]
        return moved


@dataclass(frozen=True)
class SavedAverages:
    """``group_estimates`` of one factor, with the joint distribution of its rows.

    of : of the members as they are, or of new ones. levels, parents : as in ``Factor``. estimate, std_error : (L,) of the table, in units
    of the outcome. spread : (L, S), linear about the estimates: deviations of posterior draws where ``has_draws``, else a root of the
    covariance; either way its cross-product over S - 1 is the covariance that comes from the coefficients. own : (L,) sd of what is unknown
    of each level beyond the coefficients, independent between levels. is_positive : whether the outcome is above zero, so that ratios make
    sense. interval : probability of the study's intervals. is_median : whether estimates are medians of draws, whose variance need not
    exist: ``spread`` is then all of them about the median, and errors are (upper - lower) / (2 z). at_points : the same at points of theta,
    where the factor has few levels and theta is integrated.
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
    at_points: AtPoints | None = None


@dataclass(frozen=True)
class AverageRows:
    """The same of very many levels: in place of ``spread`` the averages' derivatives by the coefficients, one a part (L, p + q)."""

    factor: str
    of: Literal["members", "population"]
    levels: tuple[str, ...]
    parents: tuple[str, ...] | None
    estimate: Floats
    std_error: Floats
    rows: tuple[SharedRows, ...]
    own: Floats
    has_draws: bool
    is_positive: bool
    interval: float


def saved_averages(
    outcome: ExpectedOutcome,
    tree: Nesting,
    variance: LevelVariance | None,
    models: Sequence[SavedModel],
    table: pa.Table,
    sampled: Sequence[str] = (),
) -> tuple[SavedAverages | AverageRows, ...]:
    """Of every factor, the headline's first where it has two.

    Parameters
    ----------
    outcome, tree, variance, sampled : those that ``table``, the published ``group_estimates``, was made of. models : the saved parts.
    """
    found: list[SavedAverages | AverageRows] = []
    for name in tree.factors:
        units = units_of(tree, name, sampled)
        if units is not None:
            of_new = population(outcome, tree, name, variance, sampled, units)
            if integrates_draws(of_new):
                size, error = models[0].joint.row_values, variance_error(of_new, variance, tree, name)
                found.append(_of_draws(name, of_new, tree, size, table, error))
            else:
                found.append(_of_factor(name, of_new, tree, models, table, "population"))
        found.append(_of_factor(name, standardise(outcome, tree, name, variance), tree, models, table, "members"))
    return tuple(found)


def published_estimates(
    table: pa.Table, name: str, of: Literal["members", "population"]
) -> dict[tuple[str | None, str], tuple[float, float]]:
    """Estimate and standard error of every level of a factor that was seen, by parent and level, from the published ``group_estimates``."""
    estimate, std_error = _COLUMNS[of]
    seen = table.select(["grouping_factor", "parent_level", "level", "is_new", estimate, std_error]).filter(_seen(name))
    return {(row["parent_level"], row["level"]): (row[estimate], row[std_error]) for row in seen.to_pylist()}


def _seen(name: str) -> pc.Expression:
    """The rows of a factor's levels, without the row of a new one."""
    return (pc.field("grouping_factor") == name) & ~pc.field("is_new")


_COLUMNS = {"members": ("estimate", "std_error"), "population": ("population_estimate", "population_std_error")}


def _labels(tree: Nesting, name: str) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    factor = tree.factors[name]
    return tuple(map(str, factor.levels)), None if factor.parents is None else tuple(map(str, factor.parents))


def _of_table(
    name: str, levels: tuple[str, ...], parents: tuple[str, ...] | None, table: pa.Table, of: Literal["members", "population"]
) -> tuple[Floats, Floats]:
    """(L,) estimates and standard errors as published."""
    here: Any = table.select(["grouping_factor", "parent_level", "level", "is_new", *_COLUMNS[of]]).filter(_seen(name))
    published = pd.MultiIndex.from_arrays([here["parent_level"].to_pandas(), here["level"].to_pandas()])
    wanted = pd.MultiIndex.from_arrays([[None] * len(levels) if parents is None else list(parents), list(levels)])
    places = published.get_indexer(wanted)
    assert (places >= 0).all()
    estimate, std_error = (here[column].to_numpy()[places].astype(np.float64) for column in _COLUMNS[of])
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
) -> SavedAverages | AverageRows:
    outcome = standard.outcome
    levels, parents = _labels(tree, name)
    estimate, std_error = _of_table(name, levels, parents, table, of)
    has_draws = outcome.has_draws and len(models) == 1
    is_positive = not outcome.parts[-1].response.is_linear
    if len(levels) > DENSE_LEVELS:
        rows = _rows(standard)
        linear = std_error if _is_of_coefficients_alone(standard) else _linear_errors(standard, rows)
        shrunk, own = _apart(linear, std_error)
        kept = tuple(as_shared(scaled(each, shrunk)) for each in rows)
        return AverageRows(name, of, levels, parents, estimate, std_error, kept, own, has_draws, is_positive, outcome.interval)
    gradients = _rows(standard)
    spread = spread_of_parts([_spread(model, rows) for model, rows in zip(models, gradients, strict=True)])
    shrunk, own = _apart(np.sqrt(np.sum(spread**2, axis=1) / (spread.shape[1] - 1)), std_error)
    kept_spread = (spread * shrunk[:, None]).astype(np.float32)
    few = _at_points(models[0], gradients[0], shrunk) if len(models) == 1 and len(levels) <= FEW_LEVELS else None
    interval = outcome.interval
    return SavedAverages(name, of, levels, parents, estimate, std_error, kept_spread, own, has_draws, is_positive, interval, at_points=few)


def _is_of_coefficients_alone(standard: Standardisation) -> bool:
    """Whether published errors are those of linear combinations of the coefficients."""
    return standard.outcome.is_linear and len(standard.outcome.parts) == 1 and not standard.integrated


def _linear_errors(standard: Standardisation, rows: Sequence[Rows]) -> Floats:
    """(L,) sd of the averages, linear about the estimates."""
    errors = [std_errors(part.fit, own) for part, own in zip(standard.outcome.parts, rows, strict=True)]
    return np.asarray(np.sqrt(np.sum(np.square(errors), axis=0)))


def _spread(model: SavedModel, rows: SharedRows) -> Floats:
    """(L, S) as ``SavedModel.spread``, of what rows share once where that is less than all of their entries."""
    if rows.shared.shape[0] > rows.shape[0]:
        return model.spread(as_csr(rows))
    spread = model.spread(stacked([rows.own, rows.shared]))
    n = rows.shape[0]
    return np.asarray(spread[:n] + rows.weights @ spread[n:])


def _at_points(model: SavedModel, rows: Rows, shrunk: Floats) -> AtPoints | None:
    """Linear about the estimates, as ``spread`` is; ``shrunk`` (L,) as from ``_apart``."""
    if not isinstance(model.joint, KeptMixture):
        return None
    gradient = as_csr(rows)
    means, roots = model.joint.conditionals(gradient)
    away = (means - np.asarray(gradient @ model.mean)[:, None]) * shrunk[:, None]
    return AtPoints(away.astype(np.float32), (roots * shrunk[:, None, None]).astype(np.float32), model.joint.points.weights)


def _apart(linear: Floats, std_error: Floats) -> tuple[Floats, Floats]:
    """(L,) what the deviations are shrunk by, and the sd of what is unknown beyond, so that together they make the published errors."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shrunk = np.where(linear > std_error, std_error / linear, 1.0)
    return shrunk, np.sqrt(np.maximum(std_error**2 - linear**2, 0.0))


def spread_of_parts(pieces: Sequence[Floats]) -> Floats:
    """(L, S) of the sum over parts, which have no parameter in common: their roots stand side by side."""
    if len(pieces) == 1:
        return pieces[0]
    spread = np.hstack([piece / np.sqrt(piece.shape[1] - 1) for piece in pieces])
    return spread * np.sqrt(spread.shape[1] - 1)


def _rows(standard: Standardisation) -> tuple[SharedRows, ...]:
    """Per part (L, p + q); what chunks of levels share is kept once where it is the same in all of them."""
    return tuple(joined(part) for part in zip(*standard.gradient_chunks(), strict=True))
