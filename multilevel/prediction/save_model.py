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
from multilevel.errors import FitError
from multilevel.estimands.fitted_part import FittedPart
from multilevel.estimands.level_variance import LevelVariance
from multilevel.fit.arrow_form import ArrowForm
from multilevel.fit.container import Fit, UnitFreeFit
from multilevel.fit.drawn_fit import drawn_fit
from multilevel.fit.joint_draws import posterior_of
from multilevel.fit.theta_points import ThetaPoints
from multilevel.fit.theta_spread import ThetaExpansion, ThetaMixture
from multilevel.formula.columns import predictor_expressions
from multilevel.formula.parse import parse_formula
from multilevel.formula.tree import Call
from multilevel.linear.joint_arrow import arrow_form
from multilevel.linear.joint_normal import NormalJoint
from multilevel.prediction.points_as_arrow import points_as_arrow
from multilevel.prediction.saved_joint import KeptArrow, KeptDeviations, KeptMixture, SavedJoint
from multilevel.prediction.saved_model import SavedFactor, SavedMeans, SavedModel

MOST_DRAWS = 2_000
FEWEST_DRAWS = 400
MOST_VALUES = 4_000_000
"""Draws times coefficients that are kept of a model of a few thousand of them, and of the roots at all points of theta."""

MOST_DRAWN = 160_000
"""Coefficients of which draws are kept: ``FEWEST_DRAWS`` of each, a file of 256 MB."""

MOST_CORE = 5_500
"""Coefficients whose covariances are kept each with every other: a file of 242 MB. Those of the eliminated factors are not among them."""


def save_model(
    fitted: FittedPart,
    formula: str,
    *,
    moments: Mapping[str, tuple[float, float]],
    fills: Mapping[str, float],
) -> SavedModel | None:
    """What is kept of a fit; None where ``unkept`` says why not.

    Parameters
    ----------
    formula : the text that the design was built from. moments : of ``center()`` and ``scale()``, as in ``Schema``.
    fills : column -> mean, of columns whose missing values were filled in.
    """
    if unkept(fitted.fit) is not None:
        return None
    fit, design = drawn_fit(fitted.fit) if _becomes_draws(fitted.fit) else fitted.fit, fitted.design
    plain = unit_free_of(fit)
    mean, joint, picks = _posterior(fit) if fit.has_draws else (fit.joint.mean, _normal(fit), None)
    tree = nesting(design)
    cells = design.cells
    variance = fitted.variance
    covariance_draws = plain.covariance_draws if picks is not None else None
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
        terms=tuple(tuple(column.label for column in block.columns) for block in design.blocks),
        scale=_scale(fit),
        log_scale_error=_log_scale_error(fit),
        scale_draws=None if picks is None else _scale_draws(fit, picks),
        log_variance=None if variance is None else variance.constant,
        log_variance_error=0.0 if variance is None else variance.mean_error,
        fills=dict(fills),
        mean=mean,
        joint=joint,
        covariances=plain.covariances,
        covariance_points=None if fit.theta is None else fit.theta.covariances,
        point_weights=None if fit.theta is None else fit.theta.weights,
        covariance_draws=None if covariance_draws is None else tuple(draws[picks].astype(np.float32) for draws in covariance_draws),
        contrasts=_contrasts(design, tree),
        population_map=plain.form.maps.population,
        maps=plain.form.maps.blocks,
    )


def unit_free_of(fit: Fit) -> UnitFreeFit:
    """The fit in unit-free coordinates, which its engine always gives."""
    assert fit.unit_free is not None
    return fit.unit_free


def unkept(fit: Fit) -> str | None:
    """Why nothing is kept of a fit, as the end of a sentence about it; None where it is kept."""
    width = len(fit.design.population) + fit.design.n_effects
    if fit.has_draws and width > MOST_DRAWN:
        return f"it has draws of more than {MOST_DRAWN:,} coefficients"
    form = _normal_of(fit)
    if form is not None and form.factor.system.rest_starts[-1] + form.factor.system.n_population > MOST_CORE:
        return f"more than {MOST_CORE:,} coefficients are of factors that cross the largest one"
    return None


