"""From a fit to what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.cells.cell_plan import LevelMean, level_mean_of
from multilevel.cells.statistics import CellStatistics
from multilevel.design.effect_rows import add_population, deviation_rows, terms_of
from multilevel.design.group_predictors import predictors_of
from multilevel.design.model import Design, Factor
from multilevel.design.nesting import Nesting, first_cell, nesting
from multilevel.estimands.fitted_part import FittedPart
from multilevel.estimands.level_variance import LevelVariance
from multilevel.fit.container import Fit, UnitFreeFit
from multilevel.fit.joint_draws import posterior_of
from multilevel.fit.theta_spread import ThetaExpansion, ThetaMixture
from multilevel.formula.columns import predictor_expressions
from multilevel.formula.parse import parse_formula
from multilevel.formula.tree import Call
from multilevel.linear.joint_normal import NormalJoint
from multilevel.prediction.saved_model import SavedFactor, SavedMeans, SavedModel

MOST_DRAWS = 2_000
FEWEST_DRAWS = 400
MOST_VALUES = 4_000_000
"""Draws times coefficients that are kept: a file of 16 MB."""

MOST_COEFFICIENTS = MOST_VALUES // FEWEST_DRAWS


def save_model(
    fitted: FittedPart,
    formula: str,
    *,
    moments: Mapping[str, tuple[float, float]],
    fills: Mapping[str, float],
    seed: int,
) -> SavedModel | None:
    """What is kept of a fit; None where it has more than ``MOST_COEFFICIENTS`` coefficients.

    Parameters
    ----------
    formula : the text that the design was built from. moments : of ``center()`` and ``scale()``, as in ``Schema``.
    fills : column -> mean, of columns whose missing values were filled in.
    seed : of the draws of a likelihood fit whose covariance is too large to keep whole.
    """
    fit, design = fitted.fit, fitted.design
    width = len(fit.design.population) + fit.design.n_effects
    if width > MOST_COEFFICIENTS:
        return None
    mean, deviations, picks = _deviations(fit, seed)
    plain = unit_free_of(fit)
    tree = nesting(design)
    cells = design.cells
    variance = fitted.variance
    covariance_draws = plain.covariance_draws if picks is not None else None
    mixture = fit.theta if isinstance(fit.theta, ThetaMixture) and fit.theta.roots.size <= MOST_VALUES else None
    return SavedModel(
        part=fitted.part,
        formula=formula,
        family=fit.family,
        log_outcome=cells.log_outcome,
        engine=fit.engine,
        interval=fit.interval,
        population=tuple(column.label for column in design.population),
        labels={name: tuple(map(str, labels.values)) for name, labels in cells.labels.items()},
        moments={label: (float(centre), float(sd)) for label, (centre, sd) in moments.items()},
        means=_level_means(formula, cells),
        factors={name: _factor(factor, cells, variance) for name, factor in tree.factors.items()},
        blocks=tuple(block.factor.name for block in design.blocks),
        log_variance=None if variance is None else variance.constant,
        log_variance_error=0.0 if variance is None else variance.mean_error,
        fills=dict(fills),
        mean=mean,
        deviations=deviations,
        covariances=plain.covariances,
        covariance_points=None if fit.theta is None else fit.theta.covariances,
        point_weights=None if fit.theta is None else fit.theta.weights,
        point_means=None if mixture is None else mixture.means,
        point_roots=None if mixture is None else mixture.roots.astype(np.float32),
        covariance_draws=None if covariance_draws is None else tuple(draws[picks].astype(np.float32) for draws in covariance_draws),
        contrasts=_contrasts(design, tree),
        matrix=plain.form.maps.matrix,
        maps=plain.form.maps.blocks,
    )


def unit_free_of(fit: Fit) -> UnitFreeFit:
    """The fit in unit-free coordinates, which its engine always gives."""
    assert fit.unit_free is not None
    return fit.unit_free


def _deviations(fit: Fit, seed: int) -> tuple[Floats, NDArray[np.float32], NDArray[np.int64] | None]:
    """Mean of (beta, b), deviations of the unit-free coefficients (single precision would lose those of coefficients far from zero), and
    which posterior draws they are (None: no posterior draws)."""
    joint, plain, posterior = fit.joint, unit_free_of(fit), posterior_of(fit)
    width = len(joint.mean)
    size = _size(width)
    if posterior is not None:
        picks = posterior.kept(min(size, posterior.n_draws))
        draws = posterior.values[picks]
        mean = draws.mean(axis=0)
        return mean, np.asarray((plain.form.maps.inverse @ (draws - mean).T).T).astype(np.float32), picks
    spread = plain.joint if fit.theta is None else fit.theta.unmapped()
    if isinstance(spread, NormalJoint | ThetaMixture | ThetaExpansion):
        root = spread.covariance_root() if width <= MOST_DRAWS else None
        if root is not None and root.size <= MOST_VALUES:
            return joint.mean, (root * np.sqrt(max(len(root) - 1, 1))).astype(np.float32), None
    draws = (joint if spread is None else spread).draws(size, seed)
    return joint.mean, (draws - draws.mean(axis=0)).astype(np.float32), None


def _size(width: int) -> int:
    return min(MOST_DRAWS, MOST_VALUES // max(width, 1))


def _contrasts(design: Design, tree: Nesting) -> dict[tuple[str, str], csr_array]:
    return {
        (name, term): csr_array(
            add_population(design, deviation_rows(design, tree.lineage(name), term), predictors_of(design, factor, term))
        )
        for name, factor in tree.factors.items()
        for term in terms_of(design, name)
    }


def _factor(factor: Factor, cells: CellStatistics, variance: LevelVariance | None) -> SavedFactor:
    name = factor.name
    return SavedFactor(
        name,
        factor.columns,
        _keys(factor, cells),
        tuple(map(str, factor.levels)),
        None if factor.parents is None else tuple(map(str, factor.parents)),
        () if variance is None else tuple(map(float, variance.effects[name])),
        () if variance is None else tuple(map(float, variance.std_errors[name])),
        0.0 if variance is None else variance.omega[name],
    )


def _keys(factor: Factor, cells: CellStatistics) -> tuple[tuple[str, ...], ...]:
    """Per column of the factor, each level's label there."""
    if len(factor.columns) == 1:
        return (tuple(map(str, factor.levels)),)
    first = first_cell(factor.codes, factor.n_levels)
    labels = [cells.groups[name] for name in factor.columns]
    return tuple(tuple(map(str, label.values[label.codes[first]])) for label in labels)


def _level_means(formula: str, cells: CellStatistics) -> tuple[SavedMeans, ...]:
    found: dict[str, LevelMean] = {}
    for expression in predictor_expressions(parse_formula(formula)):
        if isinstance(expression, Call) and expression.function in {"within", "between"}:
            mean = level_mean_of(expression)
            found[mean.label] = mean
    kept = [mean for mean in found.values() if mean.label in cells.numbers and all(name in cells.groups for name in mean.columns)]
    return tuple(SavedMeans(mean.label, mean.columns, *_mean_by_level(mean, cells)) for mean in kept)


def _mean_by_level(mean: LevelMean, cells: CellStatistics) -> tuple[tuple[tuple[str, ...], ...], tuple[float, ...]]:
    labels = [cells.groups[name] for name in mean.columns]
    _, first = np.unique(np.stack([label.codes for label in labels]), axis=1, return_index=True)
    keys = tuple(tuple(map(str, label.values[label.codes[first]])) for label in labels)
    return keys, tuple(map(float, cells.numbers[mean.label][first]))
