"""The two responses of a two-part outcome and their product, P(y > 0) E[y | y > 0], averaged row by row with both parts' uncertainty.

The average of a product is not the product of averages: where much is bought it is also bought dearly, or the other way round. So both
parts' linear predictors are evaluated on the same pairs of bins, multiplied there, and averaged after. The parts share no parameter, so
their joint distribution is the product of theirs: a draw of one stands beside any draw of the other, and variances of linear parts add.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from multilevel.arrays import Floats
from multilevel.design.model import Design
from multilevel.estimands.expected_outcome import PartFit, PartRows
from multilevel.families.link import LOG
from multilevel.fit.container import Summary
from multilevel.fit.interval_estimates import Moments, back_from_link, joint_draws, moments
from multilevel.fit.joint_draws import summarise
from multilevel.fit.shared_rows import Rows, averaged

VALUES_AT_ONCE = 4_000_000
"""Doubles of one part's linear predictor held at once while draws are averaged."""

MOST_EVALUATIONS = 200_000_000
"""Evaluations of each inverse link for one chunk of levels before draws are thinned."""

FEWEST_DRAWS = 500


@dataclass(frozen=True)
class TwoResponses:
    """Both parts, and ``design``: all cells at the weights of all rows, with every column that either part has."""

    occurrence: PartFit
    amount: PartFit
    design: Design

    @property
    def parts(self) -> tuple[PartFit, PartFit]:
        """Occurrence, then amount."""
        return self.occurrence, self.amount

    @property
    def has_draws(self) -> bool:
        """Whether the joint distribution is one of posterior draws."""
        return all(part.fit.has_draws for part in self.parts)

    @property
    def interval(self) -> float:
        """Probability of the equal-tailed intervals."""
        return self.occurrence.fit.interval

    def means(self, rows: PartRows) -> tuple[Floats, Floats]:
        """(m,), (m,): both linear predictors at the estimates."""
        first, second = (np.asarray(own @ part.fit.joint.mean) for own, part in zip(rows, self.parts, strict=True))
        return first, second

    def average(self, rows: PartRows, weights: csr_array) -> Summary:
        """(g,) averages ``weights @ (p * mean)`` over ``rows``: draw by draw, or normal on the log scale at each point of theta."""
        if self.has_draws:
            return summarise(self._drawn(rows, weights), self.interval)
        estimate = np.asarray(weights @ self.product(*self.means(rows)))
        each = [moments(part.fit, gradient) for part, gradient in zip(self.parts, self.gradients(rows, weights), strict=True)]
        locations = [np.atleast_2d(part.fit.joint.mean if part.fit.theta is None else part.fit.theta.locations) for part in self.parts]
        n_points = max(map(len, locations))
        averages, variances, weights_of = [], [], []
        for at in range(n_points):
            # the parts' points are in orders of their own, so that pairs of them are as if drawn
            first, second = (np.asarray(own @ place[at % len(place)]) for own, place in zip(rows, locations, strict=True))
            averages.append(weights @ self.product(first, second))
            variances.append(sum((one.variance[:, at % len(one.weights)] for one in each), np.zeros(len(estimate))))
            weights_of.append(np.prod([one.weights[at % len(one.weights)] for one in each]))
        shares = np.array(weights_of) / np.sum(weights_of)
        found = Moments(np.log(np.stack(averages, axis=1)), np.stack(variances, axis=1) / estimate[:, None] ** 2, shares)
        return back_from_link(estimate, found, LOG, self.interval)

    def product(self, first: Floats, second: Floats) -> Floats:
        """Elementwise expected outcome from both linear predictors."""
        return np.asarray(self.occurrence.response.mean(first) * self.amount.response.mean(second))

    def slopes(self, first: Floats, second: Floats) -> tuple[Floats, Floats]:
        """Derivatives of the product in either linear predictor, elementwise."""
        occurrence, amount = self.occurrence.response, self.amount.response
        return occurrence.slope(first) * amount.mean(second), occurrence.mean(first) * amount.slope(second)

    def gradients(self, rows: PartRows, weights: csr_array) -> tuple[Rows, Rows]:
        """Derivatives of the averages with respect to each part's coefficients, at the estimates."""
        first, second = (
            averaged(csr_array(weights.multiply(slope.reshape(1, -1))), own)
            for own, slope in zip(rows, self.slopes(*self.means(rows)), strict=True)
        )
        return first, second

    def draws(self, size: int, seed: int) -> tuple[Floats, Floats]:
        """Draws of both parts' coefficients, row by row a joint draw: at most ``size`` of a posterior, else ``size`` of the normal one."""
        kept = [len(part.fit.covariance_draws[0]) for part in self.parts if part.fit.covariance_draws is not None]
        size = min([size, *kept])
        first, second = (joint_draws(part.fit, size, seed + place) for place, part in enumerate(self.parts))
        return first, second

    def _drawn(self, rows: PartRows, weights: csr_array) -> Floats:
        """(g, S) averages, one column a draw."""
        n_rows = rows[0].shape[0]
        size = max(FEWEST_DRAWS, MOST_EVALUATIONS // max(1, n_rows))
        drawn = self.draws(size, 0)
        values = np.empty((weights.shape[0], len(drawn[0])))
        step = max(1, VALUES_AT_ONCE // max(1, n_rows))
        for at in range(0, len(drawn[0]), step):
            here = slice(at, at + step)
            first, second = (np.asarray(x @ coefficients[here].T) for x, coefficients in zip(rows, drawn, strict=True))
            values[:, here] = weights @ self.product(first, second)
        return values


def log_normal(estimate: Floats, std_error: Floats, interval: float) -> Summary:
    """A normal interval on the log scale about a positive estimate (delta method)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.exp(ndtri(0.5 + interval / 2.0) * std_error / estimate)
    return Summary(estimate, std_error, estimate / reach, estimate * reach)
