"""The expected outcome of every combination of the study's two groups: what averages a response over each of their mixes.

As in ``standardise``, with two own sides: rows of coefficients for every pairing of the first column's bins with the second's and with the
common ones, and the weights that average their responses within a combination.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array

from multilevel.arrays import Codes, Floats, Integers
from multilevel.design.effect_rows import effect_places
from multilevel.design.model import Design
from multilevel.design.nesting import Nesting
from multilevel.estimands.binning import CommonBins, OwnBins
from multilevel.estimands.cell_pairs import CellPair
from multilevel.estimands.crossings import crossings
from multilevel.estimands.expected_outcome import Chunk, ExpectedOutcome, UnknownVariance, integrated
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.mix_parts import Sides, averaging, pair_rows, scales, split_sides
from multilevel.fit.container import Fit
from multilevel.fit.shared_rows import as_csr

_CHUNK_ENTRIES = 3_000_000
_MOST_LEAVES = 400
_ROWS_AT_ONCE = 4_000


@dataclass(frozen=True)
class Combinations:
    """What averages the response over the mix of every combination: sides, bins, the parts of sigma^2, and the mix of ``a:b`` levels."""

    outcome: ExpectedOutcome
    pair: CellPair
    sides: Sides
    own: tuple[OwnBins, OwnBins]
    common: CommonBins
    variances: tuple[Floats, Floats, Floats]
    members: dict[int, csr_array]

    @property
    def n(self) -> Integers:
        """(pairs,) line items of each combination; 0 where it was never seen."""
        return np.bincount(_pair_codes(self.pair), self.outcome.design.cells.n, self.pair.shape[0] * self.pair.shape[1]).astype(np.int64)


def combine(outcome: ExpectedOutcome, nesting: Nesting, pair: CellPair, variance: LevelVariance | None) -> Combinations:
    """Prepare the averages of every combination; ``variance``: the log-variances of a ``log(y)`` outcome."""
    design = outcome.design
    # an interaction with what is common to all combinations; one of the two columns alone is looked up by combination, see ``joint``
    crossed = tuple(found for found in crossings(design, nesting, pair.owned) if found.codes[-1].max() > 0)
    sides = split_sides(design, [*(names | pair.joint for names in pair.owned)], crossed)
    loose = {design.blocks[found.block].factor.name for found in crossed}
    first, second = (
        outcome.own(sides, side, labels.codes.astype(np.int64), _inner(nesting, pair.owned[side] - loose), _MOST_LEAVES)
        for side, labels in enumerate((pair.first, pair.second))
    )
    parts = _variance_parts(variance, nesting, pair, design.cells.n_cells)
    common = outcome.common(sides, first.n_bins * second.n_bins, own_part=parts[0] * parts[1], common_part=parts[2])
    n, mix = design.cells.line_items, design.cells.common_weight
    codes: list[tuple[Codes | Integers, int]]
    codes = [(first.codes, first.n_bins), (second.codes, second.n_bins), (common.codes, common.n_bins)]
    averaged = [np.asarray(averaging(*code, weights) @ part) for code, weights, part in zip(codes, (n, n, mix), parts, strict=True)]
    blocks = [index for index, block in enumerate(design.blocks) if block.factor.name in pair.joint - loose]
    members = {index: _joint_members(design, pair, index) for index in blocks}
    return Combinations(outcome, pair, sides, (first, second), common, (averaged[0], averaged[1], averaged[2]), members)


def _inner(nesting: Nesting, owned: frozenset[str]) -> list[Integers]:
    """Codes that tell a level's leaves apart, where the link makes them matter."""
    return [nesting.factors[name].codes.astype(np.int64) for name in sorted(owned)]


def _variance_parts(variance: LevelVariance | None, nesting: Nesting, pair: CellPair, n_cells: int) -> tuple[Floats, Floats, Floats]:
    """(C,) each: sigma^2 of a cell as the product of either column's part and the common one; zeros and ones without."""
    if variance is None:
        return np.zeros(n_cells), np.ones(n_cells), np.ones(n_cells)
    factors = dict(nesting.factors)
    rest = frozenset(factors) - pair.owned[0] - pair.owned[1]
    first, second, common = (np.exp(variance.part(factors, names)) for names in (*pair.owned, rest))
    return first * np.exp(variance.constant), second, common


