"""What Laplace's approximation gets wrong of single levels, everything else held: its integrals, and the shape of its distributions.

Given all other coefficients the likelihood splits into levels. Each level's integral is taken by adaptive Gauss-Hermite quadrature
(Pinheiro and Bates 1995, eq. 2.6), of as many dimensions as the level has effects. Where levels have few line items the ratio to Laplace's
approximation depends on theta: without it variances are too small (Breslow and Lin 1995).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import block_diag
from scipy.special import logsumexp, ndtri
from scipy.stats import qmc

from multilevel.arrays import Codes, Floats
from multilevel.design.reduction import ReducedRows
from multilevel.families.likelihood import Likelihood

NODES = {1: 9, 2: 5, 3: 4, 4: 3}
"""Of the quadrature along each effect of a level, by how many effects it has."""

FEW_NODES = {1: 5, 2: 4, 3: 3, 4: 3}
"""The same for factors whose levels have much data, which need fewer."""

MOST_EFFECTS = max(NODES)

SCALES = (0.02, 2.0)
"""Bounds of the factors of weights."""

TAIL = 0.025
"""Probability beyond each bound of an interval."""

SAMPLE = 128
"""Points of a level's normal distribution at which its exact one is compared with it."""


@dataclass(frozen=True)
class LevelFactor:
    """One factor with all its effects: ``blocks`` of the model; codes (R,), values (R, k), ``n_levels``, ``name``."""

    name: str
    blocks: tuple[int, ...]
    codes: Codes
    values: Floats
    n_levels: int

    def rows_of(self, values: Floats) -> Floats:
        """(L,) sums of ``values`` (R,) by level."""
        return np.bincount(self.codes, values, self.n_levels)


@dataclass(frozen=True)
class LevelNormals:
    """Normal distributions of a factor's spherical effects u = centre + C^-T x, x standard, given everything else.

    centre : (L, k). roots : (L, k, k) C^-T. rows : (R, k) what x moves each row's linear predictor ``eta`` (R,) by.
    """

    factor: LevelFactor
    centre: Floats
    roots: Floats
    rows: Floats
    eta: Floats

    @property
    def log_det_precision(self) -> float:
        """Sum over the levels of log |C C'|."""
        return -2.0 * float(np.sum(self.log_volumes))

    @property
    def log_volumes(self) -> Floats:
        """(L,) log |C^-T|, which is triangular."""
        return np.asarray(np.log(np.diagonal(self.roots, axis1=1, axis2=2)).sum(axis=1))

    def log_ratios(self, likelihood: Likelihood, log_dispersion: float, points: Floats) -> Iterator[Floats]:
        """Per point x (k,) of ``points`` (S, k): (L,) log exact density over the normal one, less the same at the centre."""
        at_centre = likelihood.terms(self.eta, log_dispersion)
        for x in points:
            gain = self.factor.rows_of(likelihood.terms(self.eta + self.rows @ x, log_dispersion) - at_centre)
            step = self.roots @ x
            yield gain - np.sum(step * (self.centre + 0.5 * step), axis=1) + 0.5 * float(x @ x)


def level_factors(rows: ReducedRows) -> tuple[LevelFactor, ...]:
    """The factors of a model, each with all of its blocks."""
    names = list(dict.fromkeys(block.name for block in rows.blocks))
    found = []
    for name in names:
        blocks = tuple(at for at, block in enumerate(rows.blocks) if block.name == name)
        own = [rows.blocks[at] for at in blocks]
        found.append(LevelFactor(name, blocks, own[0].codes, np.hstack([block.values for block in own]), own[0].n_levels))
    return tuple(found)


def level_normals(
    factor: LevelFactor, lambdas: Sequence[Floats], spherical: Sequence[Floats], weights: Floats, eta: Floats
) -> LevelNormals:
    """The normal distributions about ``spherical`` (per block (L, k)) whose precision has row ``weights`` (R,)."""
    root = block_diag(*(lambdas[at] for at in factor.blocks))
    turned = factor.values @ root
    k = turned.shape[1]
    precision = np.broadcast_to(np.eye(k), (factor.n_levels, k, k)).copy()
    for i in range(k):
        for j in range(i + 1):
            own = factor.rows_of(weights * turned[:, i] * turned[:, j])
            precision[:, i, j] += own
            if j < i:
                precision[:, j, i] += own
    roots = precision**-0.5 if k == 1 else np.linalg.inv(np.linalg.cholesky(precision)).swapaxes(1, 2)
    rows = turned * roots[factor.codes, :, 0] if k == 1 else np.einsum("ri,rij->rj", turned, roots[factor.codes])
    return LevelNormals(factor, np.hstack([spherical[at] for at in factor.blocks]), roots, rows, eta)


