"""The posterior of the variance parameters of a gaussian model, every coefficient and effect integrated out exactly.

With M(theta) of ``multilevel.linear.system`` and beta ~ N(m, P^-1), P0 = sigma^2 P,

    log p(y | theta) = -N/2 log(2 pi sigma^2) - 1/2 (log|L'Z'ZL + I| + log|X'X + P0 - ...| - log|P0|) - r^2 / (2 sigma^2),

r^2 the penalised residual sum of squares (Bates et al. 2015, eq. 34, with a normal prior on beta as in Lindley and Smith 1972).
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from multilevel.arrays import Floats
from multilevel.bayesian.parameters import Layout, log_prior
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.errors import FitError
from multilevel.linear.system import Factorised, LinearSystem

FARTHEST = 300.0
"""Size of an unconstrained parameter beyond which its exponential would overflow: no posterior reaches that far."""


@dataclass(frozen=True)
class Collapsed:
    """The log posterior of theta (see ``parameters.Layout``), up to the constants of y."""

    system: LinearSystem
    layout: Layout
    priors: ResolvedPriors

    @cached_property
    def _log_det_prior(self) -> float:
        return float(np.linalg.slogdet(self.priors.beta_precision)[1])

    def factorise(self, theta: Floats) -> Factorised:
        """The conditional distribution of (beta, b) at one theta (d,)."""
        factors = [self.layout.factor(theta, block) for block in range(len(self.layout.widths))]
        return self._factorise(factors, float(self.layout.scale(theta)))

    def draw(self, theta: Floats, size: int, rng: np.random.Generator) -> Floats:
        """(size, p + q) exact draws of (beta, b) given one theta (d,)."""
        return self.factorise(theta).draw(size, float(self.layout.scale(theta)), rng)

    def __call__(self, theta: Floats) -> float:
        """log p(theta | y) + constant at one theta (d,)."""
        return float(self.many(theta[None], 1)[0])

    def many(self, thetas: Floats, cores: int) -> Floats:
        """(S,) values at (S, d) thetas, on ``cores`` threads; -inf where the factorisation breaks down."""
        sane = np.all(np.abs(thetas) <= FARTHEST, axis=1)
        values = np.full(len(thetas), -math.inf)
        inside = thetas[sane]
        factors = [self.layout.factor(inside, block) for block in range(len(self.layout.widths))]
        scales = self.layout.scale(inside)

        def likelihood(at: int) -> float:
            return self._log_likelihood([factor[at] for factor in factors], float(scales[at]))

        if cores == 1 or len(inside) < 64:
            found = np.array([likelihood(at) for at in range(len(inside))])
        else:
            with ThreadPoolExecutor(cores) as pool:
                found = np.array(list(pool.map(likelihood, range(len(inside)), chunksize=32)))
        total = found + log_prior(inside, self.layout, self.priors) if len(inside) else found
        values[sane] = np.where(np.isfinite(total), total, -math.inf)
        return values

    def _factorise(self, factors: list[Floats], sigma: float) -> Factorised:
        relative = [factor / sigma for factor in factors]
        return self.system.factorise(relative, sigma**2 * self.priors.beta_precision, self.priors.beta_location)

    def _log_likelihood(self, factors: list[Floats], sigma: float) -> float:
        """log p(y | theta)."""
        try:
            return self._of_factor(self._factorise(factors, sigma), sigma)
        except (FitError, np.linalg.LinAlgError, OverflowError):
            return -math.inf

    def of_factor(self, factorised: Factorised, theta: Floats) -> float:
        """log p(theta | y) + constant at one theta (d,) that is factorised already."""
        prior = float(log_prior(theta[None], self.layout, self.priors)[0])
        value = self._of_factor(factorised, float(self.layout.scale(theta))) + prior
        return value if math.isfinite(value) else -math.inf

    def _of_factor(self, factorised: Factorised, sigma: float) -> float:
        log_variance = 2.0 * math.log(sigma)
        log_det_prior = self._log_det_prior + self.system.n_population * log_variance
        log_det = factorised.log_det_effects + factorised.log_det_population - log_det_prior
        rss = factorised.penalised_rss / sigma**2
        return -0.5 * (self.system.n_rows * (math.log(2 * math.pi) + log_variance) + log_det + rss)
