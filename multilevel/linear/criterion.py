"""The (RE)ML criterion, profiled over beta and sigma, and its gradient (Bates et al. 2015, eqs. 35 and 42)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.linear.effects_gradient import criterion_gradient
from multilevel.linear.factorise import BlockedFactor, BlockedSystem
from multilevel.linear.theta import Theta


@dataclass(frozen=True)
class Criterion:
    """-2 log-likelihood (ML) or the REML criterion as a function of theta.

    constant : added to the criterion (minus the log of known weights). fixed_sigma : the residual sd where it is known, else None.
    """

    system: BlockedSystem
    layout: Theta
    reml: bool
    constant: float = 0.0
    fixed_sigma: float | None = None

    @property
    def degrees_of_freedom(self) -> int:
        """n, or n - p under REML."""
        return self.system.n_rows - (self.system.n_population if self.reml else 0)

    def factorise(self, theta: Floats) -> BlockedFactor:
        """The system at theta."""
        return self.system.factorise(self.layout.lambdas(theta))

    def sigma(self, factor: BlockedFactor) -> float:
        """The residual sd that minimises the criterion at this theta."""
        return self.fixed_sigma if self.fixed_sigma is not None else math.sqrt(factor.penalised_rss / self.degrees_of_freedom)

    def value(self, factor: BlockedFactor, sigma: float | None = None) -> float:
        """The criterion, profiled over sigma unless ``sigma`` is given."""
        known = self.fixed_sigma if sigma is None else sigma
        logs = factor.log_det_effects + (factor.log_det_population if self.reml else 0.0) + self.constant
        df = self.degrees_of_freedom
        if known is not None:
            return logs + df * math.log(2.0 * math.pi * known**2) + factor.penalised_rss / known**2
        return logs + df * (1.0 + math.log(2.0 * math.pi * factor.penalised_rss / df))

    def gradient(self, factor: BlockedFactor, sigma: float | None = None) -> Floats:
        """With respect to theta; profiled over sigma unless ``sigma`` is given."""
        known = self.fixed_sigma if sigma is None else sigma
        return self.layout.flat(criterion_gradient(factor, None if known is None else known**2, reml=self.reml))

    def joint_gradient(self, factor: BlockedFactor, sigma: float) -> Floats:
        """Gradient of the unprofiled criterion in (theta, log sigma), or in theta alone where sigma is known."""
        if self.fixed_sigma is not None:
            return self.gradient(factor)
        by_sigma = 2.0 * self.degrees_of_freedom - 2.0 * factor.penalised_rss / sigma**2
        return np.append(self.gradient(factor, sigma), by_sigma)
