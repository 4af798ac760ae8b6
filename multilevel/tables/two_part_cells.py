"""``cell_estimates`` of a two-part outcome: one expected value for every combination of the study's two groups."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.catalogue.published_tables import arrow_schema
from multilevel.catalogue.table_assembly import Heading
from multilevel.design.nesting import Nesting
from multilevel.estimands.cell_pairs import cell_pair
from multilevel.estimands.combinations import Combinations, combination_chunks, combine, effect_variance, log_mean_error
from multilevel.estimands.level_variance import LevelVariance, widened
from multilevel.estimands.product import TwoPartFit
from multilevel.estimands.product_bins import TwoPartBinning
from multilevel.fit.container import Summary
from multilevel.fit.joint_draws import summary_about
from multilevel.tables.cell_estimates import combination_table

_DRAWS = 1_000
_AVERAGED_DRAWS = 100
_ROWS_AT_ONCE = 4_000


def two_part_cell_estimates(
    both: TwoPartFit, tree: Nesting, heading: Heading, columns: tuple[str, str] | None, variance: LevelVariance | None, seed: int
) -> pa.Table:
    """The whole table, empty where the study names no pair. ``variance``: the log-variances of a lognormal amount."""
    if columns is None:
        return arrow_schema("cell_estimates").empty_table()
    work = combine(TwoPartBinning(both), tree, cell_pair(both.design, tree, columns), variance)
    summary = Summary.joined([both.average(rows, weights) for rows, weights in combination_chunks(work)])
    unseen = np.flatnonzero(work.n == 0)
    error = np.zeros(len(work.n)) if variance is None else log_mean_error(work, tree, variance)
    if variance is not None:
        summary = widened(summary, error, both.interval)
    if work.pair.joint and len(unseen):
        summary = _with_unknown_effects(both, work, summary, unseen, error, seed)
    return combination_table(work, heading, summary)


def _with_unknown_effects(both: TwoPartFit, work: Combinations, summary: Summary, unseen: Integers, error: Floats, seed: int) -> Summary:
    """Combinations never seen under an ``a:b`` factor: both parts' effects are N(0, Sigma), at the mean of z'Sigma z.

    The estimate integrates them; the interval is of the combination's own mean, with everything else drawn jointly. ``error`` is the sd of
    each combination's sigma^2 / 2.
    """
    variances = [effect_variance(work, part.fit) for part in both.parts]
    rng = np.random.default_rng(seed)
    drawn = both.draws(_DRAWS, seed)
    unknown: list[Summary] = []
    at = 0
    for rows, weights in combination_chunks(work):
        here = unseen[(unseen >= at) & (unseen < at + weights.shape[0])]
        step = max(1, _ROWS_AT_ONCE * weights.shape[0] // rows.shape[0])
        for start in range(0, len(here), step):
            pairs = here[start : start + step]
            unknown.append(_unknown(both, rows, csr_array(weights[pairs - at]), variances, drawn, error[pairs], rng))
        at += weights.shape[0]
    return summary.replaced(unseen, Summary.joined(unknown))


def _unknown(
    both: TwoPartFit,
    rows: csr_array,
    weights: csr_array,
    variances: list[float],
    drawn: tuple[Floats, Floats],
    error: Floats,
    rng: np.random.Generator,
) -> Summary:
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
    return summary_about(np.mean(weights @ (means[0] * means[1]), axis=1), values, both.interval)
