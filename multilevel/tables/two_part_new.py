"""Expected values of groups never seen under a two-part model: the group's effects in both parts are unknown, independently of each other.

``estimate`` integrates both over their distributions, E[p] by Gauss-Hermite and E[mean] by z'Sigma z / 2; the interval is that of the new
group's own mean. Effects of levels below the new one are integrated within the mean.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from multilevel.cells import Floats
from multilevel.fit import Fit, Summary
from multilevel.joint import square_root
from multilevel.joint_draws import DrawsJoint
from multilevel.tables.nesting import Nesting
from multilevel.tables.new_groups import parent_averages
from multilevel.tables.new_levels import NewLevels
from multilevel.tables.sides import averaging, pair_rows, scales
from multilevel.tables.standardise import Standardisation
from multilevel.tables.two_part import Part, TwoPartFit

_DRAWS = 2_000


def new_two_part_estimates(both: TwoPartFit, standard: Standardisation, tree: Nesting, name: str, new: NewLevels, seed: int) -> Summary:
    """(M,) expected outcomes of the new levels of factor ``name``."""
    blocks = both.design.blocks
    parents = parent_averages(standard, tree, name, new)
    common = averaging(standard.common.codes, standard.common.n_bins, both.design.cells.common_weight)
    below = [index for index, block in enumerate(blocks) if name in tree.ancestors[block.factor.name]]
    own = [index for index, block in enumerate(blocks) if block.factor.name == name]
    rows = pair_rows(standard.sides, [parents, common], frozenset(below + own))
    own_variance = np.asarray(parents @ standard.own_variance[standard.own.codes])
    weights = standard.common.weight * standard.common.ratio * np.exp(np.outer(own_variance, standard.common_variance) / 2.0)
    rng = np.random.default_rng(seed)
    drawn = both.draws(10**6 if both.is_bayesian else 1, seed)
    size = len(drawn[0]) if both.is_bayesian else _DRAWS
    effects = [{index: _effects(part.fit, index, size, rng) for index in own} for part in both.parts]
    shifts = None if both.is_bayesian else _shifts(both, rows, weights, rng)
    n_common = standard.common.n_bins
    values, estimate = np.empty((len(new), size)), np.empty(len(new))
    for at in range(len(new)):
        here = slice(at * n_common, (at + 1) * n_common)
        z = {index: scales(standard.sides, [csr_array(parents[[at]]), common], index) for index in (*own, *below)}
        means: list[Floats] = []
        middles: list[Floats] = []
        for place, part in enumerate(both.parts):
            point = np.asarray(rows[here] @ part.fit.joint.mean)[:, None]
            centre = np.asarray(rows[here] @ drawn[place].T) if shifts is None else point + shifts[place][at]
            inner = _variance(part, z, below)
            moved = centre + sum((z[index] @ effects[place][index].T for index in own), np.zeros((n_common, size)))
            means.append(part.response.average(moved, inner[:, None]))
            # the posterior mean over all draws, or the value at the estimates
            middle = centre if shifts is None else point
            middles.append(part.response.average(middle, (inner + _variance(part, z, own))[:, None]))
        values[at] = weights[at] @ (means[0] * means[1])
        estimate[at] = np.mean(weights[at] @ (middles[0] * middles[1]))
    tail = (1.0 - both.interval) / 2.0
    lower, upper = np.quantile(values, [tail, 1.0 - tail], axis=1)
    return Summary(estimate, values.std(axis=1, ddof=1), lower, upper)


def _variance(part: Part, z: dict[int, Floats], blocks: list[int]) -> Floats:
    """(M,) z'Sigma z of one part's blocks together."""
    n = len(next(iter(z.values())))
    return sum((np.einsum("ri,ij,rj->r", z[index], part.fit.covariances[index], z[index]) for index in blocks), np.zeros(n))


def _effects(fit: Fit, block: int, size: int, rng: np.random.Generator) -> Floats:
    """(S, k) draws of b ~ N(0, Sigma), each with the draw's own Sigma where there are draws."""
    noise = rng.standard_normal((size, len(fit.covariances[block])))
    noise = noise - noise.mean(axis=0)
    if fit.covariance_draws is None or not isinstance(fit.joint, DrawsJoint):
        return noise @ square_root(fit.covariances[block]).T
    return np.asarray(np.einsum("sij,sj->si", square_root(fit.covariance_draws[block][fit.joint.kept(size)]), noise))


def _shifts(both: TwoPartFit, rows: csr_array, weights: Floats, rng: np.random.Generator) -> list[Floats]:
    """Per part (M, S): how far the bins of each new group move together, by the standard error of their average linear predictor."""
    group = np.repeat(np.arange(len(weights)), weights.shape[1])
    first, second = both.means(rows)
    slopes = (
        both.occurrence.response.slope(first) * both.amount.response.mean(second),
        both.occurrence.response.mean(first) * both.amount.response.slope(second),
    )
    found = []
    for part, slope in zip(both.parts, slopes, strict=True):
        share = weights.ravel() * slope
        share = share / np.bincount(group, share)[group]
        average = csr_array((share, (group, np.arange(len(group)))), shape=(len(weights), len(group)))
        error = part.fit.joint.combine(csr_array(average @ rows), both.interval).std_error
        found.append(error[:, None] * rng.standard_normal(_DRAWS))
    return found
