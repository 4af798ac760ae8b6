"""``cell_estimates`` of a two-part outcome: one expected value for every combination of the study's two groups."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from multilevel.cells import Floats, Integers
from multilevel.fit import Summary
from multilevel.tables.assemble import Heading, Values, published_table
from multilevel.tables.catalogue import arrow_schema
from multilevel.tables.cell_estimates import (
    MOST_LEAVES,
    Combinations,
    combination_chunks,
    joint_members,
    log_mean_error,
    pair_codes,
    pair_variance_parts,
)
from multilevel.tables.cell_pairs import CellPair, cell_pair
from multilevel.tables.crossings import crossings
from multilevel.tables.level_variance import LevelVariance, widened
from multilevel.tables.nesting import Nesting
from multilevel.tables.sides import averaging, split_sides
from multilevel.tables.standardise import join
from multilevel.tables.two_part import Part, TwoPartFit
from multilevel.tables.two_part_bins import paired_common_bins, paired_own_bins

_DRAWS = 1_000
_AVERAGED_DRAWS = 100
_ROWS_AT_ONCE = 4_000


def two_part_cell_estimates(
    both: TwoPartFit, tree: Nesting, heading: Heading, columns: tuple[str, str] | None, variance: LevelVariance | None, seed: int
) -> pa.Table:
    """The whole table, empty where the study names no pair. ``variance``: the log-variances of a lognormal amount."""
    if columns is None:
        return arrow_schema("cell_estimates").empty_table()
    pair = cell_pair(both.design, tree, columns)
    work = _prepare(both, tree, pair, variance)
    summary = join([both.average(rows, weights) for rows, weights in combination_chunks(work)])
    n = np.bincount(pair_codes(pair), both.design.cells.n, pair.shape[0] * pair.shape[1]).astype(np.int64)
    error = np.zeros(len(n)) if variance is None else log_mean_error(work, tree, variance)
    if variance is not None:
        summary = widened(summary, error, both.interval)
    if pair.joint and np.any(n == 0):
        summary = _with_unknown_effects(both, work, summary, np.flatnonzero(n == 0), error, seed)
    values: dict[str, Values] = {
        "customer_group": np.repeat(pair.first.values, pair.shape[1]),
        "product_group": np.tile(pair.second.values, pair.shape[0]),
        "estimate": summary.estimate,
        "std_error": summary.std_error,
        "lower": summary.lower,
        "upper": summary.upper,
        "n": n,
        "is_new": n == 0,
    }
    return published_table("cell_estimates", heading, values)


def _prepare(both: TwoPartFit, tree: Nesting, pair: CellPair, variance: LevelVariance | None) -> Combinations:
    cells = both.design.cells
    n, mix = cells.n.astype(float), cells.common_weight
    crossed = tuple(found for found in crossings(both.design, tree, pair.owned) if found.codes[-1].max() > 0)
    sides = split_sides(both.design, [*(names | pair.joint for names in pair.owned)], crossed)
    loose = {both.design.blocks[found.block].factor.name for found in crossed}
    own = [
        paired_own_bins(
            both,
            sides,
            side,
            labels.codes.astype(np.int64),
            [tree.factors[name].codes.astype(float) for name in sorted(pair.owned[side] - loose)],
            most_leaves=MOST_LEAVES,
        )
        for side, labels in enumerate((pair.first, pair.second))
    ]
    parts = pair_variance_parts(variance, tree, pair, cells.n_cells)
    common = paired_common_bins(both, sides, own[0].n_bins * own[1].n_bins, own_part=parts[0] * parts[1], common_part=parts[2])
    codes = [(own[0].codes, own[0].n_bins), (own[1].codes, own[1].n_bins), (common.codes, common.n_bins)]
    averaged = [np.asarray(averaging(*code, weights) @ part) for code, weights, part in zip(codes, (n, n, mix), parts, strict=True)]
    blocks = [index for index, block in enumerate(both.design.blocks) if block.factor.name in pair.joint - loose]
    members = {index: joint_members(both.fit, pair, index) for index in blocks}
    response = both.amount.response
    return Combinations(both.fit, pair, response, sides, (own[0], own[1]), common, (averaged[0], averaged[1], averaged[2]), members)


def _with_unknown_effects(both: TwoPartFit, work: Combinations, summary: Summary, unseen: Integers, error: Floats, seed: int) -> Summary:
    """Combinations never seen under an ``a:b`` factor: both parts' effects are N(0, Sigma), at the mean of z'Sigma z.

    The estimate integrates them; the interval is of the combination's own mean, with everything else drawn jointly. ``error`` is the sd of
    each combination's sigma^2 / 2.
    """
    variances = [_effect_variance(part, work) for part in both.parts]
    rng = np.random.default_rng(seed)
    drawn = both.draws(_DRAWS, seed)
    fields = [np.array(getattr(summary, name)) for name in ("estimate", "std_error", "lower", "upper")]
    at = 0
    for rows, weights in combination_chunks(work):
        here = unseen[(unseen >= at) & (unseen < at + weights.shape[0])]
        step = max(1, _ROWS_AT_ONCE * weights.shape[0] // rows.shape[0])
        for start in range(0, len(here), step):
            pairs = here[start : start + step]
            found = _unknown(both, rows, csr_array(weights[pairs - at]), variances, drawn, error[pairs], rng)
            for field, value in zip(fields, found, strict=True):
                field[pairs] = value
        at += weights.shape[0]
    return Summary(*fields)


def _unknown(
    both: TwoPartFit,
    rows: csr_array,
    weights: csr_array,
    variances: list[float],
    drawn: tuple[Floats, Floats],
    error: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, ...]:
    used = np.unique(weights.indices)
    rows, weights = csr_array(rows[used]), csr_array(weights[:, used])
    member = np.zeros(len(used), dtype=np.int64)
    member[weights.indices] = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    size = len(drawn[0])
    predictors = [np.asarray(rows @ draws.T) for draws in drawn]
    moved = [
        eta + np.sqrt(variance) * rng.standard_normal((weights.shape[0], size))[member]
        for eta, variance in zip(predictors, variances, strict=True)
    ]
    values = weights @ both.product(moved[0], moved[1]) * np.exp(error[:, None] * rng.standard_normal((weights.shape[0], size)))
    if both.is_bayesian:
        centres = [eta[:, :: max(1, size // _AVERAGED_DRAWS)] for eta in predictors]
    else:
        centres = [eta[:, None] for eta in both.means(rows)]
    means = [
        part.response.average(centre, np.full((len(used), 1), variance))
        for part, centre, variance in zip(both.parts, centres, variances, strict=True)
    ]
    tail = (1.0 - both.interval) / 2.0
    lower, upper = np.quantile(values, [tail, 1.0 - tail], axis=1)
    return np.mean(weights @ (means[0] * means[1]), axis=1), values.std(axis=1, ddof=1), lower, upper


def _effect_variance(part: Part, work: Combinations) -> float:
    """Mean over line items of z'Sigma z of the ``a:b`` blocks."""
    weights = work.fit.design.cells.common_weight
    total = 0.0
    for block in work.members:
        z = np.column_stack([np.prod(split, axis=0) for split in work.sides.effects[block]])
        total += float(np.average(np.einsum("ri,ij,rj->r", z, part.fit.covariances[block], z), weights=weights))
    return total
