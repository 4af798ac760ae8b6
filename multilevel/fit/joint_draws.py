"""The joint distribution of (beta, b) as posterior draws: every published number of the bayesian engine is a summary of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from multilevel.arrays import Floats, Integers
from multilevel.errors import FitError
from multilevel.families.link import Link
from multilevel.fit.container import Fit, Summary, VarianceComponent
from multilevel.fit.shared_rows import Rows

CHUNK_VALUES = 8_000_000
"""Values held at once while summarising: 64 MB of doubles."""

RESPONSE_VALUES = 400_000_000
"""Evaluations of the inverse link that one call of ``respond`` may cost before draws are thinned."""

CHECK_DRAWS = 100
"""Draws of all coefficients that the predictive checks simulate from."""

MOST_VALUES = 40_000_000
"""Most of those draws times coefficients that are held at once (0.3 GB)."""

FEWEST_DRAWS = 500
"""Draws that ``respond`` keeps however many rows there are: the Monte Carlo error of a mean is then 4 % of its posterior sd."""


def posterior_of(fit: Fit) -> DrawsJoint | None:
    """The posterior draws of a fit; None where its joint distribution is another."""
    return fit.joint if isinstance(fit.joint, DrawsJoint) else None


@dataclass(frozen=True)
class DrawsJoint:
    """Posterior draws as a ``Joint``.

    Attributes
    ----------
    values : (S, p + q) draws of the population coefficients, then of the effects in the order of ``Design``; chain after chain.
    n_chains : how many chains the S draws came from (equally long).
    """

    values: Floats
    n_chains: int = 1

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) == 0 or len(self.values) % self.n_chains:
            raise FitError(f"Posterior draws of shape {self.values.shape} cannot come from {self.n_chains} equally long chains.")

    @property
    def n_draws(self) -> int:
        """S, over all chains."""
        return len(self.values)

    @property
    def mean(self) -> Floats:
        """(p + q,) posterior mean."""
        return np.asarray(self.values.mean(axis=0))

    def chains(self, columns: slice = slice(None)) -> Floats:
        """(chains, draws, columns): the draws as a sampler left them, for R-hat and ESS."""
        return self.values.reshape(self.n_chains, -1, self.values.shape[1])[:, :, columns]

    def combine(self, rows: Rows, interval: float) -> Summary:
        """Posterior mean, sd and equal-tailed quantiles of ``rows @ (beta, b)``; ``rows`` is (m, p + q)."""
        step = max(1, CHUNK_VALUES // self.n_draws)
        pieces = [summarise(np.asarray(rows[at : at + step] @ self.values.T), interval) for at in range(0, rows.shape[0], step)]
        return Summary.joined(pieces)

    def respond(
        self,
        rows: Rows,
        weights: csr_array,
        response: Callable[[Floats], Floats],
        slope: Callable[[Floats], Floats],
        interval: float,
    ) -> Summary:
        """Posterior of ``weights @ response(rows @ (beta, b))``, draw by draw; ``slope`` is not needed and not called.

        ``rows`` is (m, p + q), ``weights`` (g, m). Draws are thinned evenly (never below ``FEWEST_DRAWS``) when m is so large that all of
        them would cost more than ``RESPONSE_VALUES`` evaluations; memory stays bounded by working on a few draws at a time.
        """
        kept = self.values[self.kept(max(FEWEST_DRAWS, RESPONSE_VALUES // max(1, rows.shape[0])))]
        means = np.empty((weights.shape[0], len(kept)))
        for part in _chunks(len(kept), rows.shape[0]):
            means[:, part] = weights @ response(np.asarray(rows @ kept[part].T))
        return summarise(means, interval)

    def kept(self, size: int) -> Integers:
        """Which draws ``draws(size, ...)`` returns when ``size`` is not above S: evenly spaced, all of them in order for size >= S."""
        return evenly_spaced(self.n_draws, size)

    def spread_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m,) posterior sds of ``(rows - centre) @ (beta, b)``."""
        step, about = max(1, CHUNK_VALUES // self.n_draws), np.asarray(centre @ self.values.T)
        pieces = [np.std(rows[at : at + step] @ self.values.T - about, axis=1, ddof=1) for at in range(0, rows.shape[0], step)]
        return np.concatenate(pieces) if pieces else np.zeros(0)

    def covariance_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m, m) posterior covariance of ``(rows - centre) @ (beta, b)``."""
        return np.atleast_2d(np.cov(rows @ self.values.T - np.asarray(centre @ self.values.T)))

    def on_response_scale(self, summary: Summary, link: Link, interval: float) -> Summary:
        """As it is: quantiles of draws are inside the range already."""
        return summary

    def draws(self, size: int, seed: int) -> Floats:
        """(size, p + q) draws: evenly spaced ones up to S, in the order of ``covariance_draws``; beyond S drawn again with replacement."""
        if size <= self.n_draws:
            return self.values[self.kept(size)]
        return self.values[np.random.default_rng(seed).integers(self.n_draws, size=size)]


def evenly_spaced(n_draws: int, size: int) -> Integers:
    """Places of ``size`` of ``n_draws`` draws, evenly spaced: all of them in order for ``size >= n_draws``."""
    if size >= n_draws:
        return np.arange(n_draws)
    return np.floor((np.arange(size) + 0.5) * n_draws / size).astype(np.int64)


def summarise(values: Floats, interval: float) -> Summary:
    """Mean, sd (about the mean, S - 1) and equal-tailed quantiles of m quantities; ``values`` is (m, S)."""
    return summary_about(values.mean(axis=1), values, interval)


def summary_about(estimate: Floats, values: Floats, interval: float) -> Summary:
    """As ``summarise``, with estimates (m,) that are known better than as the mean of the draws."""
    tail = (1.0 - interval) / 2.0
    lower, upper = np.quantile(values, [tail, 1.0 - tail], axis=1)
    return Summary(estimate, values.std(axis=1, ddof=1), lower, upper)


def summarise_by_median(values: Floats, interval: float) -> Summary:
    """Median and equal-tailed quantiles of m quantities (m, S) whose means need not exist; the error is (upper - lower) / (2 z)."""
    tail = (1.0 - interval) / 2.0
    lower, median, upper = np.quantile(values, [tail, 0.5, 1.0 - tail], axis=1)
    return Summary(median, (upper - lower) / (2.0 * ndtri(1.0 - tail)), lower, upper)


def _chunks(n_draws: int, n_rows: int) -> Iterator[slice]:
    step = max(1, CHUNK_VALUES // max(1, n_rows))
    return (slice(at, min(at + step, n_draws)) for at in range(0, n_draws, step))


def component_values(fit: Fit, component: VarianceComponent) -> Floats:
    """(S,) all draws of a variance component of a bayesian fit, in the order of its joint draws."""
    if component.block is None:
        draws = fit.sigma_draws if fit.dispersion_draws is None else fit.dispersion_draws
        assert draws is not None
        return draws
    assert fit.covariance_draws is not None
    covariance = fit.covariance_draws[component.block]
    terms = [column.label for column in fit.design.blocks[component.block].columns]
    i = terms.index(component.term)
    if component.other_term is None:
        return np.sqrt(covariance[:, i, i])
    j = terms.index(component.other_term)
    return np.asarray(covariance[:, i, j] / np.sqrt(covariance[:, i, i] * covariance[:, j, j]))
