"""Log-likelihoods of cells as functions of the linear predictor, with every derivative that Laplace's approximation needs.

All four are log-concave in the linear predictor, so that the observed information is positive and Newton's steps from anywhere go up. They
are the rows' own log-likelihoods: what depends on rows alone is restored from ``CellStatistics.once`` and ``CellStatistics.histogram``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from scipy.special import expit, gammaln, psi

from multilevel.cells.statistics import CellStatistics, Floats
from multilevel.design.reduction import ReducedRows
from multilevel.errors import FitError

type DispersionName = Literal["phi", "shape"]

LARGE_PHI = 1e3
"""From here on differences of log-gamma functions are taken by Stirling's series: the functions themselves would cancel."""


@dataclass(frozen=True)
class Curvature:
    """Derivatives of each row's log-likelihood in its linear predictor, each (R,): the first, minus the second, minus the third."""

    score: Floats
    weight: Floats
    weight_slope: Floats


@dataclass(frozen=True)
class ByDispersion:
    """Derivatives in log dispersion: of ``Family.constant``, and of ``terms``, ``score`` and ``weight``, each (R,)."""

    constant: float
    terms: Floats
    score: Floats
    weight: Floats

    @property
    def log_likelihood(self) -> float:
        """Derivative of the whole log-likelihood."""
        return self.constant + float(self.terms.sum())


class Family(Protocol):
    """A family over reduced rows; ``eta`` (R,) is the linear predictor, offset included, ``log_dispersion`` ignored without one."""

    @property
    def name(self) -> str:
        """As in a study."""

    @property
    def dispersion(self) -> DispersionName | None:
        """What the dispersion is called, None without one."""

    def terms(self, eta: Floats, log_dispersion: float) -> Floats:
        """(R,) what depends on eta; ``terms.sum() + constant`` is the log-likelihood of the line items."""

    def constant(self, log_dispersion: float) -> float:
        """What does not depend on eta."""

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        """Derivatives in eta."""

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """Derivatives in log dispersion."""

    def typical_predictor(self) -> float:
        """The linear predictor (less the offset) at the overall mean: where searches begin."""


@dataclass(frozen=True)
class Binomial:
    """``outcome ~ Binomial(size, expit(eta))``; ``outcome``, ``size``: (R,)."""

    outcome: Floats
    size: Floats
    log_constant: float
    name: str = "binomial"
    dispersion: DispersionName | None = None

    def terms(self, eta: Floats, log_dispersion: float) -> Floats:
        """y eta - n log(1 + exp(eta))."""
        return np.asarray(self.outcome * eta - self.size * np.logaddexp(0.0, eta))

    def constant(self, log_dispersion: float) -> float:
        """Sum of the logarithms of the binomial coefficients."""
        return self.log_constant

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        """Derivatives in eta."""
        p = expit(eta)
        weight = self.size * p * expit(-eta)
        return Curvature(self.outcome - self.size * p, weight, weight * (1.0 - 2.0 * p))

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """There is no dispersion."""
        return _no_dispersion(eta)

    def typical_predictor(self) -> float:
        """Logit of the overall share, kept off 0 and 1."""
        successes, trials = float(self.outcome.sum()), float(self.size.sum())
        return float(np.log((successes + 0.5) / (trials - successes + 0.5)))


@dataclass(frozen=True)
class Poisson:
    """``outcome ~ Poisson(size exp(eta))``; ``size`` (R,) is the exposure."""

    outcome: Floats
    size: Floats
    log_constant: float
    name: str = "poisson"
    dispersion: DispersionName | None = None

    def terms(self, eta: Floats, log_dispersion: float) -> Floats:
        """y eta - size exp(eta)."""
        return np.asarray(self.outcome * eta - self.size * np.exp(eta))

    def constant(self, log_dispersion: float) -> float:
        """Sum of y log(exposure) - log y!."""
        return self.log_constant

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        """Derivatives in eta."""
        mean = self.size * np.exp(eta)
        return Curvature(self.outcome - mean, mean, mean)

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """There is no dispersion."""
        return _no_dispersion(eta)

    def typical_predictor(self) -> float:
        """Log of the overall rate, kept off zero."""
        return float(np.log((self.outcome.sum() + 0.5) / self.size.sum()))


