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
from multilevel.tables.nesting import Nesting
from multilevel.tables.new_levels import NewLevels
from multilevel.tables.sides import averaging, pair_rows, scales
from multilevel.tables.standardise import Standardisation, attenuation, draw_in

_DRAWS = 2_000
_CHUNK_VALUES = 8_000_000


def new_group_estimates(standard: Standardisation, nesting: Nesting, name: str, new: NewLevels, seed: int) -> tuple[Summary, csr_array]:
    """(M,) expected outcomes of the new levels of factor ``name``, and the (M, p + q) rows they start from (for complete pooling)."""
    fit = standard.fit
    parents = _parent_averages(standard, nesting, name, new)
    common = averaging(standard.common.codes, standard.common.n_bins, fit.design.cells.n.astype(float))
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


def _parent_averages(standard: Standardisation, nesting: Nesting, name: str, new: NewLevels) -> csr_array:
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
    draws = fit.joint.draws(len(fit.covariance_draws[0]) if fit.covariance_draws else _DRAWS, seed)
    effects = {index: _new_effects(fit, index, len(draws), rng) for index in own}
    drawn = attenuation(standard.common.spread)[:, None]
    values = np.empty((n_new, len(draws)))
    expected = np.empty((n_new, len(draws)))
    for at in range(n_new):
        here = slice(at * n_common, (at + 1) * n_common)
        centre = np.asarray(rows[here] @ draws.T)
        z = [scales(standard.sides, [averages[0][[at]], averages[1]], index) @ effects[index].T for index in own]
        shift = drawn * np.sum(z, axis=0)
        values[at] = weights[at] @ response.average(centre + shift, inner[here][:, None])
        if fit.engine == "bayesian":
            expected[at] = weights[at] @ response.average(centre, (variance + inner)[here][:, None])
    tail = (1.0 - fit.interval) / 2.0
    lower, upper = np.quantile(values, [tail, 1.0 - tail], axis=1)
    if fit.engine == "bayesian":
        estimate = expected.mean(axis=1)
    else:
        point = response.average(np.asarray(rows @ fit.joint.mean), variance + inner)
        estimate = np.sum(weights * point.reshape(n_new, n_common), axis=1)
    return Summary(np.asarray(estimate), values.std(axis=1, ddof=1), lower, upper)


def _new_effects(fit: Fit, block: int, size: int, rng: np.random.Generator) -> Floats:
    """(S, k) draws of b ~ N(0, Sigma), with each draw's own Sigma where the engine keeps them."""
    covariance = fit.covariances[block]
    noise = rng.standard_normal((size, len(covariance)))
    noise = noise - noise.mean(axis=0)
    if fit.covariance_draws is None:
        return noise @ _root(covariance).T
    return np.asarray(np.einsum("sij,sj->si", _root(fit.covariance_draws[block]), noise))


def _root(covariance: Floats) -> Floats:
    """A square root of positive semi-definite matrices (..., k, k), singular ones included."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :])
