"""A normal prior of the coefficients, in the coordinates of the search for modes: X beta = Q gamma, gamma = T beta."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.generalised.reweighting import Reweighting
from multilevel.linear.triangular import solve_upper


@dataclass(frozen=True)
class BasisPrior:
    """beta ~ N(``location`` (p,), inverse of ``precision`` (p, p)); ``rotated`` (p, p) and ``centre`` (p,) are the same of gamma."""

    precision: Floats
    location: Floats
    rotated: Floats
    centre: Floats

    @classmethod
    def of(cls, layout: Reweighting, precision: Floats, location: Floats) -> BasisPrior:
        """In the coordinates of ``layout``."""
        triangle = layout.template.triangle
        inverse = solve_upper(triangle, np.eye(len(triangle)))
        return cls(precision, location, inverse.T @ precision @ inverse, triangle @ location)

    def penalty(self, basis: Floats) -> float:
        """(gamma - c)' R (gamma - c)."""
        away = basis - self.centre
        return float(away @ self.rotated @ away)

    def pull(self, basis: Floats) -> Floats:
        """(p,) half the derivative of ``penalty``."""
        return np.asarray(self.rotated @ (basis - self.centre))