def integral_ratios(normals: LevelNormals, likelihood: Likelihood, log_dispersion: float) -> Floats:
    """(L,) log of each level's integral over Laplace's approximation, for normals at the mode; of levels with so much data that few nodes
    do."""
    points, weights = quadrature(normals.rows.shape[1], FEW_NODES)
    logs = np.stack(list(normals.log_ratios(likelihood, log_dispersion, points)))
    return np.asarray(logsumexp(logs + np.log(weights)[:, None], axis=0))


def largest(factors: Sequence[LevelFactor]) -> LevelFactor:
    """The factor with most levels."""
    return max(factors, key=lambda factor: factor.n_levels)


def quadrature(k: int, nodes: Mapping[int, int]) -> tuple[Floats, Floats]:
    """Points (S, k) and weights (S,) of the product rule for a standard normal distribution."""
    along, weights = np.polynomial.hermite_e.hermegauss(nodes[k])
    grids = np.meshgrid(*([along] * k), indexing="ij")
    shares = np.meshgrid(*([weights / weights.sum()] * k), indexing="ij")
    return np.stack([grid.ravel() for grid in grids], axis=1), np.asarray(np.prod([share.ravel() for share in shares], axis=0))


@dataclass(frozen=True)
class LevelMoments:
    """Every level's exact distribution, everything else held. log_integrals (L,) of its likelihood, less the likelihood's constant, over
    the effects' prior; of x, means (L, k), covariances (L, k, k) and skewnesses (L, k) along each axis: 0, I and 0 where it is normal.
    shares (L, S) of the probability at the points of the quadrature."""

    log_integrals: Floats
    means: Floats
    covariances: Floats
    skewness: Floats
    shares: Floats


def exact_moments(normals: LevelNormals, likelihood: Likelihood, log_dispersion: float) -> LevelMoments:
    """By quadrature about the normal distributions."""
    points, weights = quadrature(normals.rows.shape[1], NODES)
    logs = np.stack(list(normals.log_ratios(likelihood, log_dispersion, points)), axis=1) + np.log(weights)
    most = logs.max(axis=1)
    shares = np.exp(logs - most[:, None], out=logs)
    sums = shares.sum(axis=1)
    shares /= sums[:, None]
    at_centre = normals.factor.rows_of(likelihood.terms(normals.eta, log_dispersion)) - 0.5 * np.sum(normals.centre**2, axis=1)
    log_integrals = at_centre + most + np.log(sums) + normals.log_volumes
    k = points.shape[1]
    products = (points[:, :, None] * points[:, None, :]).reshape(len(points), k * k)
    means, squares, cubes = np.split(shares @ np.hstack([points, products, points**3]), [k, k + k * k], axis=1)
    squares = squares.reshape(-1, k, k)
    covariances = squares - means[:, :, None] * means[:, None, :]
    third = cubes - 3.0 * means * np.diagonal(squares, axis1=1, axis2=2) + 2.0 * means**3
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    return LevelMoments(log_integrals, means, covariances, third / np.maximum(variances, 1e-12) ** 1.5, shares)


def score_gains(normals: LevelNormals, moments: LevelMoments, likelihood: Likelihood, log_dispersion: float) -> Floats:
    """(R,) each row's expected score under its level's exact distribution, less that under the normal one, everything else held."""
    points, weights = quadrature(normals.rows.shape[1], NODES)
    gains = np.zeros_like(normals.eta)
    for x, weight, share in zip(points, weights, moments.shares.T, strict=True):
        score = likelihood.curvature(normals.eta + normals.rows @ x, log_dispersion).score
        gains += (share - weight)[normals.factor.codes] * score
    return gains


