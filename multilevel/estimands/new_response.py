"""Expected response of groups never seen: the group's own effect is unknown, so its mean has a distribution of its own.

``estimate`` is that distribution's mean, b integrated over N(0, Sigma) (z'Sigma z / 2 on a log link, Gauss-Hermite on a logit link), the
interval its quantiles. Effects of levels below the new one are integrated within the mean: a new department's mean is over its categories.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from multilevel.arrays import Floats
from multilevel.estimands.binning import attenuation, draw_in
from multilevel.estimands.new_group_mix import NewMixes, new_effects, shifts_of_groups
from multilevel.families.link import Link
from multilevel.fit.container import Fit, Summary
from multilevel.fit.interval_estimates import from_bounds, moments, summary_of
from multilevel.fit.joint_draws import summary_about
from multilevel.fit.shared_rows import as_csr
from multilevel.fit.theta_spread import turns

_DRAWS = 2_000


def new_response(fit: Fit, response: Link, mixes: NewMixes, seed: int) -> Summary:
    """(M,) expected responses of the new groups."""
    spread = np.tile(mixes.spread, mixes.n_groups)
    rows, factor = as_csr(draw_in(mixes.rows, spread)), attenuation(spread)
    variance = np.asarray(sum(factor**2 * fit.effect_variance(index, mixes.scales(index)) for index in mixes.own))
    inner = sum((factor**2 * fit.effect_variance(index, mixes.scales(index)) for index in mixes.below), np.zeros(rows.shape[0]))
    if response.is_linear and not fit.has_draws:
        return _normal(fit, mixes)
    return _simulated(fit, response, replace(mixes, rows=rows), variance=variance, inner=inner, seed=seed)


def _normal(fit: Fit, mixes: NewMixes) -> Summary:
    found = moments(fit, mixes.rows)
    for index in mixes.own:
        found = found.wider(fit.effect_variances(index, mixes.scales(index)), fit.theta_weights)
    return summary_of(np.asarray(mixes.rows @ fit.joint.mean), found, fit.interval)


def _simulated(fit: Fit, response: Link, mixes: NewMixes, *, variance: Floats, inner: Floats, seed: int) -> Summary:
    rng = np.random.default_rng(seed)
    moved = _inner_by_draw(fit, mixes)
    centres = _Centres(fit, response, mixes, rng, seed)
    effects = {index: new_effects(fit, index, centres.n_draws, rng) for index in mixes.own}
    drawn = attenuation(mixes.spread)[:, None]
    values, estimate = np.empty((mixes.n_groups, centres.n_draws)), np.empty(mixes.n_groups)
    for at in range(mixes.n_groups):
        here = mixes.bins_of(at)
        z = [mixes.scales_of(at, index) @ effects[index].T for index in mixes.own]
        centre = centres.of(at)
        within = inner[here][:, None] if fit.has_draws else moved[here][:, turns(centres.n_draws, fit.theta_weights)]
        values[at] = mixes.weights[at] @ response.average(centre + drawn * np.sum(z, axis=0), within)
        # the posterior mean over all draws, or the value at the estimates
        middle = centre if fit.has_draws else centres.point[here][:, None]
        estimate[at] = np.mean(mixes.weights[at] @ response.average(middle, (variance + inner)[here][:, None]))
    found = summary_about(estimate, values, fit.interval)
    return found if fit.has_draws or not response.is_multiplicative else from_bounds(found, fit.interval)


def _inner_by_draw(fit: Fit, mixes: NewMixes) -> Floats:
    """(M B, T) variance of the effects of levels below the new ones, at each point of theta."""
    factor = attenuation(np.tile(mixes.spread, mixes.n_groups))[:, None]
    none = np.zeros((len(factor), len(fit.theta_weights)))
    return np.asarray(sum((factor**2 * fit.effect_variances(index, mixes.scales(index)) for index in mixes.below), none))


class _Centres:
    """Draws of the linear predictor of a new group's bins, its own effect left out: posterior draws themselves, or the estimates with
    all bins of a group moved together."""

    def __init__(self, fit: Fit, response: Link, mixes: NewMixes, rng: np.random.Generator, seed: int) -> None:
        self.mixes = mixes
        self.point = np.asarray(mixes.rows @ fit.joint.mean)
        self.draws = fit.joint.draws(len(fit.covariance_draws[0]), seed) if fit.covariance_draws is not None else None
        self.n_draws = _DRAWS if self.draws is None else len(self.draws)
        if self.draws is None:
            share = mixes.weights * response.slope(self.point).reshape(mixes.weights.shape)
            self.shifts = shifts_of_groups(fit, mixes.rows, share, _DRAWS, rng)

    def of(self, at: int) -> Floats:
        """(M, S) the draws for the bins of one group."""
        here = self.mixes.bins_of(at)
        if self.draws is not None:
            return np.asarray(self.mixes.rows[here] @ self.draws.T)
        return self.point[here][:, None] + self.shifts[at]
