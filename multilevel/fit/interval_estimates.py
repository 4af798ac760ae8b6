"""The one door through which tables and saved models get estimates with intervals from a fit.

Draws are summarised as they are. Other intervals carry what is unknown of the variance parameters theta: they are
quantiles of a mixture of normal distributions, one at each point of ``Fit.theta``, taken on the link scale, where conditional
distributions are nearest to normal. The likelihood engine's estimates stay those at the estimated theta; a posterior's are the mixture's
means.

With m_k and v_k the mean and variance at point k: std_error^2 = mean v_k + var m_k (the law of total variance), and the bounds solve
mean Phi((x - m_k) / sqrt v_k) = tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri

from multilevel.arrays import Floats
from multilevel.families.link import Link, within_range
from multilevel.fit.container import Fit, Summary
from multilevel.fit.shared_rows import Rows, averaged, scaled
from multilevel.fit.theta_spread import ThetaSpread

EXACT_VALUES = 2_000_000
"""Quantities times points up to which quantiles of the mixture are solved for; above, Cornish and Fisher's expansion gives them."""

CACHED_VALUES = 100_000
"""Of them that are worked on at once: they stay in the processor's cache."""

BISECTIONS = 40

SMALLEST = 1e-300
"""Standard deviation in place of zero: the distribution is a step."""


ONE = np.ones(1)


