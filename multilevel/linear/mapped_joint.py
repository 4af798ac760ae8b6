"""The joint distribution of the coefficients as written, from that of the unit-free ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.design.unit_free import Maps
from multilevel.families.link import Link
from multilevel.fit.container import Joint, Summary
from multilevel.fit.shared_rows import Rows, as_csr, mapped
from multilevel.linear.joint_normal import NormalJoint


@dataclass(frozen=True)
class MappedJoint:
    """The distribution of W (beta', b'), ``inner`` being that of (beta', b'): rows are mapped, never covariances."""

    inner: Joint
    matrix: csr_array

    @cached_property
    def mean(self) -> Floats:
        """(p + q,) estimates and conditional modes."""
        return np.asarray(self.matrix @ self.inner.mean)

    def _mapped(self, rows: Rows) -> Rows:
        return mapped(rows, self.matrix)

    def combine(self, rows: Rows, interval: float) -> Summary:
        """Linear combinations ``rows @ (beta, b)`` with Wald intervals."""
        return self.inner.combine(self._mapped(rows), interval)

    def respond(
        self,
        rows: Rows,
        weights: csr_array,
        response: Callable[[Floats], Floats],
        slope: Callable[[Floats], Floats],
        interval: float,
    ) -> Summary:
        """As ``NormalJoint.respond``."""
        return self.inner.respond(self._mapped(rows), weights, response, slope, interval)

    def on_response_scale(self, summary: Summary, link: Link, interval: float) -> Summary:
        """As that of ``inner``."""
        return self.inner.on_response_scale(summary, link, interval)

    def spread_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m,) sds of ``(rows - centre) @ (beta, b)``."""
        return self.inner.spread_about(self._mapped(rows), as_csr(self._mapped(centre)))

    def covariance_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m, m) covariance of ``(rows - centre) @ (beta, b)``."""
        return self.inner.covariance_about(self._mapped(rows), as_csr(self._mapped(centre)))

    def draws(self, size: int, seed: int) -> Floats:
        """(size, p + q) draws of ``inner``, mapped."""
        return np.asarray((self.matrix @ self.inner.draws(size, seed).T).T)


def mapped_joint(inner: NormalJoint, maps: Maps) -> NormalJoint | MappedJoint:
    """In the coefficients of the design as written."""
    return inner if maps.is_identity else MappedJoint(inner, maps.matrix)
