"""Averages of the response over the common mix, one per level: rows of coefficients, and the weights that average them.

The definition is in docs/multilevel-models.md, section 3.

For level g of a factor the estimand is sum over own leaves l of g and common bins m of w(l | g) w(m) h(eta(l, m)), h the inverse link, eta
the linear predictor that joins the leaf's own effects and predictors to the bin's row predictors and other trees' effects. Under the
identity link this is linear and exact; otherwise ``binning`` says how cells are put together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array, vstack

from multilevel.arrays import Floats, Integers
from multilevel.design.nesting import Nesting
from multilevel.estimands.binning import MOST_LEAVES, Binning, CommonBins, OwnBins, draw_in
from multilevel.estimands.bins import distinct_rows
from multilevel.estimands.crossings import crossings, unseen_share
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.mix_parts import Sides, averaging, pair_rows, scales, split_sides
from multilevel.families.link import Link
from multilevel.fit.container import Fit, Summary

_CHUNK_ENTRIES = 3_000_000


@dataclass(frozen=True)
class Standardisation:
    """Everything that averages the response for the levels of one factor."""

    fit: Fit
    response: Link
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
            if self.response.is_multiplicative and np.any(unseen):
                weights = csr_array(weights @ diags_array(np.exp(unseen / 2.0)))
            elif self.response.name == "logit":
                spread = spread + unseen
            yield levels, draw_in(pair_rows(self.sides, averages), spread), weights

    def unseen(self, averages: Sequence[csr_array]) -> Floats:
        """(rows,) variance of the linear predictor from combinations of an ``a:b`` factor that were never seen."""
        total = np.zeros(int(np.prod([average.shape[0] for average in averages])))
        for crossing in self.sides.crossings:
            z = scales(self.sides, averages, crossing.block)
            total += unseen_share(crossing, averages) * self.fit.effect_variance(crossing.block, z)
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
        found = Summary.joined(pieces)
        return joint.on_response_scale(found, self.response, interval)

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


def standardise(
    binning: Binning, nesting: Nesting, name: str, variance: LevelVariance | None, *, most_leaves: int = MOST_LEAVES
) -> Standardisation:
    """Prepare the averages of every level of factor ``name``; ``variance`` holds the log-variances of a ``log(y)`` outcome."""
    design, owned = binning.fit.design, nesting.own_tree(name)
    sides = split_sides(design, [owned], crossings(design, nesting, [owned]))
    inner = [nesting.factors[other].codes.astype(np.int64) for other in sorted(owned - {name})]
    level = nesting.factors[name].codes.astype(np.int64)
    return averages_of_levels(binning, sides, level, inner, variance_parts(variance, nesting, owned, design.cells.n_cells), most_leaves)


def population_averages(binning: Binning, sides: Sides, level: Integers) -> Standardisation:
    """The averages of a model whose levels' leaves are no more than their distinct group-level predictors: ``level`` (C,)."""
    n_cells = binning.fit.design.cells.n_cells
    inner = [] if binning.response.is_linear else [distinct_rows([split[0] for split in sides.population], n_cells)]
    return averages_of_levels(binning, sides, level, inner, (np.zeros(n_cells), np.ones(n_cells)))


def averages_of_levels(
    binning: Binning, sides: Sides, level: Integers, inner: Sequence[Integers], parts: tuple[Floats, Floats], most_leaves: int = MOST_LEAVES
) -> Standardisation:
    """The averages of the levels in ``level`` (C,), whose leaves the ``inner`` codes tell apart; ``parts``: own and common of sigma^2."""
    own_part, common_part = parts
    own = binning.own(sides, 0, level, inner, most_leaves)
    common = binning.common(sides, own.n_bins, own_part=own_part, common_part=common_part)
    cells = binning.fit.design.cells
    return Standardisation(
        binning.fit,
        binning.response,
        sides,
        own,
        common,
        np.asarray(averaging(own.codes, own.n_bins, cells.n.astype(float)) @ own_part),
        np.asarray(averaging(common.codes, common.n_bins, cells.common_weight) @ common_part),
        int(level.max()) + 1,
    )


def variance_parts(variance: LevelVariance | None, nesting: Nesting, owned: frozenset[str], n_cells: int) -> tuple[Floats, Floats]:
    """(C,), (C,): sigma^2 of a cell as own part times common part; zeros and ones where means need no sigma."""
    if variance is None:
        return np.zeros(n_cells), np.ones(n_cells)
    factors = dict(nesting.factors)
    own = np.exp(variance.constant + variance.part(factors, owned))
    return own, np.exp(variance.part(factors, frozenset(factors) - owned))


def _vertical(pieces: list[csr_array]) -> csr_array:
    return csr_array(vstack(pieces, format="csr"))
