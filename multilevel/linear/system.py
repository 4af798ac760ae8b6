"""The penalised least-squares system of a linear mixed model, from cross-products alone.

With Lambda block-diagonal in theta, every engine needs the factorisation of

    M(theta) = [ Lambda' Z'Z Lambda + I    Lambda' Z'X ]
               [ X'Z Lambda                X'X + P0    ]

(Bates et al. 2015, eqs. 17-18; P0 a prior precision of beta times sigma^2, zero for (RE)ML). The largest factor is eliminated level by
level; the rest is dense.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from multilevel.arrays import Floats


class Factorised(Protocol):
    """M(theta) factorised, with the solution of the penalised least-squares problem."""

    @property
    def log_det_effects(self) -> float:
        """log |Lambda' Z'Z Lambda + I| (twice lme4's log |L|... i.e. the full log-determinant of the effects' block)."""

    @property
    def log_det_population(self) -> float:
        """log of the determinant of the Schur complement of X'X + P0: log |R_XX|^2."""

    @property
    def penalised_rss(self) -> float:
        """r^2: residual sum of squares plus |u|^2 (plus the prior's term for beta), including the pseudo-rows' ``residual_ss``."""

    @property
    def beta(self) -> Floats:
        """(p,) conditional estimate of the coefficients."""

    @property
    def effects(self) -> Floats:
        """(q,) b = Lambda u, in the order of ``Design``."""

    def draw(self, size: int, sigma: float, rng: np.random.Generator) -> Floats:
        """(size, p + q) exact draws of (beta, b) given theta and sigma."""

    def conditional_variance(self, maps: Sequence[Floats] | None = None) -> tuple[Floats, ...]:
        """Per block (L, k): diagonal of Var(A b | y, theta, beta) / sigma^2 (multiply by sigma^2; lme4's condVar); A (k, k) of each block
        in ``maps``, else the identity."""


class LinearSystem(Protocol):
    """Cross-products of [Z X y] kept once per study; ``factorise`` costs one blocked Cholesky, however many rows there were."""

    @property
    def n_rows(self) -> int:
        """Line items behind the pseudo-rows."""

    @property
    def n_population(self) -> int:
        """p."""

    @property
    def n_effects(self) -> int:
        """q."""

    def factorise(self, lambdas: Sequence[Floats], beta_precision: Floats | None = None, beta_location: Floats | None = None) -> Factorised:
        """Factorise at relative covariance factors ``lambdas`` (one lower-triangular (k, k) per block: Sigma = sigma^2 Lambda Lambda').

        ``beta_precision`` (p, p) is sigma^2 times the prior precision of beta, ``beta_location`` (p,) its prior mean.
        """
