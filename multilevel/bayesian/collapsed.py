"""The posterior of the variance parameters of a gaussian model, every coefficient and effect integrated out exactly.

With M(theta) of ``multilevel.linear.system`` and beta ~ N(m, P^-1), P0 = sigma^2 P,

    log p(y | theta) = -N/2 log(2 pi sigma^2) - 1/2 (log|L'Z'ZL + I| + log|X'X + P0 - ...| - log|P0|) - r^2 / (2 sigma^2),

r^2 the penalised residual sum of squares (Bates et al. 2015, eq. 34, with a normal prior on beta as in Lindley and Smith 1972).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from multilevel.bayesian.parameters import Layout, log_prior
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.cells import Floats
from multilevel.errors import FitError
from multilevel.linear.system import Factorised, LinearSystem


@dataclass(frozen=True)
class Collapsed:
    """The log posterior of theta (see ``parameters.Layout``), up to the constants of y."""

    system: LinearSystem
    layout: Layout
    priors: ResolvedPriors

    def factorise(self, theta: Floats) -> Factorised:
        """The conditional distribution of (beta, b) at one theta (d,)."""
        sigma = float(self.layout.scale(theta))
        lambdas = [self.layout.factor(theta, block) / sigma for block in range(len(self.layout.widths))]
        return self.system.factorise(lambdas, sigma**2 * self.priors.beta_precision, self.priors.beta_location)

    def draw(self, theta: Floats, size: int, rng: np.random.Generator) -> Floats:
        """(size, p + q) exact draws of (beta, b) given one theta (d,)."""
        return self.factorise(theta).draw(size, float(self.layout.scale(theta)), rng)

    def log_likelihood(self, theta: Floats, factorised: Factorised) -> float:
        """log p(y | theta) at a factorised theta."""
        log_variance = 2.0 * math.log(float(self.layout.scale(theta)))
        log_det_prior = float(np.linalg.slogdet(self.priors.beta_precision)[1]) + self.system.n_population * log_variance
        log_det = factorised.log_det_effects + factorised.log_det_population - log_det_prior
        rss = factorised.penalised_rss / math.exp(log_variance)
        return -0.5 * (self.system.n_rows * (math.log(2 * math.pi) + log_variance) + log_det + rss)

    def __call__(self, theta: Floats) -> float:
        """log p(theta | y) + constant at one theta (d,); -inf where the factorisation breaks down."""
        if not np.all(np.abs(theta) < 300.0):
            return -math.inf
        try:
            value = self.log_likelihood(theta, self.factorise(theta)) + float(log_prior(theta, self.layout, self.priors))
        except (FitError, np.linalg.LinAlgError, OverflowError):
            return -math.inf
        return value if math.isfinite(value) else -math.inf


def evaluate(density: Callable[[Floats], float], thetas: Floats, cores: int) -> Floats:
    """(S,) values of a log density at (S, d) points, on ``cores`` threads (the factorisation releases the interpreter)."""
    if cores == 1 or len(thetas) < 8:
        return np.array([density(theta) for theta in thetas])
    with ThreadPoolExecutor(cores) as pool:
        return np.array(list(pool.map(density, thetas)))
