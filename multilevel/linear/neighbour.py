"""Where a study's search for its variances ended, so that the same study of another day can start there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from multilevel.arrays import Floats
from multilevel.design.model import Design
from multilevel.fit.container import Fit
from multilevel.linear.theta import Theta


@dataclass(frozen=True)
class Neighbour:
    """What the search of a likelihood fit found, in unit-free coordinates.

    blocks : factor and columns of each group term. theta : (n,) entries of the relative covariance factors. inverse_hessian : (n, n) of the
    deviance in theta, empty where there is none. log_dispersion : None for families without a dispersion.
    """

    blocks: tuple[tuple[str, tuple[str, ...]], ...]
    theta: tuple[float, ...]
    inverse_hessian: tuple[tuple[float, ...], ...] = ()
    log_dispersion: float | None = None

    @classmethod
    def of_fit(cls, fit: Fit) -> Neighbour | None:
        """None for a fit that did not search for its variances."""
        plain = fit.unit_free
        if plain is None or not plain.lambdas:
            return None
        theta = Theta(tuple(len(part) for part in plain.lambdas)).flat(plain.lambdas)
        if not np.isfinite(theta).all():
            return None
        n, known = len(theta), plain.parameters
        # the deviance is twice a negative log-likelihood
        inverse = () if known is None else tuple(map(tuple, (known.covariance[:n, :n] / 2.0).tolist()))
        scale = None if fit.dispersion is None else float(np.log(fit.dispersion))
        return cls(_blocks(fit.design), tuple(theta.tolist()), inverse, scale)

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> Neighbour:
        """From what ``to_json`` gave."""
        blocks = tuple((str(name), tuple(map(str, columns))) for name, columns in content["blocks"])
        return cls(blocks, tuple(content["theta"]), tuple(map(tuple, content["inverse_hessian"])), content["log_dispersion"])

    def to_json(self) -> dict[str, Any]:
        """A mapping of names and numbers that JSON can hold."""
        return asdict(self)

    def is_of(self, design: Design) -> bool:
        """Whether the design has the same group terms."""
        return self.blocks == _blocks(design)

    @property
    def curvature(self) -> Floats | None:
        """(n, n) ``inverse_hessian``; None where there is none, or it is not finite."""
        found = np.array(self.inverse_hessian)
        return found if len(found) == len(self.theta) and np.isfinite(found).all() else None


def _blocks(design: Design) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((block.factor.name, tuple(column.label for column in block.columns)) for block in design.blocks)
