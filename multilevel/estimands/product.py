"""The expected outcome of a two-part model: P(y > 0) E[y | y > 0], both parts' linear predictors on the same pairs of bins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.design.model import Design
from multilevel.estimands.binning import MOST_LEAVES, CommonBins, OwnBins
from multilevel.estimands.expected_outcome import Chunk, PartFit, UnknownVariance
from multilevel.estimands.mix_parts import Sides
from multilevel.estimands.new_group_mix import NewMixes
from multilevel.estimands.new_product import new_product
from multilevel.estimands.product_bins import bins_of_codes, common_bins, own_bins
from multilevel.estimands.two_responses import TwoResponses
from multilevel.estimands.unseen_product import product_of_unseen
from multilevel.fit.container import Summary


class ResponseProduct(TwoResponses):
    """As ``ExpectedOutcome``, of two fits."""

    @property
    def is_linear(self) -> bool:
        """Never."""
        return False

    def of(self, parts: Sequence[PartFit], design: Design) -> ResponseProduct:
        """The same under other fits."""
        occurrence, amount = parts
        return ResponseProduct(occurrence, amount, design)

    def own(
        self,
        sides: Sides,
        side: int,
        level: Integers,
        inner: Sequence[Integers],
        most_leaves: int = MOST_LEAVES,
        weight: Floats | None = None,
    ) -> OwnBins:
        """A level's leaves; where they are many, put together by quantiles of both linear predictors."""
        return own_bins(self, sides, side, level, inner, most_leaves, weight)

    def common(self, sides: Sides, n_own: int, *, own_part: Floats, common_part: Floats) -> CommonBins:
        """Patterns of own slopes, cut on both linear predictors of what is common."""
        return common_bins(self, sides, n_own, own_part=own_part, common_part=common_part)

    def bins_of(self, sides: Sides, codes: Integers, *, own_part: Floats, common_part: Floats) -> CommonBins:
        """Bins whose cells are given, corrected for what differs within them in either predictor."""
        return bins_of_codes(self, sides, codes, own_part=own_part, common_part=common_part)

    def expected(self, predictors: Sequence[Floats]) -> Floats:
        """The product of both responses."""
        first, second = predictors
        return self.product(first, second)

    def sensitivities(self, estimate: Floats, chunks: Callable[[], Iterable[Chunk]]) -> tuple[Floats, ...]:
        """The averages of the product's derivatives in either linear predictor."""
        pieces = [[weights @ slope for slope in self.slopes(*self.means(rows))] for rows, weights in chunks()]
        return tuple(np.concatenate([np.asarray(piece[place]) for piece in pieces]) for place in range(len(self.parts)))

    def new_levels(self, mixes: NewMixes, seed: int) -> Summary:
        """(M,) expected outcomes of levels never seen."""
        return new_product(self, mixes, seed)

    def unseen_pairs(
        self, known: Summary, chunks: Callable[[], Iterator[Chunk]], variances: Sequence[UnknownVariance], error: Floats, seed: int
    ) -> Summary:
        """Both parts' effects integrated, and drawn for the interval."""
        return product_of_unseen(self, chunks, variances, error, seed)