def weight_scales(normals: LevelNormals, moments: LevelMoments) -> Floats:
    """(L,) factors of every level's row weights with which its variance, everything else held, is that of its exact distribution.

    For one effect with variance K and prior variance t the information that the rows have on it is 1/K - 1/t, and what they tell of
    everything above the level 1/t - K/t^2: both are then exact. Of several effects the trace of the information is.
    """
    covariances = moments.covariances
    k = covariances.shape[1]
    if k == 1:
        precision = normals.roots[:, 0, 0] ** -2.0
        of_rows, of_exact = precision - 1.0, precision / covariances[:, 0, 0] - 1.0
    else:
        inverse = np.linalg.inv(normals.roots)
        whole = np.swapaxes(inverse, 1, 2) @ np.stack([np.broadcast_to(np.eye(k), covariances.shape), np.linalg.inv(covariances)]) @ inverse
        of_rows, of_exact = np.trace(whole, axis1=2, axis2=3) - k
    found = np.divide(of_exact, of_rows, out=np.ones_like(of_rows), where=of_rows > 1e-9)
    return np.clip(found, *SCALES)


@dataclass(frozen=True)
class LevelShapes:
    """How far levels' exact distributions, everything else held, are from the normal ones: pareto_k (L,) of their ratio; tails (L,) the
    probability beyond the farther of two bounds that should leave ``TAIL`` each; spreads (L,) of the sd, exact over normal, the farthest
    from one of a level's effects."""

    factor: LevelFactor
    pareto_k: Floats
    tails: Floats
    spreads: Floats


def level_shapes(normals: LevelNormals, likelihood: Likelihood, log_dispersion: float) -> LevelShapes:
    """Of every level of one factor."""
    ratios = np.stack(list(normals.log_ratios(likelihood, log_dispersion, standard_points(normals.rows.shape[1]))), axis=1)
    moments = exact_moments(normals, likelihood, log_dispersion)
    sds = np.sqrt(np.diagonal(moments.covariances, axis1=1, axis2=2))
    z = -ndtri(TAIL)
    # Edgeworth's first term, of bounds where the mean and the sd are right
    tails = TAIL + np.abs(moments.skewness).max(axis=1) / 6.0 * (z**2 - 1.0) * np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    worst = np.argmax(np.abs(np.log(np.maximum(sds, 1e-12))), axis=1)
    return LevelShapes(normals.factor, pareto_ks(ratios), tails, sds[np.arange(len(sds)), worst])


def standard_points(k: int) -> Floats:
    """(S, k) points that stand for a standard normal distribution: quantiles, or a scrambled Sobol sequence."""
    if k == 1:
        return ndtri((np.arange(SAMPLE) + 0.5) / SAMPLE)[:, None]
    return np.asarray(ndtri(qmc.Sobol(k, rng=np.random.default_rng(0)).random(SAMPLE)))


LEVELS_AT_ONCE = 2_000


def pareto_ks(log_ratios: Floats) -> Floats:
    """(L,) Pareto k of the largest of every level's ratios (L, S) (Zhang and Stephens 2009; Vehtari et al. 2024, appendix G)."""
    size = log_ratios.shape[1]
    tail = int(np.ceil(min(0.2 * size, 3.0 * np.sqrt(size))))
    pieces = []
    for at in range(0, len(log_ratios), LEVELS_AT_ONCE):
        own = np.sort(log_ratios[at : at + LEVELS_AT_ONCE], axis=1)
        ratios = np.exp(own[:, -tail - 1 :] - own[:, -1:])
        pieces.append(_tail_shapes(ratios[:, 1:] - ratios[:, :1]))
    return np.concatenate(pieces) if pieces else np.zeros(0)


def _tail_shapes(excess: Floats) -> Floats:
    """(L,) shapes of generalised Pareto distributions fitted to sorted excesses (L, n) over a threshold; -inf where none varies."""
    n = excess.shape[1]
    flat = excess[:, -1] <= 1e-10
    excess = np.where(flat[:, None], np.linspace(0.5, 1.0, n), excess)
    grid = 30 + int(np.sqrt(n))
    quarter = np.maximum(excess[:, int(n / 4 + 0.5) - 1], 1e-300)
    scales = (1.0 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5)))[None, :] / (3.0 * quarter[:, None]) + 1.0 / excess[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        shapes = np.log1p(-scales[:, :, None] * excess[:, None, :]).mean(axis=2)
        logs = n * (np.log(-scales / shapes) - shapes - 1.0)
    logs = np.where(np.isfinite(logs), logs, -np.inf)
    weights = np.exp(logs - logsumexp(logs, axis=1)[:, None])
    scale = np.sum(scales * weights, axis=1)
    shape = np.log1p(-scale[:, None] * excess).mean(axis=1)
    # towards 0.5, as if of ten observations more
    return np.where(flat, -np.inf, (n * shape + 5.0) / (n + 10.0))
