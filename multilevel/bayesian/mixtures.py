"""Mixtures of multivariate t distributions: the proposals of an independence sampler, fitted to weighted draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import gammaln, logsumexp

from multilevel.arrays import Floats


@dataclass(frozen=True)
class TMixture:
    """``weights`` (K,), ``locations`` (K, d), lower-triangular ``factors`` (K, d, d) of the scale matrices, degrees of freedom ``df``."""

    weights: Floats
    locations: Floats
    factors: Floats
    df: float

    @property
    def dimension(self) -> int:
        """d."""
        return self.locations.shape[1]

    def sample(self, size: int, rng: np.random.Generator) -> Floats:
        """(size, d) independent draws."""
        component = rng.choice(len(self.weights), size=size, p=self.weights)
        normal = rng.normal(size=(size, self.dimension))
        stretch = np.sqrt(self.df / rng.chisquare(self.df, size))
        return self.locations[component] + stretch[:, None] * np.einsum("sij,sj->si", self.factors[component], normal)

    def log_density(self, points: Floats) -> Floats:
        """(S,) log densities at (S, d) points."""
        terms = [_log_t(points, *parts, self.df) for parts in zip(self.locations, self.factors, strict=True)]
        return np.asarray(logsumexp(np.stack(terms), axis=0, b=self.weights[:, None]))


def single(location: Floats, covariance: Floats, df: float) -> TMixture:
    """One t with a given location and scale matrix."""
    return TMixture(np.ones(1), location[None], np.linalg.cholesky(covariance)[None], df)


DEFENSIVE = 0.1
"""Share of the component that is wider than all points together: it bounds the ratios in tails that no other component has met."""

WIDER = 9.0
"""Its scale matrix over the points' covariance."""


def fit_mixture(points: Floats, weights: Floats, components: int, df: float, rng: np.random.Generator) -> TMixture:
    """Weighted EM for normal components, used as the centres of t ones (the heavier tails are the safety margin).

    ``points`` (S, d), ``weights`` (S,) summing to one. Covariances are shrunk a little towards the overall one, so that a component
    resting on few points stays usable. The last component is a defensive one (Hesterberg 1995).
    """
    mean = weights @ points
    overall = _covariance(points, weights, mean)
    locations = points[rng.choice(len(points), size=components, p=weights)]
    covariances = np.repeat(overall[None], components, axis=0)
    shares = np.full(components, 1.0 / components)
    for _ in range(40):
        logs = np.stack(
            [
                np.log(max(s, 1e-300)) + _log_normal(points, m, np.linalg.cholesky(c))
                for s, m, c in zip(shares, locations, covariances, strict=True)
            ]
        )
        membership = np.exp(logs - logsumexp(logs, axis=0)) * weights
        shares = membership.sum(axis=1)
        for k in range(components):
            if shares[k] > 1e-3:
                inside = membership[k] / shares[k]
                locations[k] = inside @ points
                trust = shares[k] / (shares[k] + 0.02)
                covariances[k] = trust * _covariance(points, inside, locations[k]) + (1 - trust) * overall
    shares = np.maximum(shares, 0.02) / np.maximum(shares, 0.02).sum()
    return TMixture(
        np.append((1.0 - DEFENSIVE) * shares, DEFENSIVE),
        np.vstack([locations, mean]),
        np.linalg.cholesky(np.concatenate([covariances, WIDER * overall[None]])),
        df,
    )


def _covariance(points: Floats, weights: Floats, mean: Floats) -> Floats:
    centred = points - mean
    covariance = centred.T @ (weights[:, None] * centred)
    return covariance + np.diag(1e-8 * np.diag(covariance) + 1e-12)


def _log_normal(points: Floats, location: Floats, factor: Floats) -> Floats:
    z = solve_triangular(factor, (points - location).T, lower=True)
    return -0.5 * (z**2).sum(axis=0) - np.log(np.diag(factor)).sum()


def _log_t(points: Floats, location: Floats, factor: Floats, df: float) -> Floats:
    d = len(location)
    z = solve_triangular(factor, (points - location).T, lower=True)
    constant = gammaln((df + d) / 2) - gammaln(df / 2) - 0.5 * d * math.log(df * math.pi) - np.log(np.diag(factor)).sum()
    return np.asarray(constant - 0.5 * (df + d) * np.log1p((z**2).sum(axis=0) / df))