def combination_chunks(work: Combinations) -> Iterator[Chunk]:
    """Rows and weights for consecutive levels of the first column, each with all levels of the second."""
    design = work.outcome.design
    n = design.cells.line_items
    first, second = (averaging(bins.codes, bins.n_bins, n) for bins in work.own)
    common = averaging(work.common.codes, work.common.n_bins, design.cells.common_weight)
    other = min(common.nnz, common.shape[0] * max((b.factor.n_levels for b in design.blocks), default=1))
    per_bin = second.shape[0] * (other + common.shape[0] * (len(design.population) + 4))
    step = max(1, _CHUNK_ENTRIES // per_bin)
    starts = np.searchsorted(work.own[0].level, np.arange(work.pair.shape[0] + 1))
    at = 0
    while at < work.pair.shape[0]:
        stop = max(at + 1, int(np.searchsorted(starts, starts[at] + step, side="right")) - 1)
        bins = slice(int(starts[at]), int(starts[stop]))
        averages = [csr_array(first[bins]), second, common]
        rows = pair_rows(work.sides, averages)
        pairs = _pairs_of_rows(work, bins)
        for block, members in work.members.items():
            rows = csr_array(rows + _joint_rows(work, averages, block, members, pairs))
        spread = np.add.outer(np.add.outer(work.own[0].spread[bins], work.own[1].spread), work.common.spread).ravel()
        weights = _weights(work, slice(at, stop), bins, pairs)
        yield integrated(work.outcome.parts, rows, weights, spread, [np.zeros(len(spread)) for _ in work.outcome.parts])
        at = stop


def unseen_chunks(work: Combinations, unseen: Integers) -> Iterator[Chunk]:
    """Rows and weights of the combinations at the places ``unseen`` (M,), ascending, a few thousand rows at once."""
    at = 0
    for rows, weights in combination_chunks(work):
        n_pairs, n_rows = weights.shape
        here = unseen[(unseen >= at) & (unseen < at + n_pairs)] - at
        step = max(1, _ROWS_AT_ONCE * n_pairs // n_rows)
        for start in range(0, len(here), step):
            chosen = csr_array(weights[here[start : start + step]])
            used = np.unique(chosen.indices)
            yield tuple(csr_array(as_csr(own)[used]) for own in rows), csr_array(chosen[:, used])
        at += n_pairs


def _pairs_of_rows(work: Combinations, bins: slice) -> Integers:
    """Which combination each row of a chunk belongs to, counted over the whole table."""
    first, second = work.own[0].level[bins], work.own[1].level
    return np.repeat((first[:, None] * work.pair.shape[1] + second[None, :]).ravel(), work.common.n_bins)


def _weights(work: Combinations, levels: slice, bins: slice, pairs: Integers) -> csr_array:
    first, second = (side.weight * side.ratio for side in work.own)
    own = np.outer(first[bins], second).ravel()
    sigma2 = np.outer(work.variances[0][bins], work.variances[1]).ravel()
    values = np.outer(own, work.common.weight * work.common.ratio) * np.exp(np.outer(sigma2, work.variances[2]) / 2.0)
    n_pairs = (levels.stop - levels.start) * work.pair.shape[1]
    start = levels.start * work.pair.shape[1]
    return csr_array(coo_array((values.ravel(), (pairs - start, np.arange(len(pairs)))), shape=(n_pairs, len(pairs))))


def _joint_members(design: Design, pair: CellPair, block: int) -> csr_array:
    """(pairs, L) the mix of an ``a:b`` factor's levels in each combination; a row of zeros where it was never seen."""
    n = design.cells.line_items
    codes = _pair_codes(pair)
    totals = np.bincount(codes, n, pair.shape[0] * pair.shape[1])
    factor = design.blocks[block].factor
    return csr_array(coo_array((n / totals[codes], (codes, factor.codes)), shape=(len(totals), factor.n_levels)))


def _joint_rows(work: Combinations, averages: list[csr_array], block: int, members: csr_array, pairs: Integers) -> csr_array:
    design = work.outcome.design
    z = scales(work.sides, averages, block)
    picked = coo_array(members[pairs])
    row, level = (np.asarray(index, np.int64) for index in picked.coords)
    shape = (len(pairs), len(design.population) + design.n_effects)
    total = csr_array(shape)
    for column in range(z.shape[1]):
        places = effect_places(design, block, column, level)
        total = csr_array(total + coo_array((picked.data * z[row, column], (row, places)), shape=shape).tocsr())
    return total


def log_mean_error(work: Combinations, nesting: Nesting, variance: LevelVariance) -> Floats:
    """(pairs,) sd of sigma^2 / 2 in each combination, from the log-variances of its two levels."""
    pair, cells = work.pair, work.outcome.design.cells
    errors: list[Floats] = []
    sigma2: list[Floats] = []
    for labels, own, part in zip((pair.first, pair.second), work.own, work.variances, strict=False):
        n = np.bincount(labels.codes, cells.n)
        squared = np.zeros(len(cells.n))
        for name, factor in nesting.factors.items():
            if name in pair.owned[len(errors)]:
                squared = squared + variance.std_errors[name][factor.codes] ** 2
        errors.append(np.bincount(labels.codes, cells.n * squared) / n)
        sigma2.append(np.bincount(labels.codes, cells.n * part[own.codes]) / n)
    common = float(work.common.weight @ work.variances[2])
    return common * np.outer(*sigma2).ravel() / 2.0 * np.sqrt(np.add.outer(*errors) + variance.mean_error**2).ravel()


def effect_variance(work: Combinations, fit: Fit) -> UnknownVariance:
    """Mean over line items of z'Sigma z of the ``a:b`` blocks, with the covariances of ``fit``."""
    weights = work.outcome.design.cells.common_weight
    total, points = 0.0, np.zeros(len(fit.theta_weights))
    for block in work.members:
        z = np.column_stack([np.prod(split, axis=0) for split in work.sides.effects[block]])
        total += float(np.average(fit.effect_variance(block, z), weights=weights))
        points = points + np.average(fit.effect_variances(block, z), axis=0, weights=weights)
    return UnknownVariance(total, points, fit.theta_weights)


def _pair_codes(pair: CellPair) -> Integers:
    """(C,) the combination of each cell, first column slowest."""
    return pair.first.codes.astype(np.int64) * len(pair.second.values) + pair.second.codes
