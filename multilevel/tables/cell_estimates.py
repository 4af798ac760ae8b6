"""``cell_estimates``: the expected outcome of every combination of the study's two groups, those never seen included."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array
from scipy.special import ndtri

from multilevel.arrays import Floats
from multilevel.catalogue.published_tables import arrow_schema
from multilevel.catalogue.table_assembly import Heading, Values, published_table
from multilevel.design.nesting import Nesting
from multilevel.estimands.binning import OnePartBinning
from multilevel.estimands.cell_pairs import cell_pair
from multilevel.estimands.combinations import Combinations, combination_chunks, combine, effect_variance, log_mean_error
from multilevel.estimands.level_variance import LevelVariance, widened
from multilevel.estimands.response import response_of
from multilevel.families.link import Link
from multilevel.fit.container import Fit, Summary


def cell_estimates(
    fit: Fit, nesting: Nesting, heading: Heading, columns: tuple[str, str] | None, variance: LevelVariance | None = None
) -> pa.Table:
    """The whole table, empty where the study names no pair. ``variance``: the log-variances of a ``log(y)`` study."""
    if columns is None:
        return arrow_schema("cell_estimates").empty_table()
    work = combine(OnePartBinning(fit, response_of(fit.design.cells)), nesting, cell_pair(fit.design, nesting, columns), variance)
    summary = _respond(work)
    if variance is not None:
        summary = widened(summary, log_mean_error(work, nesting, variance), fit.interval)
    if work.pair.joint:
        summary = _with_unknown_effect(work, summary, work.n == 0)
    return combination_table(work, heading, summary)


def _respond(work: Combinations) -> Summary:
    pieces = []
    for rows, weights in combination_chunks(work):
        if work.response.is_linear:
            pieces.append(work.fit.joint.combine(csr_array(weights @ rows), work.fit.interval))
        else:
            pieces.append(work.fit.joint.respond(rows, weights, work.response.mean, work.response.slope, work.fit.interval))
    found = Summary.joined(pieces)
    return work.fit.joint.on_response_scale(found, work.response, work.fit.interval)


def _with_unknown_effect(work: Combinations, summary: Summary, is_new: Floats) -> Summary:
    """Combinations never seen under an ``a:b`` factor: its effect is N(0, Sigma), added on the link scale at the mean of z'Sigma z.

    The interval is that of a normal linear predictor whose variance is the sum of both, moved through the link; exact for identity.
    """
    variance = effect_variance(work, work.fit)
    response = work.response
    half = ndtri(0.5 + work.fit.interval / 2.0)
    if response.is_linear:
        error = np.sqrt(summary.std_error**2 + variance)
        changed = Summary(summary.estimate, error, summary.estimate - half * error, summary.estimate + half * error)
    else:
        centre = response.inverse(summary.estimate)
        spread = np.sqrt((summary.std_error / response.slope(centre)) ** 2 + variance)
        estimate = response.average(centre, np.full(len(centre), variance))
        second = response.average(2.0 * centre, 4.0 * spread**2) if response.is_multiplicative else _second_moment(response, centre, spread)
        first = response.average(centre, spread**2)
        error = np.sqrt(np.maximum(second - first**2, 0.0))
        changed = Summary(estimate, error, response.mean(centre - half * spread), response.mean(centre + half * spread))
    unseen = np.flatnonzero(is_new)
    return summary.replaced(unseen, changed.at(unseen))


def _second_moment(response: Link, centre: Floats, spread: Floats) -> Floats:
    nodes, weights = np.polynomial.hermite_e.hermegauss(31)
    values = response.mean(centre[:, None] + spread[:, None] * nodes) ** 2
    return np.asarray(values @ (weights / weights.sum()))


def combination_table(work: Combinations, heading: Heading, summary: Summary) -> pa.Table:
    """``cell_estimates`` from the summary of every combination, the first column's levels slowest."""
    pair, n = work.pair, work.n
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
