"""Expected values of groups never seen under a two-part model: the group's effects in both parts are unknown, independently of each other.

``estimate`` integrates both over their distributions, E[p] by Gauss-Hermite and E[mean] by z'Sigma z / 2; the interval is that of the new
group's own mean. Effects of levels below the new one are integrated within the mean.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.design.nesting import Nesting
from multilevel.estimands.mix_parts import scales
from multilevel.estimands.new_group_mix import NewMixes, new_effects, new_mixes, shifts_of_groups
from multilevel.estimands.new_levels import NewLevels
from multilevel.estimands.product import PartFit, TwoPartFit
from multilevel.estimands.standardise import Standardisation
from multilevel.fit.container import Summary
from multilevel.fit.joint_draws import summary_about

_DRAWS = 2_000


def new_two_part_estimates(both: TwoPartFit, standard: Standardisation, tree: Nesting, name: str, new: NewLevels, seed: int) -> Summary:
    """(M,) expected outcomes of the new levels of factor ``name``."""
    mixes = new_mixes(standard, tree, name, new)
    rng = np.random.default_rng(seed)
    drawn = both.draws(10**6 if both.is_bayesian else 1, seed)
    size = len(drawn[0]) if both.is_bayesian else _DRAWS
    effects = [{index: new_effects(part.fit, index, size, rng) for index in mixes.own} for part in both.parts]
    shifts = None if both.is_bayesian else _shifts(both, mixes, rng)
    n_common = standard.common.n_bins
    values, estimate = np.empty((len(new), size)), np.empty(len(new))
    for at in range(len(new)):
        rows = csr_array(mixes.rows[at * n_common : (at + 1) * n_common])
        averages = [csr_array(mixes.parents[[at]]), mixes.common]
        z = {index: scales(standard.sides, averages, index) for index in (*mixes.own, *mixes.below)}
        means: list[Floats] = []
        middles: list[Floats] = []
        for place, part in enumerate(both.parts):
            point = np.asarray(rows @ part.fit.joint.mean)[:, None]
            centre = np.asarray(rows @ drawn[place].T) if shifts is None else point + shifts[place][at]
            inner = _variance(part, z, mixes.below)
            moved = centre + sum((z[index] @ effects[place][index].T for index in mixes.own), np.zeros((n_common, size)))
            means.append(part.response.average(moved, inner[:, None]))
            # the posterior mean over all draws, or the value at the estimates
            middle = centre if shifts is None else point
            middles.append(part.response.average(middle, (inner + _variance(part, z, mixes.own))[:, None]))
        values[at] = mixes.weights[at] @ (means[0] * means[1])
        estimate[at] = np.mean(mixes.weights[at] @ (middles[0] * middles[1]))
    return summary_about(estimate, values, both.interval)


def _variance(part: PartFit, z: dict[int, Floats], blocks: tuple[int, ...]) -> Floats:
    """(M,) z'Sigma z of one part's blocks together."""
    n = len(next(iter(z.values())))
    return sum((part.fit.effect_variance(index, z[index]) for index in blocks), np.zeros(n))


def _shifts(both: TwoPartFit, mixes: NewMixes, rng: np.random.Generator) -> list[Floats]:
    """Per part (M, S): how far the bins of each new group move together."""
    slopes = both.slopes(*both.means(mixes.rows))
    shares = [mixes.weights * slope.reshape(mixes.weights.shape) for slope in slopes]
    return [shifts_of_groups(part.fit, mixes.rows, share, _DRAWS, rng) for part, share in zip(both.parts, shares, strict=True)]
