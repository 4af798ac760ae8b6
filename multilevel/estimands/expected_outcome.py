"""What the tables average: the expected outcome of a study, which is one response, or the product of the two of a two-part model.

Tables and averages know this protocol only. ``OneResponse`` and ``ResponseProduct`` implement it, each once; ``expected_outcome`` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from scipy.sparse import csr_array, diags_array

from multilevel.arrays import Floats, Integers
from multilevel.design.model import Design
from multilevel.estimands.binning import CommonBins, OwnBins, draw_in
from multilevel.estimands.mix_parts import Sides
from multilevel.estimands.new_group_mix import NewMixes
from multilevel.estimands.response import response_of
from multilevel.families.link import Link
from multilevel.fit.container import Fit, Summary
from multilevel.fit.shared_rows import Rows, columns_of

type PartRows = tuple[Rows, ...]
"""Per part (m, p + q) rows of its own coefficients."""

type Chunk = tuple[PartRows, csr_array]
"""Rows of every part, and the weights (g, m) that average what is expected at them."""


@dataclass(frozen=True)
class PartFit:
    """One part's fit, and which columns of the common layout (p + q places) its coefficients are; None where it has them all."""

    fit: Fit
    places: Integers | None = None

    @property
    def response(self) -> Link:
        """Inverse link, on the scale of y for ``log y``."""
        return response_of(self.fit.design.cells)

    def own(self, rows: Rows) -> Rows:
        """The layout's rows (m, p + q) as this part's."""
        return rows if self.places is None else columns_of(rows, self.places)

    def mean(self, width: int) -> Floats:
        """(p + q,) estimates in the common layout, 0 where the part has no such column."""
        if self.places is None:
            return self.fit.joint.mean
        whole = np.zeros(width)
        whole[self.places] = self.fit.joint.mean
        return whole


@dataclass(frozen=True)
class UnknownVariance:
    """Variance of an effect never seen, on the link scale: at the estimates, and (T,) at the points of theta with their weights."""

    estimate: float
    points: Floats
    weights: Floats


class ExpectedOutcome(Protocol):
    """The expected outcome at rows of coefficients, with the uncertainty of every part."""

    @property
    def parts(self) -> tuple[PartFit, ...]:
        """One, or occurrence and amount."""

    @property
    def design(self) -> Design:
        """The common layout: all cells at the weights of all rows, with every column that a part has."""

    @property
    def interval(self) -> float:
        """Probability of the equal-tailed intervals."""

    @property
    def has_draws(self) -> bool:
        """Whether the joint distribution is one of posterior draws."""

    @property
    def is_linear(self) -> bool:
        """Whether averages over rows can be taken before the link."""

    def of(self, parts: Sequence[PartFit], design: Design) -> Self:
        """The same outcome under other fits, with the layout ``design``."""

    def own(
        self, sides: Sides, side: int, level: Integers, inner: Sequence[Integers], most_leaves: int, weight: Floats | None = None
    ) -> OwnBins:
        """Bins of an own side: leaves are combinations of ``level`` (C,) and the ``inner`` codes, put together above ``most_leaves``.
        ``weight`` (C,) of the cells; None: their line items."""

    def common(self, sides: Sides, n_own: int, *, own_part: Floats, common_part: Floats) -> CommonBins:
        """Bins of the common side beside ``n_own`` bins of the own ones; the parts (C,) are those of sigma^2 of ``log y``."""

    def bins_of(self, sides: Sides, codes: Integers, *, own_part: Floats, common_part: Floats) -> CommonBins:
        """Bins of the common side from the code (C,) of each cell's bin; the parts (C,) are those of sigma^2 of ``log y``."""

    def expected(self, predictors: Sequence[Floats]) -> Floats:
        """What is expected at the linear predictors of every part, elementwise."""

    def average(self, rows: PartRows, weights: csr_array) -> Summary:
        """(g,) averages of what is expected at ``rows``."""

    def gradients(self, rows: PartRows, weights: csr_array) -> PartRows:
        """Per part (g, p + q) derivatives of the averages at the estimates."""

    def sensitivities(self, estimate: Floats, chunks: Callable[[], Iterable[Chunk]]) -> tuple[Floats, ...]:
        """Per part (g,) how much an average moves when that part's linear predictor does, by the same amount in all rows."""

    def draws(self, size: int, seed: int) -> tuple[Floats, ...]:
        """Per part (S, p + q) draws, row by row a joint draw."""

    def new_levels(self, mixes: NewMixes, seed: int) -> Summary:
        """(M,) expected outcomes of levels never seen."""

    def unseen_pairs(
        self, known: Summary, chunks: Callable[[], Iterator[Chunk]], variances: Sequence[UnknownVariance], error: Floats, seed: int
    ) -> Summary:
        """(M,) expected outcomes of combinations never seen.

        Parameters
        ----------
        known : (M,) what is expected at an effect of zero. chunks : rows and weights of the same combinations, in their order.
        variances : per part that of the unknown effect on the link scale. error : (M,) sd of sigma^2 / 2 of ``log y``, which ``known``
            has already.
        """


def integrated(parts: Sequence[PartFit], rows: Rows, weights: csr_array, spread: Floats, unseen: Sequence[Floats]) -> Chunk:
    """A chunk from the layout's rows (m, p + q), with what the linear predictors vary by about them integrated.

    spread : (m,) variance within the bins, under a logit link. unseen : per part (m,) variance from effects never seen. The mean of an
    inverse logit is found by drawing the row in, that of an exponential is a factor of the weight.
    """
    own = []
    for part, variance in zip(parts, unseen, strict=True):
        within = spread
        if part.response.is_multiplicative and np.any(variance):
            weights = csr_array(weights @ diags_array(np.exp(variance / 2.0)))
        elif part.response.is_logistic:
            within = spread + variance
        own.append(draw_in(part.own(rows), within))
    return tuple(own), weights
