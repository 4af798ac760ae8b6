"""R^2 and pooling factor at each level of a multilevel model (Gelman and Pardoe 2006, eqs. 1 and 2).

R^2 = 1 - E[V(epsilon)] / E[V(theta)] and lambda = 1 - V(E[epsilon]) / E[V(epsilon)], V the variance over the level's units (divisor J - 1).
theta is a coefficient with its group-level predictors, epsilon its error term (b). The expectations are over the joint distribution of
beta and b in both engines: posterior means, or V at the estimates plus the mean over levels of Var(e_j - e_bar), the coefficients of a
predictor and the effects that it explains being correlated. At the level of the data E[V(epsilon)] is sigma^2, which is
what (RE)ML sets it to (the EM stationarity condition, Laird and Ware 1982).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.design.effect_rows import add_population, effect_places
from multilevel.design.group_predictors import predictors_of
from multilevel.design.model import DesignColumn
from multilevel.fit.container import Fit
from multilevel.fit.one_pass import together
from multilevel.fit.residuals import cell_residual_ss, outcome_variance
from multilevel.fit.shared_rows import mean_row
from multilevel.fit.theta_points import ThetaPoints

_DRAWS = 2_000

NOTHING = 1e-14
"""A variance of effects up to here, on their own scale, is rounding."""

_CHUNK_VALUES = 8_000_000

MANY_LEVELS = 1_000
"""From so many levels a few points of a posterior that is kept so tell their mean variance."""


@dataclass(frozen=True)
class ExplainedVariance:
    """``r_squared`` is None where the term has no group-level predictor; both are None where there is no variance to speak of."""

    r_squared: float | None
    pooling_factor: float | None


def explained_variance(fit: Fit, block: int, column: int) -> ExplainedVariance:
    """R^2 and pooling factor of one term of one block."""
    factor, term = fit.design.blocks[block].factor, fit.design.blocks[block].columns[column].label
    places = effect_places(fit.design, block, column, np.arange(factor.n_levels))
    predictors = predictors_of(fit.design, factor, term)
    errors = fit.joint.mean[places]
    predicted = sum((fit.joint.mean[place] * values for place, values in predictors.items()), np.zeros(factor.n_levels))
    if fit.has_draws:
        expected_error, expected_total = _from_draws(fit, places, predictors)
    else:
        n, width = len(places), len(fit.joint.mean)
        effects = csr_array((np.ones(n), (np.arange(n), places)), shape=(n, width))
        # what all levels share drops out, and far from zero would cost all digits
        centred = {place: values - values.mean() for place, values in predictors.items()}
        rows = [effects, *([add_population(fit.design, effects, centred)] if predictors else [])]
        spreads = together([partial(_spread, fit, own) for own in rows])
        expected_error = float(np.var(errors, ddof=1)) + spreads[0]
        expected_total = float(np.var(errors + predicted, ddof=1)) + spreads[-1]
    r_squared = 1.0 - expected_error / expected_total if predictors and expected_total > 0 else None
    is_positive = expected_error > NOTHING * _unit(fit, fit.design.blocks[block].columns[column]) ** 2
    pooling = 1.0 - float(np.var(errors, ddof=1)) / expected_error if is_positive else None
    return ExplainedVariance(r_squared, pooling)


def _spread(fit: Fit, rows: csr_array) -> float:
    """Mean of Var(x_j - x_bar) over the J - 1, x = ``rows @ (beta, b)``."""
    n, centre = rows.shape[0], mean_row(rows)
    if n < 2:
        return 0.0
    if isinstance(fit.theta, ThetaPoints) and n > MANY_LEVELS:
        spread = fit.theta.spread_about(rows, centre, few=True)
    else:
        spread = fit.joint.spread_about(rows, centre)
    return float(np.sum(spread**2)) / (n - 1)


def explained_variance_of_data(fit: Fit) -> ExplainedVariance:
    """R^2 and pooling factor at the level of the line items; gaussian with an estimated sigma only, else both None."""
    if fit.sigma is None or fit.design.cells.known_sigma:
        return ExplainedVariance(None, None)
    expected_error = fit.sigma**2 if fit.sigma_draws is None else float(np.mean(fit.sigma_draws**2))
    outcome = outcome_variance(fit.design)
    fitted_error = float(cell_residual_ss(fit.design, fit.joint.mean).sum() / (fit.design.cells.n.sum() - 1))
    if expected_error <= 0 or outcome <= 0:
        return ExplainedVariance(None, None)
    return ExplainedVariance(1.0 - expected_error / outcome, 1.0 - fitted_error / expected_error)


def _from_draws(fit: Fit, places: Integers, predictors: dict[int, Floats]) -> tuple[float, float]:
    draws = fit.joint.draws(_DRAWS, 0)
    step = max(1, _CHUNK_VALUES // len(places))
    error, total = [], []
    for at in range(0, len(draws), step):
        part = draws[at : at + step]
        errors = part[:, places]
        predicted = sum((part[:, [place]] * values for place, values in predictors.items()), np.zeros((1, len(places))))
        error.append(np.var(errors, axis=1, ddof=1))
        total.append(np.var(errors + predicted, axis=1, ddof=1))
    return float(np.concatenate(error).mean()), float(np.concatenate(total).mean())


def _unit(fit: Fit, column: DesignColumn) -> float:
    """The scale of an effect: the outcome's sd (1 on a link scale) for one sd of each number in the column."""
    outcome = math.sqrt(outcome_variance(fit.design)) if fit.design.cells.has_moments else 1.0
    units = {} if fit.unit_free is None else fit.unit_free.form.units
    return outcome / math.prod(units[label][1] for label in column.numbers if label in units)
