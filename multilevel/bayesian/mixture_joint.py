"""The joint distribution of (beta, b) of a posterior kept as points of theta: a mixture of normal distributions, in place of draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.families.link import Link
from multilevel.fit.container import Summary
from multilevel.fit.interval_estimates import Moments, summary_of
from multilevel.fit.shared_rows import Rows, averaged, scaled
from multilevel.fit.theta_spread import ThetaSpread
from multilevel.linear.joint_normal import inside_range


@dataclass(frozen=True)
class MixtureJoint:
    """As ``Joint``, of the mixture over the points of ``spread``."""

    spread: ThetaSpread

    @cached_property
    def mean(self) -> Floats:
        """(p + q,) posterior mean."""
        return self.spread.mean

    def combine(self, rows: Rows, interval: float) -> Summary:
        """Posterior mean, sd and quantiles of ``rows @ (beta, b)``."""
        found = Moments(self.spread.predictors(rows), self.spread.variances(rows), self.spread.weights)
        return summary_of(np.asarray(rows @ self.mean), found, interval)

    def respond(
        self,
        rows: Rows,
        weights: csr_array,
        response: Callable[[Floats], Floats],
        slope: Callable[[Floats], Floats],
        interval: float,
    ) -> Summary:
        """Averages ``weights @ response(rows @ (beta, b))``, linear about the conditional means of every point."""
        gradient = averaged(weights, scaled(rows, slope(np.asarray(rows @ self.mean))))
        at_points = [np.asarray(weights @ response(np.asarray(rows @ location))) for location in self.spread.locations]
        found = Moments(np.stack(at_points, axis=1), self.spread.variances(gradient), self.spread.weights)
        return summary_of(np.asarray(found.mean @ found.weights), found, interval)

    def spread_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m,) posterior sds of ``(rows - centre) @ (beta, b)``."""
        return self.spread.spread_about(rows, centre)

    def covariance_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m, m) posterior covariance of ``(rows - centre) @ (beta, b)``."""
        return self.spread.covariance_about(rows, centre)

    def draws(self, size: int, seed: int) -> Floats:
        """(size, p + q) joint draws."""
        return self.spread.draws(size, seed)

    def on_response_scale(self, summary: Summary, link: Link, interval: float) -> Summary:
        """Limits taken on the link scale by the delta method, so that they stay inside the outcome's range."""
        return inside_range(summary, link, interval)
