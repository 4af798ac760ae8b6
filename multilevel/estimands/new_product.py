"""Expected values of groups never seen under a two-part model: the group's effects in both parts are unknown, independently of each other.

``estimate`` integrates both over their distributions, E[p] by Gauss-Hermite and E[mean] by z'Sigma z / 2; the interval is that of the new
group's own mean. Effects of levels below the new one are integrated within the mean.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.estimands.expected_outcome import PartFit
from multilevel.estimands.new_group_mix import NewMixes, new_effects, shifts_of_groups
from multilevel.estimands.two_responses import TwoResponses
from multilevel.fit.container import Summary
from multilevel.fit.interval_estimates import from_bounds
from multilevel.fit.joint_draws import summary_about
from multilevel.fit.theta_spread import turns

_DRAWS = 2_000


def new_product(both: TwoResponses, mixes: NewMixes, seed: int) -> Summary:
    """(M,) expected outcomes of the new groups."""
    rng = np.random.default_rng(seed)
    drawn = both.draws(10**6 if both.has_draws else 1, seed)
    size = len(drawn[0]) if both.has_draws else _DRAWS
    effects = [{index: new_effects(part.fit, index, size, rng) for index in mixes.own} for part in both.parts]
    shifts = None if both.has_draws else _shifts(both, mixes, rng)
    values, estimate = np.empty((mixes.n_groups, size)), np.empty(mixes.n_groups)
    for at in range(mixes.n_groups):
        rows = csr_array(mixes.rows[mixes.bins_of(at)])
        z = {index: mixes.scales_of(at, index) for index in (*mixes.own, *mixes.below)}
        means: list[Floats] = []
        middles: list[Floats] = []
        for place, part in enumerate(both.parts):
            point = np.asarray(rows @ part.fit.joint.mean)[:, None]
            centre = np.asarray(rows @ drawn[place].T) if shifts is None else point + shifts[place][at]
            inner = _variance(part, z, mixes.below)
            within = inner[:, None] if shifts is None else _by_draw(part, z, mixes.below, size)
            moved = centre + sum((z[index] @ effects[place][index].T for index in mixes.own), np.zeros((mixes.n_bins, size)))
            means.append(part.response.average(moved, within))
            # the posterior mean over all draws, or the value at the estimates
            middle = centre if shifts is None else point
            middles.append(part.response.average(middle, (inner + _variance(part, z, mixes.own))[:, None]))
        values[at] = mixes.weights[at] @ (means[0] * means[1])
        estimate[at] = np.mean(mixes.weights[at] @ (middles[0] * middles[1]))
    found = summary_about(estimate, values, both.interval)
    return found if both.has_draws else from_bounds(found, both.interval)


def _variance(part: PartFit, z: dict[int, Floats], blocks: tuple[int, ...]) -> Floats:
    """(M,) z'Sigma z of one part's blocks together."""
    n = len(next(iter(z.values())))
    return sum((part.fit.effect_variance(index, z[index]) for index in blocks), np.zeros(n))


def _by_draw(part: PartFit, z: dict[int, Floats], blocks: tuple[int, ...], size: int) -> Floats:
    """(M, S) the same at the points of theta by turns."""
    none = np.zeros((len(next(iter(z.values()))), len(part.fit.theta_weights)))
    found = np.asarray(sum((part.fit.effect_variances(index, z[index]) for index in blocks), none))
    return found[:, turns(size, part.fit.theta_weights)]


def _shifts(both: TwoResponses, mixes: NewMixes, rng: np.random.Generator) -> list[Floats]:
    """Per part (M, S): how far the bins of each new group move together."""
    slopes = both.slopes(*both.means((mixes.rows, mixes.rows)))
    shares = [mixes.weights * slope.reshape(mixes.weights.shape) for slope in slopes]
    return [shifts_of_groups(part.fit, mixes.rows, share, _DRAWS, rng) for part, share in zip(both.parts, shares, strict=True)]
