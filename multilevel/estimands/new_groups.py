"""Expected outcomes of groups never seen: the group's own effect is unknown, so its mean has a distribution of its own.

``estimate`` is that distribution's mean, b integrated over N(0, Sigma) (z'Sigma z / 2 on a log link, Gauss-Hermite on a logit link), the
interval its quantiles. Effects of levels below the new one are integrated within the mean: a new department's mean is over its categories.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from multilevel.arrays import Floats
from multilevel.design.nesting import Nesting
from multilevel.estimands.binning import attenuation, draw_in
from multilevel.estimands.mix_parts import scales
from multilevel.estimands.new_group_mix import NewMixes, new_effects, new_mixes, shifts_of_groups
from multilevel.estimands.new_levels import NewLevels
from multilevel.estimands.standardise import Standardisation
from multilevel.fit.container import Fit, Summary
from multilevel.fit.joint_draws import summary_about

_DRAWS = 2_000


def new_group_estimates(standard: Standardisation, nesting: Nesting, name: str, new: NewLevels, seed: int) -> Summary:
    """(M,) expected outcomes of the new levels of factor ``name``."""
    fit, mixes = standard.fit, new_mixes(standard, nesting, name, new)
    spread = np.tile(standard.common.spread, len(new))
    rows, factor = draw_in(mixes.rows, spread), attenuation(spread)
    variance = np.asarray(sum(factor**2 * _z_sigma_z(standard, mixes, index) for index in mixes.own))
    inner = sum((factor**2 * _z_sigma_z(standard, mixes, index) for index in mixes.below), np.zeros(rows.shape[0]))
    if standard.response.is_linear and fit.covariance_draws is None:
        return _normal(fit, rows, variance)
    return _simulated(standard, replace(mixes, rows=rows), variance=variance, inner=inner, seed=seed)


def _z_sigma_z(standard: Standardisation, mixes: NewMixes, block: int) -> Floats:
    z = scales(standard.sides, [mixes.parents, mixes.common], block)
    return standard.fit.effect_variance(block, z)


def _normal(fit: Fit, rows: csr_array, variance: Floats) -> Summary:
    base = fit.joint.combine(rows, fit.interval)
    std_error = np.sqrt(base.std_error**2 + variance)
    half = ndtri(0.5 + fit.interval / 2.0) * std_error
    return Summary(base.estimate, std_error, base.estimate - half, base.estimate + half)


def _simulated(standard: Standardisation, mixes: NewMixes, *, variance: Floats, inner: Floats, seed: int) -> Summary:
    fit, response, n_common = standard.fit, standard.response, standard.common.n_bins
    n_new = len(mixes.weights)
    rng = np.random.default_rng(seed)
    centres = _Centres(standard, mixes, rng, seed)
    effects = {index: new_effects(fit, index, centres.n_draws, rng) for index in mixes.own}
    drawn = attenuation(standard.common.spread)[:, None]
    values, estimate = np.empty((n_new, centres.n_draws)), np.empty(n_new)
    for at in range(n_new):
        here = slice(at * n_common, (at + 1) * n_common)
        z = [scales(standard.sides, [csr_array(mixes.parents[[at]]), mixes.common], index) @ effects[index].T for index in mixes.own]
        centre = centres.of(at)
        values[at] = mixes.weights[at] @ response.average(centre + drawn * np.sum(z, axis=0), inner[here][:, None])
        # the posterior mean over all draws, or the value at the estimates
        middle = centre if fit.has_draws else centres.point[here][:, None]
        estimate[at] = np.mean(mixes.weights[at] @ response.average(middle, (variance + inner)[here][:, None]))
    return summary_about(estimate, values, fit.interval)


class _Centres:
    """Draws of the linear predictor of a new group's bins, its own effect left out: posterior draws themselves, or the estimates with
    all bins of a group moved together."""

    def __init__(self, standard: Standardisation, mixes: NewMixes, rng: np.random.Generator, seed: int) -> None:
        fit = standard.fit
        self.n_common = standard.common.n_bins
        self.rows = mixes.rows
        self.point = np.asarray(mixes.rows @ fit.joint.mean)
        self.draws = fit.joint.draws(len(fit.covariance_draws[0]), seed) if fit.covariance_draws is not None else None
        self.n_draws = _DRAWS if self.draws is None else len(self.draws)
        if self.draws is None:
            share = mixes.weights * standard.response.slope(self.point).reshape(mixes.weights.shape)
            self.shifts = shifts_of_groups(fit, mixes.rows, share, _DRAWS, rng)

    def of(self, at: int) -> Floats:
        """(M, S) the draws for the bins of one group."""
        here = slice(at * self.n_common, (at + 1) * self.n_common)
        if self.draws is not None:
            return np.asarray(self.rows[here] @ self.draws.T)
        return self.point[here][:, None] + self.shifts[at]
