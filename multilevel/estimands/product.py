"""The expected value of a two-part outcome: P(y > 0) E[y | y > 0], averaged row by row over the mix, with both parts' uncertainty.

The average of a product is not the product of averages: where much is bought it is also bought dearly, or the other way round. So both
parts' linear predictors are evaluated on the same pairs of bins, multiplied there, and averaged after. The parts share no parameter, so
their joint distribution is the product of theirs: a draw of one stands beside any draw of the other, and variances of linear parts add.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from multilevel.arrays import Floats, Integers
from multilevel.design.model import Design
from multilevel.estimands.response import response_of
from multilevel.families.link import Link
from multilevel.fit.container import Fit, Summary
from multilevel.fit.joint_draws import summarise

VALUES_AT_ONCE = 4_000_000
"""Doubles of one part's linear predictor held at once while draws are averaged."""

MOST_EVALUATIONS = 200_000_000
"""Evaluations of each inverse link for one chunk of levels before draws are thinned."""

FEWEST_DRAWS = 500


@dataclass(frozen=True)
class PartFit:
    """One part's fit, and which columns of the common layout (p + q places) its coefficients are; None where it has them all."""

    fit: Fit
    places: Integers | None = None

    @property
    def response(self) -> Link:
        """Inverse link, on the scale of y for ``log y``."""
        return response_of(self.fit.design.cells)

    def own(self, rows: csr_array) -> csr_array:
        """The layout's rows (m, p + q) as this part's."""
        return rows if self.places is None else csr_array(rows[:, self.places])

    def mean(self, width: int) -> Floats:
        """(p + q,) estimates in the common layout, 0 where the part has no such column."""
        if self.places is None:
            return self.fit.joint.mean
        whole = np.zeros(width)
        whole[self.places] = self.fit.joint.mean
        return whole


@dataclass(frozen=True)
class TwoPartFit:
    """Both parts, and ``design``: all cells at the weights of all rows, with every column that either part has."""

    occurrence: PartFit
    amount: PartFit
    design: Design

    @property
    def parts(self) -> tuple[PartFit, PartFit]:
        """Occurrence, then amount."""
        return self.occurrence, self.amount

    @property
    def fit(self) -> Fit:
        """The occurrence's fit under the common layout: for what depends on cells, weights and levels alone."""
        return replace(self.occurrence.fit, design=self.design)

    @property
    def is_bayesian(self) -> bool:
        """Whether the joint distribution is one of posterior draws."""
        return all(part.fit.covariance_draws is not None for part in self.parts)

    @property
    def interval(self) -> float:
        """Probability of the equal-tailed intervals."""
        return self.occurrence.fit.interval

    def means(self, rows: csr_array) -> tuple[Floats, Floats]:
        """(m,), (m,): both linear predictors at the estimates."""
        first, second = (np.asarray(part.own(rows) @ part.fit.joint.mean) for part in self.parts)
        return first, second

    def average(self, rows: csr_array, weights: csr_array) -> Summary:
        """(g,) averages ``weights @ (p * mean)`` over ``rows`` (m, p + q): draw by draw, or by the delta method with a log interval."""
        if self.is_bayesian:
            return summarise(self._drawn(rows, weights), self.interval)
        first, second = self.means(rows)
        estimate = np.asarray(weights @ self.product(first, second))
        variance = np.zeros(len(estimate))
        for part, gradient in zip(self.parts, self.gradients(rows, weights), strict=True):
            variance += part.fit.joint.combine(gradient, self.interval).std_error ** 2
        return log_normal(estimate, np.sqrt(variance), self.interval)

    def product(self, first: Floats, second: Floats) -> Floats:
        """Elementwise expected outcome from both linear predictors."""
        return np.asarray(self.occurrence.response.mean(first) * self.amount.response.mean(second))

    def slopes(self, first: Floats, second: Floats) -> tuple[Floats, Floats]:
        """Derivatives of the product in either linear predictor, elementwise."""
        occurrence, amount = self.occurrence.response, self.amount.response
        return occurrence.slope(first) * amount.mean(second), occurrence.mean(first) * amount.slope(second)

    def gradients(self, rows: csr_array, weights: csr_array) -> tuple[csr_array, csr_array]:
        """Derivatives of the averages with respect to each part's coefficients, at the estimates."""
        slopes = self.slopes(*self.means(rows))
        found = [
            csr_array(csr_array(weights.multiply(slope.reshape(1, -1))) @ part.own(rows))
            for part, slope in zip(self.parts, slopes, strict=True)
        ]
        return found[0], found[1]

    def draws(self, size: int, seed: int) -> tuple[Floats, Floats]:
        """Draws of both parts' coefficients, row by row a joint draw: at most ``size`` of a posterior, else ``size`` of the normal one."""
        kept = [len(part.fit.covariance_draws[0]) for part in self.parts if part.fit.covariance_draws is not None]
        size = min([size, *kept])
        first, second = (part.fit.joint.draws(size, seed + place) for place, part in enumerate(self.parts))
        return first, second

    def _drawn(self, rows: csr_array, weights: csr_array) -> Floats:
        """(g, S) averages, one column a draw."""
        size = max(FEWEST_DRAWS, MOST_EVALUATIONS // max(1, rows.shape[0]))
        drawn = self.draws(size, 0)
        values = np.empty((weights.shape[0], len(drawn[0])))
        own = [part.own(rows) for part in self.parts]
        step = max(1, VALUES_AT_ONCE // max(1, rows.shape[0]))
        for at in range(0, len(drawn[0]), step):
            here = slice(at, at + step)
            first, second = (np.asarray(x @ coefficients[here].T) for x, coefficients in zip(own, drawn, strict=True))
            values[:, here] = weights @ self.product(first, second)
        return values


def log_normal(estimate: Floats, std_error: Floats, interval: float) -> Summary:
    """A normal interval on the log scale about a positive estimate (delta method)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.exp(ndtri(0.5 + interval / 2.0) * std_error / estimate)
    return Summary(estimate, std_error, estimate / reach, estimate * reach)


def product_of_fits(occurrence: Fit, amount: Fit) -> TwoPartFit:
    """Both parts of one formula, whose columns and levels are the same."""
    return TwoPartFit(PartFit(occurrence), PartFit(amount), occurrence.design)