def _becomes_draws(fit: Fit) -> bool:
    """Whether a posterior without draws has too many numbers at its points of theta, and is kept as draws. Of very many coefficients those
    would be too many too: it is kept as one normal distribution (``points_as_arrow``)."""
    if fit.has_draws or not fit.is_posterior or fit.theta is None:
        return False
    spread = fit.theta.unmapped()
    if isinstance(spread, ThetaPoints) and len(spread.variance) > MOST_DRAWN:
        return False
    return not (isinstance(spread, ThetaMixture) and spread.roots.size <= MOST_VALUES)


def _normal_of(fit: Fit) -> NormalJoint | None:
    spread = unit_free_of(fit).joint if fit.theta is None else fit.theta.unmapped()
    if isinstance(spread, ThetaPoints):
        inner: object = None if _becomes_draws(fit) else spread.conditional(spread.central)
    else:
        inner = spread.inner if isinstance(spread, ThetaExpansion) else spread
    return inner if isinstance(inner, NormalJoint) else None


def _posterior(fit: Fit) -> tuple[Floats, SavedJoint, NDArray[np.int64] | None]:
    """Mean of (beta, b), deviations of the unit-free coefficients (single precision would lose those of coefficients far from zero), and
    which posterior draws they are."""
    posterior, maps = posterior_of(fit), unit_free_of(fit).form.maps
    assert posterior is not None
    picks = posterior.kept(min(_size(posterior.values.shape[1]), posterior.n_draws))
    draws = posterior.values[picks]
    mean = draws.mean(axis=0)
    deviations = np.asarray((maps.inverse @ (draws - mean).T).T).astype(np.float32)
    return mean, KeptDeviations(deviations, maps.matrix, True), picks


def _normal(fit: Fit) -> SavedJoint:
    """The distribution of a fit without draws: with theta's uncertainty where the fit knows it."""
    plain, maps = unit_free_of(fit), unit_free_of(fit).form.maps
    spread = plain.joint if fit.theta is None else fit.theta.unmapped()
    if isinstance(spread, NormalJoint):
        return KeptArrow(arrow_form(spread), spread.mean, np.zeros((len(spread.mean), 0)), maps.matrix)
    if isinstance(spread, ThetaExpansion) and isinstance(spread.inner, NormalJoint):
        return KeptArrow(arrow_form(spread.inner), spread.centre, spread.directions, maps.matrix)
    if isinstance(spread, ThetaPoints):
        return points_as_arrow(spread, maps.matrix)
    if isinstance(spread, ThetaMixture) and spread.roots.size <= MOST_VALUES:
        return KeptMixture(spread.mapped(maps.matrix))
    assert plain.joint is not None
    if isinstance(spread, ThetaMixture):
        root, width = spread.covariance_root(), spread.means.shape[1]
        form = ArrowForm(width, (), np.arange(width), root.T @ root)
        return KeptArrow(form, plain.joint.mean, np.zeros((width, 0)), maps.matrix)
    raise FitError("This fit's joint distribution cannot be kept: it is neither normal nor draws.")


def _scale(fit: Fit) -> float | None:
    return fit.sigma if fit.dispersion is None else fit.dispersion


def _log_scale_error(fit: Fit) -> float:
    """Of log sigma or log dispersion: over the points of theta of a posterior; of the likelihood engine the last of its parameters, where
    there is one."""
    plain = unit_free_of(fit)
    if fit.is_posterior and isinstance(fit.theta, ThetaPoints | ThetaMixture) and fit.theta.scales is not None:
        logs = np.log(fit.theta.scales)
        return float(np.sqrt(fit.theta.weights @ (logs - fit.theta.weights @ logs) ** 2))
    parameters = plain.parameters
    sizes = [len(own) * (len(own) + 1) // 2 for own in plain.covariances]
    if parameters is None or len(parameters.values) <= sum(sizes):
        return 0.0
    variance = float(parameters.covariance[-1, -1])
    return float(np.sqrt(variance)) if np.isfinite(variance) and variance > 0 else 0.0


def _scale_draws(fit: Fit, picks: NDArray[np.int64]) -> NDArray[np.float32] | None:
    draws = fit.sigma_draws if fit.dispersion_draws is None else fit.dispersion_draws
    return None if draws is None else draws[picks].astype(np.float32)


def _size(width: int) -> int:
    return int(np.clip(MOST_VALUES // max(width, 1), FEWEST_DRAWS, MOST_DRAWS))


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
