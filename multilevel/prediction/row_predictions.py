"""Expected outcomes at rows of a table, from the saved joint distribution: at the levels' own effects, or integrated over new ones.

With eta = x'(beta, b) + offset, the expected outcome is the inverse link of eta; an effect never seen is b ~ N(0, Sigma), and z'Sigma z
joins eta's variance (Gelman and Hill 2006, section 12.8). The interval is for the expected outcome, not for a single line item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from multilevel.arrays import Floats
from multilevel.estimands.level_variance import widened
from multilevel.estimands.two_responses import log_normal
from multilevel.families.link import LOG, Link
from multilevel.fit.container import Summary
from multilevel.fit.interval_estimates import Moments, around, back_from_link
from multilevel.prediction.next_outcome import next_outcomes, told
from multilevel.prediction.prediction_rows import At, outcome_sizes, prediction_rows
from multilevel.prediction.row_parts import RowPart
from multilevel.prediction.saved_model import SavedModel

VALUES_AT_ONCE = 8_000_000
"""Doubles of one linear predictor's draws that are held at once."""


def predict(
    models: Sequence[SavedModel], at: At, *, interval: float | None = None, of_next: bool = False, seed: int = 0
) -> tuple[Summary, np.ndarray]:
    """(N,) expected outcomes on the response scale, and whether a row has a level that the fit has not seen.

    Parameters
    ----------
    models : one, or the two parts of a two-part model: then the expected value is P(y > 0) E[y | y > 0].
    at : the rows. interval : probability of the intervals; None: the study's. of_next : bounds and standard deviation of the next outcome
        (of so many trials a share), in place of those of its expectation.
    seed : of the effects never seen.

    Raises
    ------
    DataError
        A row cannot be predicted; the message names the column and the row.
    """
    probability = models[0].interval if interval is None else interval
    parts = [
        RowPart(model, prediction_rows(model, at), outcome_sizes(model, at) if of_next else None, seed + place)
        for place, model in enumerate(models)
    ]
    step = max(1, VALUES_AT_ONCE // max(model.joint.row_values for model in models))
    work: Callable[[Sequence[RowPart], slice, float], Summary] = _drawn if models[0].has_draws else _normal
    slices = [slice(start, min(start + step, at.n_rows)) for start in range(0, at.n_rows, step)]
    pieces = [work(parts, here, probability) for here in slices]
    if of_next:
        pieces = [told(piece, next_outcomes(parts, here, probability)) for piece, here in zip(pieces, slices, strict=True)]
    return Summary.joined(pieces), parts[0].rows.is_new


def _drawn(parts: Sequence[RowPart], here: slice, interval: float) -> Summary:
    """From posterior draws: the mean integrates new effects out, the quantiles take one for each draw."""
    means, values = [], []
    for part in parts:
        eta = part.centre(here)[:, None] + part.model.spread(csr_array(part.rows.rows[here]))
        # at the posterior mean of Sigma, as in the tables: under a log link the mean over Sigma's own tail need not exist
        means.append(part.response.average(eta, part.unseen(here, draws=False)))
        error = part.variance_error(here)
        noise = 0.0 if error is None else error[:, None] * part.of_variance
        values.append(part.response.mean(eta + noise + np.sqrt(part.unseen(here, draws=True)) * part.of_effects))
    drawn, mean = np.prod(values, axis=0), np.prod(means, axis=0)
    tail = (1.0 - interval) / 2.0
    lower, upper = np.quantile(drawn, [tail, 1.0 - tail], axis=1)
    return Summary(mean.mean(axis=1), drawn.std(axis=1, ddof=1), lower, upper)


def _normal(parts: Sequence[RowPart], here: slice, interval: float) -> Summary:
    """Normal at each point of theta: intervals on the link scale; a product's on the log scale (delta method)."""
    each = [_normal_part(part, here, interval) for part in parts]
    if len(each) == 1:
        return each[0]
    estimate = np.prod([one.estimate for one in each], axis=0)
    relative = np.sqrt(np.sum([(one.std_error / one.estimate) ** 2 for one in each], axis=0))
    product = log_normal(estimate, estimate * relative, interval)
    seen = np.flatnonzero(~parts[0].rows.is_new[here])
    return product.replaced(seen, _product(parts, here, interval).at(seen)) if len(seen) else product


def _product(parts: Sequence[RowPart], here: slice, interval: float) -> Summary:
    """(n,) products of rows without new effects: as ``TwoResponses.average`` of one row."""
    centres = [part.centre(here) for part in parts]
    errors = [part.variance_error(here) for part in parts]
    found = [part.moments(here) for part in parts]
    at = np.arange(max(len(one.weights) for one in found))
    mean, variance, weights = np.zeros((1, 1)), np.zeros((1, 1)), np.ones(1)
    for part, one, centre in zip(parts, found, centres, strict=True):
        turn = at % len(one.weights)
        steep = (part.response.slope(centre) / part.response.mean(centre)) ** 2
        mean = mean + np.log(part.response.mean(one.mean[:, turn]))
        variance = variance + steep[:, None] * one.variance[:, turn]
        weights = weights * one.weights[turn]
    estimate = np.prod([part.response.mean(centre) for part, centre in zip(parts, centres, strict=True)], axis=0)
    known = back_from_link(estimate, Moments(mean, variance, weights / weights.sum()), LOG, interval)
    error = next((one for one in errors if one is not None), None)
    return known if error is None else widened(known, error, interval)


def _normal_part(part: RowPart, here: slice, interval: float) -> Summary:
    response = part.response
    centre = part.centre(here)
    known = back_from_link(response.mean(centre), part.moments(here), response, interval)
    error = part.variance_error(here)
    if error is not None:
        known = widened(known, error, interval)
    new = part.unseen(here, draws=False)[:, 0]
    if not np.any(new > 0):
        return known
    found = part.moments(here).wider(*part.unseen_points(here))
    if error is not None:
        found = replace(found, variance=found.variance + error[:, None] ** 2)
    lower, upper = (response.mean(bound) for bound in found.bounds(interval))
    summary = around(response.average(centre, new), _spread(response, found, (lower, upper), interval), lower, upper)
    is_new = np.flatnonzero(new > 0)
    return known.replaced(is_new, summary.at(is_new))


def _spread(response: Link, found: Moments, bounds: tuple[Floats, Floats], interval: float) -> Floats:
    """(n,) sd of the inverse link of a linear predictor with the distribution ``found``; under a log link, where it need not exist, from
    the ``bounds`` on the response scale."""
    if response.is_linear:
        return np.sqrt(found.total)
    if response.is_multiplicative:
        return np.asarray((bounds[1] - bounds[0]) / (2.0 * ndtri(0.5 + interval / 2.0)))
    nodes, shares = np.polynomial.hermite_e.hermegauss(31)
    spread, second = np.sqrt(found.variance), np.zeros(found.mean.shape)
    for node, share in zip(nodes, shares / shares.sum(), strict=True):
        second += share * response.mean(found.mean + spread * node) ** 2
    first = response.average(found.mean, found.variance) @ found.weights
    return np.sqrt(np.maximum(second @ found.weights - first**2, 0.0))
