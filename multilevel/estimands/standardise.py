"""Averages of the response over the common mix, one per level: rows of coefficients, and the weights that average them.

The definition is in docs/multilevel-models.md, section 3.

For level g of a factor the estimand is sum over own leaves l of g and common bins m of w(l | g) w(m) h(eta(l, m)), h the inverse link, eta
the linear predictor that joins the leaf's own effects and predictors to the bin's row predictors and other trees' effects. Under the
identity link this is linear and exact; otherwise ``binning`` says how cells are put together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import coo_array, csr_array

from multilevel.arrays import Floats, Integers
from multilevel.design.nesting import Nesting
from multilevel.estimands.binning import MOST_LEAVES, CommonBins, OwnBins
from multilevel.estimands.bins import distinct_rows
from multilevel.estimands.crossings import crossings, unseen_share
from multilevel.estimands.expected_outcome import Chunk, ExpectedOutcome, PartRows, integrated
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.mix_parts import Sides, averaging, bin_means, scales, shared_pair_rows, split_sides
from multilevel.fit.container import Summary
from multilevel.fit.shared_rows import SharedRows, n_entries
from multilevel.fit.theta_points import in_turn

_CHUNK_ENTRIES = 3_000_000

_MOST_KEPT = 10_000_000
"""Entries of all rows of one factor up to which they are kept: 120 MB."""


@dataclass(frozen=True)
class BinPairs:
    """Rows of coefficients (m, p + q) of the layout, weights (g, m) that average them, and (m,) the variance of the predictor within each
    pair of bins; ``averages`` lead from cells to the bins."""

    rows: SharedRows
    weights: csr_array
    spread: Floats
    averages: tuple[csr_array, ...]


@dataclass(frozen=True)
class Standardisation:
    """Everything that averages the expected outcome for the levels of one factor.

    own_weight : (C,) what cells weigh within their level: their line items, or those of a member over all of the member's. integrated :
    blocks whose effects are those of new members, with mean zero and their covariance, whatever the cell.
    """

    outcome: ExpectedOutcome
    sides: Sides
    own: OwnBins
    common: CommonBins
    own_variance: Floats
    common_variance: Floats
    n_levels: int
    own_weight: Floats
    integrated: frozenset[int] = frozenset()
    _made: list[Chunk] = field(default_factory=list, init=False, repr=False, compare=False)

    def chunks(self) -> Iterator[Chunk]:
        """Rows and weights of consecutive levels: ``weights`` (levels, m) averages what is expected at ``rows`` (m, p + q).

        They are made once where they have few entries, however many cells they were made of.
        """
        if self._made:
            yield from self._made
            return
        made, entries = [], 0
        for pairs in self.pairs():
            chunk = integrated(self.outcome.parts, pairs.rows, pairs.weights, pairs.spread, self.unseen(pairs.averages))
            entries += chunk[1].nnz + sum(n_entries(rows) for rows in chunk[0])
            if entries <= _MOST_KEPT:
                made.append(chunk)
            yield chunk
        if entries <= _MOST_KEPT and not self._made:
            self._made.extend(made)

    def under(self, outcome: ExpectedOutcome) -> Standardisation:
        """The same averages under other fits of the same columns, of an outcome that is linear: bins and rows are the same."""
        other = replace(self, outcome=outcome)
        other._made.extend(self._made)
        return other

    @property
    def most_rows(self) -> int:
        """The most rows of one chunk."""
        cells = self.outcome.design.cells
        common = averaging(self.common.codes, self.common.n_bins, cells.common_weight)
        return max(bins.stop - bins.start for _, bins in self._slices(common)) * self.common.n_bins

    def pairs(self) -> Iterator[BinPairs]:
        """Pairs of own and common bins of consecutive levels, nothing integrated yet."""
        cells = self.outcome.design.cells
        own = averaging(self.own.codes, self.own.n_bins, self.own_weight)
        common = averaging(self.common.codes, self.common.n_bins, cells.common_weight)
        for levels, bins in self._slices(common):
            averages = (csr_array(own[bins]), common)
            spread = np.add.outer(self.own.spread[bins], self.common.spread).ravel()
            yield BinPairs(shared_pair_rows(self.sides, averages, self.integrated), self._weights(levels, bins), spread, averages)

    def unseen(self, averages: Sequence[csr_array]) -> tuple[Floats, ...]:
        """Per part (rows,) variance of the linear predictor from effects that are not known: of new members, and of combinations of an
        ``a:b`` factor that were never seen."""
        n_rows = int(np.prod([average.shape[0] for average in averages]))
        totals = [np.zeros(n_rows) for _ in self.outcome.parts]
        for block, share in self.unseen_shares(averages).items():
            z = scales(self.sides, averages, block)
            for place, part in enumerate(self.outcome.parts):
                totals[place] += share * part.fit.effect_variance(block, z)
        return tuple(totals)

    def unseen_shares(self, averages: Sequence[csr_array]) -> dict[int, Floats | float]:
        """Per block with effects that are not known, the share (rows,) of each row for which they are not."""
        shares: dict[int, Floats | float] = {crossing.block: unseen_share(crossing, averages) for crossing in self.sides.crossings}
        return shares | dict.fromkeys(self.integrated, 1.0)

    def respond(self) -> Summary:
        """(L,) the averages with their intervals."""
        fits = [part.fit for part in self.outcome.parts]
        return Summary.joined(list(in_turn(lambda chunk: self.outcome.average(*chunk), self.chunks(), fits)))

    def gradient_chunks(self) -> Iterator[PartRows]:
        """Per part (levels, p + q) derivatives of the averages at the joint mean, of consecutive levels."""
        for rows, weights in self.chunks():
            yield self.outcome.gradients(rows, weights)

    def _weights(self, levels: slice, bins: slice) -> csr_array:
        n_own, n_common = bins.stop - bins.start, self.common.n_bins
        log_normal = np.exp(np.outer(self.own_variance[bins], self.common_variance) / 2.0)
        values = np.outer(self.own.weight[bins] * self.own.ratio[bins], self.common.weight * self.common.ratio) * log_normal
        rows = np.repeat(self.own.level[bins] - levels.start, n_common)
        shape = (levels.stop - levels.start, n_own * n_common)
        return csr_array(coo_array((values.ravel(), (rows, np.arange(n_own * n_common))), shape=shape))

    def _slices(self, common: csr_array) -> Iterator[tuple[slice, slice]]:
        """Consecutive levels, with their bins, of about ``_CHUNK_ENTRIES`` coefficients of their own."""
        per_bin = common.shape[0] * (len(self.sides.design.population) + len(self.sides.design.blocks) + 4)
        step = max(1, _CHUNK_ENTRIES // max(1, per_bin))
        first = np.searchsorted(self.own.level, np.arange(self.n_levels + 1))
        at = 0
        while at < self.n_levels:
            stop = max(at + 1, int(np.searchsorted(first, first[at] + step, side="right")) - 1)
            yield slice(at, stop), slice(int(first[at]), int(first[stop]))
            at = stop


def standardise(
    outcome: ExpectedOutcome, nesting: Nesting, name: str, variance: LevelVariance | None, *, most_leaves: int = MOST_LEAVES
) -> Standardisation:
    """Prepare the averages of every level of factor ``name``; ``variance`` holds the log-variances of a ``log(y)`` outcome."""
    design, owned = outcome.design, nesting.own_tree(name)
    sides = split_sides(design, [owned], crossings(design, nesting, [owned]))
    inner = [nesting.factors[other].codes.astype(np.int64) for other in sorted(owned - {name})]
    level = nesting.factors[name].codes.astype(np.int64)
    return averages_of_levels(outcome, sides, level, inner, variance_parts(variance, nesting, owned, design.cells.n_cells), most_leaves)


def population_averages(outcome: ExpectedOutcome, sides: Sides, level: Integers) -> Standardisation:
    """The averages of a model whose levels' leaves are no more than their distinct group-level predictors: ``level`` (C,)."""
    n_cells = outcome.design.cells.n_cells
    inner = [] if outcome.is_linear else [distinct_rows([split[0] for split in sides.population], n_cells)]
    return averages_of_levels(outcome, sides, level, inner, (np.zeros(n_cells), np.ones(n_cells)))