@dataclass(frozen=True)
class NegativeBinomial:
    """Rows ``y ~ NB(mean exp(eta), phi)`` with variance mean + mean^2 / phi; ``outcome`` (R,) sums a cell's ``n`` rows."""

    outcome: Floats
    n: Floats
    histogram: Floats
    log_factorial: float
    name: str = "negative_binomial"
    dispersion: DispersionName | None = "phi"

    def terms(self, eta: Floats, log_dispersion: float) -> Floats:
        """y (eta - log(phi + mu)) - n phi log(1 + mu / phi)."""
        phi, mu = np.exp(log_dispersion), np.exp(eta)
        return np.asarray(self.outcome * (eta - np.log(phi + mu)) - self.n * phi * np.log1p(mu / phi))

    def constant(self, log_dispersion: float) -> float:
        """Sum over rows of log Gamma(y + phi) - log Gamma(phi) - log y!."""
        values, counts = self.histogram[:, 0], self.histogram[:, 1]
        return float(counts @ rising_log_gamma(values, float(np.exp(log_dispersion))) - self.log_factorial)

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        """Derivatives in eta; q = mu / (phi + mu)."""
        phi = np.exp(log_dispersion)
        q, rest = expit(eta - log_dispersion), expit(log_dispersion - eta)
        total = self.outcome + self.n * phi
        weight = total * q * rest
        return Curvature(self.outcome - total * q, weight, weight * (1.0 - 2.0 * q))

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """Derivatives in log phi."""
        phi, mu = float(np.exp(log_dispersion)), np.exp(eta)
        q, rest = expit(eta - log_dispersion), expit(log_dispersion - eta)
        total = self.outcome + self.n * phi
        values, counts = self.histogram[:, 0], self.histogram[:, 1]
        by_constant = float(counts @ rising_digamma(values, phi))
        by_terms = phi * (self.n * (q - np.log1p(mu / phi)) - self.outcome / (phi + mu))
        # d q / d log phi = - q (1 - q)
        score = -self.n * phi * q + total * q * rest
        weight = self.n * phi * q * rest - total * q * rest * (1.0 - 2.0 * q)
        return ByDispersion(phi * by_constant, by_terms, score, weight)

    def typical_predictor(self) -> float:
        """Log of the overall mean, kept off zero."""
        return float(np.log((self.outcome.sum() + 0.5) / self.n.sum()))


@dataclass(frozen=True)
class Gamma:
    """Rows ``y ~ Gamma(shape, rate shape / exp(eta))``; ``outcome`` (R,) is the sum of the ``n`` (R,) rows of a cell."""

    outcome: Floats
    n: Floats
    sum_log_outcome: float
    name: str = "gamma"
    dispersion: DispersionName | None = "shape"

    def terms(self, eta: Floats, log_dispersion: float) -> Floats:
        """- shape (n eta + y exp(-eta))."""
        return np.asarray(-np.exp(log_dispersion) * (self.n * eta + self.outcome * np.exp(-eta)))

    def constant(self, log_dispersion: float) -> float:
        """N (a log a - log Gamma(a)) + (a - 1) sum log y."""
        shape = np.exp(log_dispersion)
        return float(self.n.sum() * (shape * log_dispersion - gammaln(shape)) + (shape - 1.0) * self.sum_log_outcome)

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        """Derivatives in eta."""
        shape = np.exp(log_dispersion)
        weight = shape * self.outcome * np.exp(-eta)
        return Curvature(weight - shape * self.n, weight, -weight)

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """Derivatives in log shape."""
        shape = np.exp(log_dispersion)
        at = self.curvature(eta, log_dispersion)
        by_constant = float(shape * (self.n.sum() * (log_dispersion + 1.0 - psi(shape)) + self.sum_log_outcome))
        return ByDispersion(by_constant, self.terms(eta, log_dispersion), at.score, at.weight)

    def typical_predictor(self) -> float:
        """Log of the overall mean."""
        return float(np.log(self.outcome.sum() / self.n.sum()))


def family_of(name: str, cells: CellStatistics, rows: ReducedRows) -> Family:
    """The family over ``rows``, its row-scale constants taken from ``cells``.

    Raises FitError where the statistics of the family are missing or the family is not one of the four.
    """
    once = cells.once
    if name == "binomial":
        return Binomial(rows.outcome, rows.size, float(once["log_binomial"]))
    if name == "poisson":
        return Poisson(rows.outcome, rows.size, float(once.get("outcome_log_exposure", 0.0)) - float(once["log_factorial"]))
    if name == "negative_binomial":
        if cells.histogram is None:
            raise FitError(
                "negative_binomial: the cell statistics hold no histogram of the outcome; compress the rows again for this family."
            )
        return NegativeBinomial(rows.outcome, rows.n, cells.histogram, float(once["log_factorial"]))
    if name == "gamma":
        return Gamma(rows.outcome, rows.n, float(once["sum_log_outcome"]))
    raise FitError(f"family: {name!r} is not binomial, poisson, negative_binomial or gamma.")


def _no_dispersion(eta: Floats) -> ByDispersion:
    nothing = np.zeros_like(eta)
    return ByDispersion(0.0, nothing, nothing, nothing)


def rising_log_gamma(values: Floats, phi: float) -> Floats:
    """log Gamma(y + phi) - log Gamma(phi), without cancellation for large phi (Abramowitz and Stegun 1964, 6.1.41)."""
    if phi < LARGE_PHI:
        return np.asarray(gammaln(values + phi) - gammaln(phi))
    top = values + phi
    series = (1.0 / top - 1.0 / phi) / 12.0 - (top**-3 - phi**-3) / 360.0
    return np.asarray((phi - 0.5) * np.log1p(values / phi) + values * (np.log(top) - 1.0) + series)


def rising_digamma(values: Floats, phi: float) -> Floats:
    """psi(y + phi) - psi(phi), without cancellation for large phi (Abramowitz and Stegun 1964, 6.3.18)."""
    if phi < LARGE_PHI:
        return np.asarray(psi(values + phi) - psi(phi))
    top = values + phi
    return np.asarray(np.log1p(values / phi) - (1.0 / top - 1.0 / phi) / 2.0 - (top**-2 - phi**-2) / 12.0 + (top**-4 - phi**-4) / 120.0)
