"""Averages of the response over the common mix, one per level (design section 7): rows of coefficients, and the weights that average them.

For level g of a factor the estimand is sum over own leaves l of g and common bins m of w(l | g) w(m) h(eta(l, m)), h the inverse link, eta
the linear predictor that joins the leaf's own effects and predictors to the bin's row predictors and other trees' effects. Under the
identity link this is linear and exact. Otherwise each bin carries its averaged row, corrected for what differs within the bin: under a log
link by the ratio of the average response to the response of the average, which is exact at the estimates; under a logit link by drawing the
row in, E expit(Normal(m, v)) = expit(m / sqrt(1 + c^2 v)) to about 0.001 (Demidenko 2013, section 7.1.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array, vstack

from multilevel.cells import Floats, Integers
from multilevel.fit import Fit, Summary
from multilevel.interpretation.residuals import predictor_variance
from multilevel.tables.bins import MOST_BINS, MOST_CROSSED, MOST_PATTERNS, distinct_rows, patterns, quantile_bins
from multilevel.tables.crossings import crossings, unseen_variance
from multilevel.tables.effect_rows import effect_places
from multilevel.tables.level_variance import LevelVariance
from multilevel.tables.nesting import Nesting
from multilevel.tables.response import Response, response_interval
from multilevel.tables.sides import Sides, averaging, pair_rows, scales, split_sides

MOST_PAIRS = 10_000
"""Pairs of bins aimed at for one factor under a link that is not the identity."""

_MOST_LEAVES = 2_000
_MOST_ROWS = 500_000
_CHUNK_ENTRIES = 3_000_000


@dataclass(frozen=True)
class OwnBins:
    """Bins of one own side, sorted by level.

    codes : (C,) the bin of each cell. level, weight : (B,) the bin's level and its weight there. ratio, spread : (B,) see ``CommonBins``.
    """

    codes: Integers
    level: Integers
    weight: Floats
    ratio: Floats
    spread: Floats

    @property
    def n_bins(self) -> int:
        """B."""
        return len(self.level)


@dataclass(frozen=True)
class CommonBins:
    """Bins of the common side.

    codes : (C,) the bin of each cell. weight : (M,) summing to 1. ratio : (M,) average response over that of the averaged row (log link,
    else 1). spread : (M,) variance of the linear predictor within the bin (logit link, else 0).
    """

    codes: Integers
    weight: Floats
    ratio: Floats
    spread: Floats

    @property
    def n_bins(self) -> int:
        """M."""
        return len(self.weight)


@dataclass(frozen=True)
class Standardisation:
    """Everything that averages the response for the levels of one factor."""

    fit: Fit
    response: Response
    sides: Sides
    own: OwnBins
    common: CommonBins
    own_variance: Floats
    common_variance: Floats
    n_levels: int

    def chunks(self) -> Iterator[tuple[slice, csr_array, csr_array]]:
        """(levels, rows, weights) a chunk: ``weights`` (levels, m) averages the response of ``rows`` (m, p + q)."""
        n = self.fit.design.cells.n.astype(float)
        own = averaging(self.own.codes, self.own.n_bins, n)
        common = averaging(self.common.codes, self.common.n_bins, self.fit.design.cells.common_weight)
        for levels, bins in self._slices(common):
            averages = [csr_array(own[bins]), common]
            spread = np.add.outer(self.own.spread[bins], self.common.spread).ravel()
            weights, unseen = self._weights(levels, bins), self.unseen(averages)
            if self.response.link == "log" and np.any(unseen):
                weights = csr_array(weights @ diags_array(np.exp(unseen / 2.0)))
            elif self.response.link == "logit":
                spread = spread + unseen
            yield levels, draw_in(pair_rows(self.sides, averages), spread), weights

    def unseen(self, averages: Sequence[csr_array]) -> Floats:
        """(rows,) variance of the linear predictor from combinations of an ``a:b`` factor that were never seen."""
        total = np.zeros(int(np.prod([average.shape[0] for average in averages])))
        for crossing in self.sides.crossings:
            z = scales(self.sides, averages, crossing.block)
            total += unseen_variance(crossing, averages, z, self.fit.covariances[crossing.block])
        return total

    def respond(self) -> Summary:
        """(L,) the averages with their intervals."""
        joint, interval = self.fit.joint, self.fit.interval
        pieces = []
        for _, rows, weights in self.chunks():
            if self.response.is_linear:
                pieces.append(joint.combine(csr_array(weights @ rows), interval))
            else:
                pieces.append(joint.respond(rows, weights, self.response.mean, self.response.slope, interval))
        found = join(pieces)
        return response_interval(found, self.response, interval) if self.fit.engine == "likelihood" else found

    def gradients(self) -> csr_array:
        """(L, p + q) derivatives of the averages at the joint mean."""
        mean = self.fit.joint.mean
        pieces = []
        for _, rows, weights in self.chunks():
            slope = self.response.slope(np.asarray(rows @ mean))
            pieces.append(csr_array(csr_array(weights.multiply(slope.reshape(1, -1))) @ rows))
        return _vertical(pieces)

    def _weights(self, levels: slice, bins: slice) -> csr_array:
        n_own, n_common = bins.stop - bins.start, self.common.n_bins
        log_normal = np.exp(np.outer(self.own_variance[bins], self.common_variance) / 2.0)
        values = np.outer(self.own.weight[bins] * self.own.ratio[bins], self.common.weight * self.common.ratio) * log_normal
        rows = np.repeat(self.own.level[bins] - levels.start, n_common)
        shape = (levels.stop - levels.start, n_own * n_common)
        return csr_array(coo_array((values.ravel(), (rows, np.arange(n_own * n_common))), shape=shape))

    def _slices(self, common: csr_array) -> Iterator[tuple[slice, slice]]:
        """Consecutive levels, with their bins, of about ``_CHUNK_ENTRIES`` coefficients."""
        other = sum(
            min(common.nnz, common.shape[0] * block.factor.n_levels) * len(block.columns)
            for block, home in zip(self.sides.design.blocks, self.sides.home, strict=True)
            if home == self.sides.n_sides
        )
        per_bin = other + common.shape[0] * (len(self.sides.design.population) + 4)
        step = max(1, _CHUNK_ENTRIES // max(1, per_bin))
        first = np.searchsorted(self.own.level, np.arange(self.n_levels + 1))
        at = 0
        while at < self.n_levels:
            stop = max(at + 1, int(np.searchsorted(first, first[at] + step, side="right")) - 1)
            yield slice(at, stop), slice(int(first[at]), int(first[stop]))
            at = stop


def standardise(fit: Fit, nesting: Nesting, name: str, response: Response, variance: LevelVariance | None = None) -> Standardisation:
    """Prepare the averages of every level of factor ``name``; ``variance`` holds the log-variances of a ``log(y)`` study."""
    factor = nesting.factors[name]
    owned = nesting.own_tree(name)
    sides = split_sides(fit.design, [owned], crossings(fit.design, nesting, [owned]))
    own_part, common_part = variance_parts(variance, nesting, owned, fit.design.cells.n_cells)
    inner = [] if response.is_linear else [nesting.factors[other].codes.astype(np.int64) for other in sorted(owned - {name})]
    own = own_bins(fit, sides, 0, factor.codes.astype(np.int64), inner, response=response)
    common = common_bins(fit, sides, response, own.n_bins, own_part=own_part, common_part=common_part)
    n = fit.design.cells.n.astype(float)
    return Standardisation(
        fit,
        response,
        sides,
        own,
        common,
        np.asarray(averaging(own.codes, own.n_bins, n) @ own_part),
        np.asarray(averaging(common.codes, common.n_bins, fit.design.cells.common_weight) @ common_part),
        factor.n_levels,
    )


def variance_parts(variance: LevelVariance | None, nesting: Nesting, owned: frozenset[str], n_cells: int) -> tuple[Floats, Floats]:
    """(C,), (C,): sigma^2 of a cell as own part times common part; zeros and ones where means need no sigma."""
    if variance is None:
        return np.zeros(n_cells), np.ones(n_cells)
    factors = dict(nesting.factors)
    own = np.exp(variance.constant + variance.part(factors, owned))
    return own, np.exp(variance.part(factors, frozenset(factors) - owned))


def own_bins(
    fit: Fit, sides: Sides, side: int, level: Integers, inner: Sequence[Integers], *, response: Response, most_leaves: int = _MOST_LEAVES
) -> OwnBins:
    """Bins of a level's own mix: its leaves (combinations with the ``inner`` codes), put together where they are many; without ``inner``
    the level itself, which is exact under the identity link."""
    n = fit.design.cells.n.astype(float)
    n_levels = int(level.max()) + 1
    codes = distinct_rows([level.astype(float), *[code.astype(float) for code in inner]], len(level)) if inner else level
    are_binned = int(codes.max()) + 1 > max(most_leaves, n_levels)
    predictor = reference_predictor(sides, fit.joint.mean, side) if are_binned else np.zeros(len(n))
    if are_binned:
        codes = quantile_bins(level, predictor, n, max(1, min(MOST_BINS, 2 * most_leaves // n_levels)))
    n_bins = int(codes.max()) + 1
    level_of = np.zeros(n_bins, dtype=np.int64)
    level_of[codes] = level
    weight = np.bincount(codes, n, n_bins) / np.bincount(level, n, n_levels)[level_of]
    average = averaging(codes, n_bins, n)
    return OwnBins(codes, level_of, weight, *_corrections(average, predictor, np.zeros(len(n)), response))


def common_bins(fit: Fit, sides: Sides, response: Response, n_own: int, *, own_part: Floats, common_part: Floats) -> CommonBins:
    """Bins of the common mix: one under the identity link, else patterns of own slopes x quantiles of the rest of the predictor."""
    n, mix = fit.design.cells.n.astype(float), fit.design.cells.common_weight
    if response.is_linear:
        return CommonBins(np.zeros(len(n), dtype=np.int64), np.ones(1), np.ones(1), np.zeros(1))
    groups = patterns(sides, int(np.clip(_MOST_ROWS // n_own, 1, MOST_CROSSED if sides.crossings else MOST_PATTERNS)))
    predictor = reference_predictor(sides, fit.joint.mean, sides.n_sides)
    sigma2 = np.average(own_part, weights=n)
    spread = predictor_variance(fit.design, fit.joint.mean) + sigma2 * common_part
    most = int(np.clip(MOST_PAIRS // (n_own * (int(groups.max()) + 1)), 1, MOST_BINS))
    codes = quantile_bins(groups, predictor + (spread / 2.0 if response.link == "log" else 0.0), mix, most)
    n_bins = int(codes.max()) + 1
    average = averaging(codes, n_bins, mix)
    ratio, within = _corrections(average, predictor, spread, response)
    if response.link == "log":
        # the shared part of sigma^2 returns with each pair of bins, as a level has its own sigma
        ratio = ratio / np.exp(sigma2 * np.asarray(average @ common_part) / 2.0)
    return CommonBins(codes, np.bincount(codes, mix, n_bins) / mix.sum(), ratio, within)


def _corrections(average: csr_array, predictor: Floats, spread: Floats, response: Response) -> tuple[Floats, Floats]:
    """Ratio and spread of every bin, for cells with linear predictor ``predictor`` and variance ``spread`` of it within the cell."""
    n_bins = average.shape[0]
    centre = np.asarray(average @ predictor)
    if response.link == "log":
        return np.asarray(average @ np.exp(predictor + spread / 2.0)) / np.exp(centre), np.zeros(n_bins)
    if response.link == "logit":
        return np.ones(n_bins), np.maximum(np.asarray(average @ (predictor**2 + spread)) - centre**2, 0.0)
    return np.ones(n_bins), np.zeros(n_bins)


def draw_in(rows: csr_array, spread: Floats) -> csr_array:
    """Rows scaled for a variance ``spread`` (m,) of the linear predictor about each: the logistic-normal mean."""
    if not np.any(spread):
        return rows
    return csr_array(diags_array(attenuation(spread)) @ rows)


def attenuation(spread: Floats) -> Floats:
    """1 / sqrt(1 + c^2 v), c = 16 sqrt(3) / (15 pi)."""
    return 1.0 / np.sqrt(1.0 + (16.0 * np.sqrt(3.0) / (15.0 * np.pi)) ** 2 * spread)


def reference_predictor(sides: Sides, mean: Floats, side: int) -> Floats:
    """(C,) linear predictor at ``mean`` as one side varies over the cells, every other side averaged over them independently."""
    design = sides.design
    cells = design.cells
    shares = [cells.n / cells.n.sum()] * sides.n_sides + [cells.common_weight / cells.common_weight.sum()]
    others = [other for other in range(sides.n_sides + 1) if other != side]
    total = np.zeros(design.cells.n_cells)
    for place, split in enumerate(sides.population):
        total += mean[place] * split[side] * np.prod([shares[other] @ split[other] for other in others])
    for index, (block, home) in enumerate(zip(design.blocks, sides.home, strict=True)):
        for column, split in enumerate(sides.effects[index]):
            effects = mean[effect_places(design, index, column, block.factor.codes.astype(np.int64))]
            weighted = {place: part * effects if place == home else part for place, part in enumerate(split)}
            total += weighted[side] * np.prod([shares[other] @ weighted[other] for other in others]) * (home >= 0)
    return total


def join(pieces: list[Summary]) -> Summary:
    """Summaries one after the other."""
    return Summary(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("estimate", "std_error", "lower", "upper")))


def _vertical(pieces: list[csr_array]) -> csr_array:
    return csr_array(vstack(pieces, format="csr"))