def averages_of_levels(
    outcome: ExpectedOutcome,
    sides: Sides,
    level: Integers,
    inner: Sequence[Integers],
    parts: tuple[Floats, Floats],
    most_leaves: int = MOST_LEAVES,
    weight: Floats | None = None,
    integrated: frozenset[int] = frozenset(),
) -> Standardisation:
    """The averages of the levels in ``level`` (C,), whose leaves the ``inner`` codes tell apart; ``parts``: own and common of sigma^2.

    ``weight`` (C,) and ``integrated``: see ``Standardisation``; None: line items.
    """
    own_part, common_part = parts
    own_weight = outcome.design.cells.line_items if weight is None else weight
    own = outcome.own(sides, 0, level, inner, most_leaves, own_weight)
    common = outcome.common(sides, own.n_bins, own_part=own_part, common_part=common_part)
    cells = outcome.design.cells
    return Standardisation(
        outcome,
        sides,
        own,
        common,
        bin_means(own.codes, own.n_bins, own_weight, own_part),
        bin_means(common.codes, common.n_bins, cells.common_weight, common_part),
        int(level.max()) + 1,
        own_weight,
        integrated,
    )


def variance_parts(
    variance: LevelVariance | None, nesting: Nesting, owned: frozenset[str], n_cells: int, without: frozenset[str] = frozenset()
) -> tuple[Floats, Floats]:
    """(C,), (C,): sigma^2 of a cell as own part times common part; zeros and ones where means need no sigma.

    ``without`` names factors of the own tree whose effects are those of an average level.
    """
    if variance is None:
        return np.zeros(n_cells), np.ones(n_cells)
    factors = dict(nesting.factors)
    own = np.exp(variance.constant + variance.part(factors, owned - without))
    return own, np.exp(variance.part(factors, frozenset(factors) - owned - without))
