"""Expected outcomes of groups never seen: the group's own effect is unknown, so its mean has a distribution of its own.

``estimate`` is that distribution's mean, b integrated over N(0, Sigma) (z'Sigma z / 2 on a log link, Gauss-Hermite on a logit link), the
interval its quantiles. Effects of levels below the new one are integrated within the mean: a new department's mean is over its categories.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from multilevel.cells import Floats
from multilevel.fit import Fit, Summary
from multilevel.joint import square_root
from multilevel.tables.binning import attenuation, draw_in
from multilevel.tables.nesting import Nesting
from multilevel.tables.new_levels import NewLevels
from multilevel.tables.sides import averaging, pair_rows, scales
from multilevel.tables.standardise import Standardisation

_DRAWS = 2_000


def new_group_estimates(standard: Standardisation, nesting: Nesting, name: str, new: NewLevels, seed: int) -> tuple[Summary, csr_array]:
    """(M,) expected outcomes of the new levels of factor ``name``, and the (M, p + q) rows they start from (for complete pooling)."""
    fit = standard.fit
    parents = parent_averages(standard, nesting, name, new)
    common = averaging(standard.common.codes, standard.common.n_bins, fit.design.cells.common_weight)
    below = [index for index, block in enumerate(fit.design.blocks) if name in nesting.ancestors[block.factor.name]]
    own = [index for index, block in enumerate(fit.design.blocks) if block.factor.name == name]
    rows = pair_rows(standard.sides, [parents, common], frozenset(below + own))
    factor = np.tile(attenuation(standard.common.spread), len(new))
    rows = draw_in(rows, np.tile(standard.common.spread, len(new)))
    reach = [factor**2 * _z_sigma_z(standard, parents, common, index) for index in own]
    inner = sum((factor**2 * _z_sigma_z(standard, parents, common, index) for index in below), np.zeros(rows.shape[0]))
    weights = standard.common.weight * standard.common.ratio
    weights = weights * np.exp(np.outer(np.asarray(parents @ _own_variance(standard)), standard.common_variance) / 2.0)
    if standard.response.is_linear and fit.covariance_draws is None:
        return _normal(fit, rows, np.asarray(sum(reach))), rows
    return _simulated(
        standard, rows, weights, own, variance=np.asarray(sum(reach)), inner=np.asarray(inner), averages=(parents, common), seed=seed
    ), rows


def _own_variance(standard: Standardisation) -> Floats:
    """(C,) the own part of sigma^2 of each cell's own bin."""
    return standard.own_variance[standard.own.codes]


def parent_averages(standard: Standardisation, nesting: Nesting, name: str, new: NewLevels) -> csr_array:
    """(M, C) the mix of each new level: its parent's, or everyone's."""
    cells = standard.fit.design.cells
    n = cells.n.astype(float)
    factor = nesting.factors[name]
    if factor.parents is None:
        everyone = csr_array((n / n.sum()).reshape(1, -1))
        return csr_array(everyone[np.zeros(len(new), dtype=np.int64)])
    _, group = np.unique(factor.parents.astype(str), return_inverse=True)
    average = averaging(group[factor.codes], int(group.max()) + 1, n)
    return csr_array(average[group[new.sibling]])


def _z_sigma_z(standard: Standardisation, parents: csr_array, common: csr_array, block: int) -> Floats:
    z = scales(standard.sides, [parents, common], block)
    return np.asarray(np.einsum("ri,ij,rj->r", z, standard.fit.covariances[block], z))


def _normal(fit: Fit, rows: csr_array, variance: Floats) -> Summary:
    base = fit.joint.combine(rows, fit.interval)
    std_error = np.sqrt(base.std_error**2 + variance)
    half = ndtri(0.5 + fit.interval / 2.0) * std_error
    return Summary(base.estimate, std_error, base.estimate - half, base.estimate + half)


def _simulated(
    standard: Standardisation,
    rows: csr_array,
    weights: Floats,
    own: list[int],
    *,
    variance: Floats,
    inner: Floats,
    averages: tuple[csr_array, csr_array],
    seed: int,
) -> Summary:
    fit, response = standard.fit, standard.response
    n_common = standard.common.n_bins
    n_new = rows.shape[0] // n_common
    rng = np.random.default_rng(seed)
    centres = _Centres(standard, rows, weights, rng, seed)
    effects = {index: _new_effects(fit, index, centres.n_draws, rng) for index in own}
    drawn = attenuation(standard.common.spread)[:, None]
    values = np.empty((n_new, centres.n_draws))
    estimate = np.empty(n_new)
    for at in range(n_new):
        here = slice(at * n_common, (at + 1) * n_common)
        z = [scales(standard.sides, [averages[0][[at]], averages[1]], index) @ effects[index].T for index in own]
        centre = centres.of(at)
        values[at] = weights[at] @ response.average(centre + drawn * np.sum(z, axis=0), inner[here][:, None])
        # the posterior mean over all draws, or the value at the estimates
        middle = centre if fit.engine == "bayesian" else centres.point[here][:, None]
        estimate[at] = np.mean(weights[at] @ response.average(middle, (variance + inner)[here][:, None]))
    tail = (1.0 - fit.interval) / 2.0
    lower, upper = np.quantile(values, [tail, 1.0 - tail], axis=1)
    return Summary(estimate, values.std(axis=1, ddof=1), lower, upper)


class _Centres:
    """Draws of the linear predictor of a new group's bins, its own effect left out.

    With posterior draws these are the draws themselves. The likelihood engine's normal approximation moves all bins of a group together, by
    the standard error of their average: what is unknown of the coefficients is small beside the new effect, and joint draws of a million
    effects would not fit into memory.
    """

    def __init__(self, standard: Standardisation, rows: csr_array, weights: Floats, rng: np.random.Generator, seed: int) -> None:
        fit = standard.fit
        self.n_common = standard.common.n_bins
        self.rows = rows
        self.point = np.asarray(rows @ fit.joint.mean)
        self.draws = fit.joint.draws(len(fit.covariance_draws[0]), seed) if fit.covariance_draws is not None else None
        self.n_draws = _DRAWS if self.draws is None else len(self.draws)
        if self.draws is None:
            share = weights.ravel() * standard.response.slope(self.point)
            group = np.repeat(np.arange(len(weights)), self.n_common)
            share = share / np.bincount(group, share)[group]
            averages = csr_array((share, (group, np.arange(len(group)))), shape=(len(weights), len(group)))
            error = fit.joint.combine(csr_array(averages @ rows), fit.interval).std_error
            self.shifts = error[:, None] * rng.standard_normal(_DRAWS)

    def of(self, at: int) -> Floats:
        """(M, S) the draws for the bins of one group."""
        here = slice(at * self.n_common, (at + 1) * self.n_common)
        if self.draws is not None:
            return np.asarray(self.rows[here] @ self.draws.T)
        return self.point[here][:, None] + self.shifts[at]


def _new_effects(fit: Fit, block: int, size: int, rng: np.random.Generator) -> Floats:
    """(S, k) draws of b ~ N(0, Sigma), with each draw's own Sigma where the engine keeps them."""
    covariance = fit.covariances[block]
    noise = rng.standard_normal((size, len(covariance)))
    noise = noise - noise.mean(axis=0)
    if fit.covariance_draws is None:
        return noise @ square_root(covariance).T
    return np.asarray(np.einsum("sij,sj->si", square_root(fit.covariance_draws[block]), noise))