@dataclass(frozen=True)
class Moments:
    """Conditional means and variances of m quantities at K points, each (m, K); K is 1 where the distribution is normal. ``weights`` (K,)
    of the points sum to one."""

    mean: Floats
    variance: Floats
    weights: Floats

    @property
    def total(self) -> Floats:
        """(m,) variances."""
        quantities, points = self.mean.shape
        found, step = np.empty(quantities), max(1, CACHED_VALUES // points)
        for at in range(0, quantities, step):
            mean = self.mean[at : at + step]
            away = mean - (mean @ self.weights)[:, None]
            found[at : at + step] = (self.variance[at : at + step] + away * away) @ self.weights
        return found

    def wider(self, variance: Floats, weights: Floats) -> Moments:
        """With independent variances (m, T) added at T points of theta with ``weights`` (T,): those that are here already, or any number
        beside one."""
        shape = np.broadcast_shapes(self.mean.shape, variance.shape)
        kept = weights if self.mean.shape[1] == 1 else self.weights
        return Moments(np.broadcast_to(self.mean, shape), np.broadcast_to(self.variance, shape) + variance, kept)

    def bounds(self, interval: float, most: int = EXACT_VALUES) -> tuple[Floats, Floats]:
        """(m,), (m,) equal-tailed; of more than ``most`` values by an expansion."""
        lower, upper = mixture_bounds(self, (1.0 - interval) / 2.0, most)
        return lower, upper


def point_weights(spread: ThetaSpread) -> Floats:
    """(K,) of the conditional distributions: those of theta's points, or the one."""
    return spread.weights if spread.n_points > 1 else ONE


def spread_of(fit: Fit) -> ThetaSpread | None:
    """Where theta's uncertainty is known apart from draws."""
    return None if fit.has_draws else fit.theta


def variance_uncertainty(fits: Sequence[Fit]) -> str | None:
    """What the tables call the way in which intervals carry what is unknown of the variances, of all parts together; None where some part
    holds them at their estimates."""
    if fits[0].has_draws:
        return "posterior"
    methods = [None if fit.theta is None else fit.theta.method for fit in fits]
    return next(method for method in (None, "integration", "expansion", "posterior") if method in methods)


def moments(fit: Fit, rows: Rows) -> Moments:
    """Of ``rows @ (beta, b)``, of a fit without draws; at the estimated theta alone where the fit knows no other."""
    spread = spread_of(fit)
    if spread is None:
        found = fit.joint.combine(rows, fit.interval)
        return Moments(found.estimate[:, None], found.std_error[:, None] ** 2, ONE)
    return Moments(spread.predictors(rows), spread.variances(rows), point_weights(spread))


def combined(fit: Fit, rows: Rows, interval: float | None = None) -> Summary:
    """Linear combinations ``rows @ (beta, b)``."""
    probability = fit.interval if interval is None else interval
    if spread_of(fit) is None:
        return fit.joint.combine(rows, probability)
    return summary_of(np.asarray(rows @ fit.joint.mean), moments(fit, rows), probability)


def std_errors(fit: Fit, rows: Rows) -> Floats:
    """(m,) of ``rows @ (beta, b)``."""
    if spread_of(fit) is None:
        return fit.joint.combine(rows, fit.interval).std_error
    return np.sqrt(moments(fit, rows).total)


def spread_about(fit: Fit, rows: Rows, centre: csr_array) -> Floats:
    """(m,) sds of ``(rows - centre) @ (beta, b)``; ``centre`` is (1, p + q)."""
    spread = spread_of(fit)
    return fit.joint.spread_about(rows, centre) if spread is None else spread.spread_about(rows, centre)


def covariance_about(fit: Fit, rows: Rows, centre: csr_array) -> Floats:
    """(m, m) covariance of ``(rows - centre) @ (beta, b)``."""
    spread = spread_of(fit)
    return fit.joint.covariance_about(rows, centre) if spread is None else spread.covariance_about(rows, centre)


def averages(fit: Fit, rows: Rows, weights: csr_array, link: Link, interval: float) -> Summary:
    """Averages ``weights @ link.mean(rows @ (beta, b))``, by the delta method or draw by draw, with limits inside the outcome's range."""
    joint, spread = fit.joint, spread_of(fit)
    if spread is None:
        if link.is_linear:
            return joint.on_response_scale(joint.combine(averaged(weights, rows), interval), link, interval)
        return joint.on_response_scale(joint.respond(rows, weights, link.mean, link.slope, interval), link, interval)
    if link.is_linear:
        return combined(fit, averaged(weights, rows), interval)
    predictor = np.asarray(rows @ joint.mean)
    estimate = np.asarray(weights @ link.mean(predictor))
    # on the link scale the gradient hardly changes with theta
    gradient = averaged(weights, scaled(rows, link.slope(predictor)))
    own_slope = link.slope(link.inverse(estimate))
    at_points = np.stack([np.asarray(weights @ link.mean(np.asarray(rows @ location))) for location in spread.locations], axis=1)
    found = Moments(link.inverse(at_points), spread.variances(gradient) / own_slope[:, None] ** 2, point_weights(spread))
    return back_from_link(estimate, found, link, interval)


def back_from_link(estimate: Floats, found: Moments, link: Link, interval: float) -> Summary:
    """The summary of ``estimate`` (m,) on the response scale, whose distribution on the link scale is ``found``."""
    mean, slope = link.mean(found.mean), link.slope(found.mean)
    error = np.sqrt(Moments(mean, slope**2 * found.variance, found.weights).total)
    lower, upper = (link.mean(within_range(bound)) for bound in found.bounds(interval))
    return around(estimate, error, lower, upper)


def joint_draws(fit: Fit, size: int, seed: int) -> Floats:
    """(size, p + q) joint draws: of the posterior, or with theta's uncertainty of the likelihood engine's distribution."""
    spread = spread_of(fit)
    return fit.joint.draws(size, seed) if spread is None else spread.draws(size, seed)


def summary_of(estimate: Floats, found: Moments, interval: float) -> Summary:
    """Estimates (m,) with the standard errors and bounds of ``found``."""
    return around(estimate, np.sqrt(found.total), *found.bounds(interval))


def around(estimate: Floats, std_error: Floats, lower: Floats, upper: Floats) -> Summary:
    """A summary whose interval contains its estimate, which the mixture need not do where the estimated theta is far from its mean."""
    return Summary(estimate, std_error, np.minimum(lower, estimate), np.maximum(upper, estimate))


def from_bounds(summary: Summary, interval: float) -> Summary:
    """With standard errors from the bounds: an average whose logarithm has an uncertain variance need not have a standard deviation."""
    return replace(summary, std_error=(summary.upper - summary.lower) / (2.0 * float(ndtri(0.5 + interval / 2.0))))


def mixture_bounds(found: Moments, tail: float, most: int = EXACT_VALUES) -> tuple[Floats, Floats]:
    """(m,), (m,) x with mean_k Phi((x - m_k) / sd_k) = ``tail``, and with 1 - ``tail``."""
    mean, sd = found.mean, np.sqrt(found.variance)
    z = float(ndtri(tail))
    if mean.shape[1] == 1:
        return np.asarray((mean + z * sd)[:, 0]), np.asarray((mean - z * sd)[:, 0])
    if mean.size > most:
        return _cornish_fisher(found, z)
    return _solved(found, tail, mean + z * sd), _solved(found, 1.0 - tail, mean - z * sd)


def mixture_quantiles(found: Moments, probability: Floats) -> Floats:
    """As ``mixture_quantile``, at each quantity's own probability (m,); always solved for."""
    mean, sd, z = found.mean, np.sqrt(found.variance), ndtri(probability)[:, None]
    each = mean + z * sd
    if mean.shape[1] == 1:
        return np.asarray(each[:, 0])
    step = max(1, EXACT_VALUES // mean.shape[1])
    slices = [slice(at, at + step) for at in range(0, len(mean), step)]
    pieces = [_solved(Moments(mean[here], found.variance[here], found.weights), probability[here], each[here]) for here in slices]
    return np.concatenate(pieces) if pieces else np.zeros(0)


def _solved(found: Moments, probability: float | Floats, each: Floats) -> Floats:
    """The mixture's quantile lies between those ``each`` (m, K) of its distributions."""
    mean, sd = found.mean, np.sqrt(found.variance)
    low, high = each.min(axis=1), each.max(axis=1)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        with np.errstate(over="ignore"):
            below = ndtr((middle[:, None] - mean) / np.maximum(sd, SMALLEST)) @ found.weights < probability
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray((low + high) / 2.0)


def _cornish_fisher(found: Moments, z: float) -> tuple[Floats, Floats]:
    """Quantiles at Phi(z) and Phi(-z) from the mixture's skewness and excess kurtosis (Cornish and Fisher 1938), which are cut where the
    expansion turns back."""
    quantities, points = found.mean.shape
    lower, upper = np.empty(quantities), np.empty(quantities)
    step = max(1, CACHED_VALUES // points)
    for at in range(0, quantities, step):
        here = slice(at, at + step)
        centre = found.mean[here] @ found.weights
        away, variance = found.mean[here] - centre[:, None], found.variance[here]
        square = away * away
        total = (variance + square) @ found.weights
        sd = np.sqrt(np.where(total > 0, total, 1.0))
        skew = np.clip((away * (square + 3.0 * variance)) @ found.weights / sd**3, -1.0, 1.0)
        fourth = (square * (square + 6.0 * variance) + 3.0 * variance * variance) @ found.weights
        excess = np.clip(fourth / sd**4 - 3.0, 0.0, 3.0)
        even = (z**2 - 1) * skew / 6.0
        odd = z + (z**3 - 3 * z) * excess / 24.0 - (2 * z**3 - 5 * z) * skew**2 / 36.0
        lower[here] = centre + np.sqrt(total) * (even + odd)
        upper[here] = centre + np.sqrt(total) * (even - odd)
    return lower, upper
