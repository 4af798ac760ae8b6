"""The expected outcome of a model of one part: the inverse link of one linear predictor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.design.model import Design
from multilevel.estimands.binning import (
    MOST_LEAVES,
    MOST_PAIRS,
    MOST_ROWS,
    CommonBins,
    OwnBins,
    corrections,
    level_bins,
    reference_predictor,
)
from multilevel.estimands.bins import MOST_BINS, MOST_CROSSED, MOST_PATTERNS, distinct_rows, patterns, quantile_bins
from multilevel.estimands.expected_outcome import Chunk, PartFit, PartRows, UnknownVariance
from multilevel.estimands.mix_parts import Sides, averaging
from multilevel.estimands.new_group_mix import NewMixes
from multilevel.estimands.new_response import new_response
from multilevel.estimands.unseen_response import with_unknown_effect
from multilevel.families.link import Link
from multilevel.fit.container import Fit, Summary
from multilevel.fit.interval_estimates import averages, joint_draws
from multilevel.fit.residuals import predictor_variance
from multilevel.fit.shared_rows import averaged


@dataclass(frozen=True)
class OneResponse:
    """As ``ExpectedOutcome``, of one fit."""

    part: PartFit
    design: Design

    @classmethod
    def of_fit(cls, fit: Fit) -> OneResponse:
        """Of a fit with its own columns."""
        return cls(PartFit(fit), fit.design)

    @property
    def parts(self) -> tuple[PartFit, ...]:
        """The one."""
        return (self.part,)

    @property
    def fit(self) -> Fit:
        """The part's."""
        return self.part.fit

    @property
    def response(self) -> Link:
        """Inverse link, on the scale of y for ``log y``."""
        return self.part.response

    @property
    def interval(self) -> float:
        """Probability of the equal-tailed intervals."""
        return self.fit.interval

    @property
    def has_draws(self) -> bool:
        """Whether the joint distribution is one of posterior draws."""
        return self.fit.has_draws

    @property
    def is_linear(self) -> bool:
        """Under the identity link."""
        return self.response.is_linear

    def of(self, parts: Sequence[PartFit], design: Design) -> OneResponse:
        """The same under another fit."""
        [part] = parts
        return OneResponse(part, design)

    def own(
        self,
        sides: Sides,
        side: int,
        level: Integers,
        inner: Sequence[Integers],
        most_leaves: int = MOST_LEAVES,
        weight: Floats | None = None,
    ) -> OwnBins:
        """A level's leaves, put together by quantiles of the linear predictor where they are many; the level itself under the identity
        link, which is exact."""
        if self.is_linear:
            inner = []
        n = self.design.cells.line_items if weight is None else weight
        n_levels = int(level.max()) + 1
        codes = distinct_rows([level.astype(float), *[code.astype(float) for code in inner]], len(level)) if inner else level
        are_binned = int(codes.max()) + 1 > max(most_leaves, n_levels)
        predictor = reference_predictor(sides, self._mean, side) if are_binned else np.zeros(len(n))
        if are_binned:
            codes = quantile_bins(level, predictor, n, max(1, min(MOST_BINS, 2 * most_leaves // n_levels)))
        if self.is_linear:
            return level_bins(codes, level, n, _nothing_to_correct(int(codes.max()) + 1))
        average = averaging(codes, int(codes.max()) + 1, n)
        return level_bins(codes, level, n, corrections(average, predictor, np.zeros(len(n)), self.response))

    def common(self, sides: Sides, n_own: int, *, own_part: Floats, common_part: Floats) -> CommonBins:
        """One under the identity link, else patterns of own slopes x quantiles of the rest of the predictor."""
        n, mix = self.design.cells.line_items, self.design.cells.common_weight
        if self.is_linear:
            return CommonBins(np.zeros(len(n), dtype=np.int64), np.ones(1), np.ones(1), np.zeros(1))
        groups = patterns(sides, int(np.clip(MOST_ROWS // n_own, 1, MOST_CROSSED if sides.crossings else MOST_PATTERNS)))
        predictor = reference_predictor(sides, self._mean, sides.n_sides)
        sigma2 = np.average(own_part, weights=n)
        spread = predictor_variance(self.design, self._mean) + sigma2 * common_part
        most = int(np.clip(MOST_PAIRS // (n_own * (int(groups.max()) + 1)), 1, MOST_BINS))
        codes = quantile_bins(groups, predictor + (spread / 2.0 if self.response.is_multiplicative else 0.0), mix, most)
        return self.bins_of(sides, codes, own_part=own_part, common_part=common_part)

    def bins_of(self, sides: Sides, codes: Integers, *, own_part: Floats, common_part: Floats) -> CommonBins:
        """Bins whose cells are given, corrected for what differs within them."""
        n, mix = self.design.cells.line_items, self.design.cells.common_weight
        n_bins = int(codes.max()) + 1
        weight = np.bincount(codes, mix, n_bins) / mix.sum()
        if self.is_linear:
            return CommonBins(codes, weight, *_nothing_to_correct(n_bins))
        predictor = reference_predictor(sides, self._mean, sides.n_sides)
        sigma2 = np.average(own_part, weights=n)
        spread = predictor_variance(self.design, self._mean) + sigma2 * common_part
        average = averaging(codes, n_bins, mix)
        ratio, within = corrections(average, predictor, spread, self.response)
        if self.response.is_multiplicative:
            # the shared part of sigma^2 returns with each pair of bins, as a level has its own sigma
            ratio = ratio / np.exp(sigma2 * np.asarray(average @ common_part) / 2.0)
        return CommonBins(codes, weight, ratio, within)

    @property
    def _mean(self) -> Floats:
        return self.part.mean(len(self.design.population) + self.design.n_effects)

    def expected(self, predictors: Sequence[Floats]) -> Floats:
        """The inverse link of the one."""
        [predictor] = predictors
        return self.response.mean(predictor)

    def average(self, rows: PartRows, weights: csr_array) -> Summary:
        """Exact under the identity link, else by the delta method or draw by draw."""
        [own] = rows
        return averages(self.fit, own, weights, self.response, self.interval)

    def gradients(self, rows: PartRows, weights: csr_array) -> PartRows:
        """Slopes of the inverse link times the rows."""
        [own] = rows
        slope = self.response.slope(np.asarray(own @ self.fit.joint.mean))
        return (averaged(csr_array(weights.multiply(slope.reshape(1, -1))), own),)

    def sensitivities(self, estimate: Floats, chunks: Callable[[], Iterable[Chunk]]) -> tuple[Floats, ...]:
        """The slope of the inverse link at the averages themselves."""
        if self.is_linear:
            return (np.ones(len(estimate)),)
        return (self.response.slope(self.response.inverse(np.maximum(estimate, 1e-12))),)

    def draws(self, size: int, seed: int) -> tuple[Floats, ...]:
        """Of the fit's joint distribution."""
        return (joint_draws(self.fit, size, seed),)

    def new_levels(self, mixes: NewMixes, seed: int) -> Summary:
        """(M,) expected outcomes of levels never seen."""
        return new_response(self.fit, self.response, mixes, seed)

    def unseen_pairs(
        self, known: Summary, chunks: Callable[[], Iterator[Chunk]], variances: Sequence[UnknownVariance], error: Floats, seed: int
    ) -> Summary:
        """The unknown effect added on the link scale, about the average that is expected without it."""
        [variance] = variances
        return with_unknown_effect(self.response, known, variance, self.interval)


def _nothing_to_correct(n_bins: int) -> tuple[Floats, Floats]:
    """Ratio and spread of bins under the identity link."""
    return np.ones(n_bins), np.zeros(n_bins)
