"""A t distribution that is as wide on each side of its centre as the density is there: a first proposal for skewed margins.

Along each axis the two sides have scales of their own and share the density at the centre, as in Geweke's split-t (1989, section 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from multilevel.arrays import Floats


@dataclass(frozen=True)
class SplitT:
    """``location`` (d,), ``axes`` (d, d) by columns, scales ``below`` and ``above`` (d,) along each, degrees of freedom ``df``."""

    location: Floats
    axes: Floats
    below: Floats
    above: Floats
    df: float

    def sample(self, size: int, rng: np.random.Generator) -> Floats:
        """(size, d) independent draws."""
        d = len(self.location)
        stretch = np.sqrt(self.df / rng.chisquare(self.df, size))
        steps = np.abs(rng.normal(size=(size, d))) * stretch[:, None]
        is_above = rng.uniform(size=(size, d)) < self.above / (self.above + self.below)
        return self.location + np.where(is_above, self.above * steps, -self.below * steps) @ self.axes.T

    def log_density(self, points: Floats) -> Floats:
        """(S,) log densities at (S, d) points."""
        d = len(self.location)
        along = np.linalg.solve(self.axes, (points - self.location).T).T
        squares = np.sum((along / np.where(along > 0, self.above, self.below)) ** 2, axis=1)
        constant = gammaln((self.df + d) / 2) - gammaln(self.df / 2) - 0.5 * d * math.log(self.df * math.pi)
        constant -= float(np.sum(np.log((self.above + self.below) / 2.0))) + np.linalg.slogdet(self.axes)[1]
        return np.asarray(constant - 0.5 * (self.df + d) * np.log1p(squares / self.df))
