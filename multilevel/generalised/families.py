"""Log-likelihoods of cells as functions of the linear predictor, with every derivative that Laplace's approximation needs.

All four are log-concave in the linear predictor, so that the observed information is positive and Newton's steps from anywhere go up. They
are the rows' own log-likelihoods: what depends on rows alone is restored from ``CellStatistics.once`` and ``CellStatistics.histogram``.

``terms`` are taken against the saturated fit, r = eta - link(mean of the row) apart (minus half the unit deviances of McCullagh and Nelder
1989, section 2.3): large counts and small dispersions would cancel otherwise, and a difference of two values would be rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from scipy.special import expit, gammaln, logit, psi, xlogy

from multilevel.cells.statistics import CellStatistics, Floats
from multilevel.design.reduction import ReducedRows
from multilevel.errors import FitError

type DispersionName = Literal["phi", "shape"]

LARGE_PHI = 1e3
"""From here on differences of log-gamma functions are taken by Stirling's series: the functions themselves would cancel."""

STEEP = 30.0
"""Of r, on a log or logit scale: beyond it the sign says which form of ``_two_sided`` cannot overflow."""

EPSILON = float(np.finfo(np.float64).eps)


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

    def gross(self, eta: Floats, log_dispersion: float) -> Floats:
        """(R,) observed plus expected, of which the score is the difference: rounding is relative to it."""

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """Derivatives in log dispersion."""

    def typical_predictor(self) -> float:
        """The linear predictor (less the offset) at the overall mean: where searches begin."""


def rounding_of_value(family: Family, eta: Floats, log_dispersion: float) -> float:
    """What rounding of the linear predictor and of the summands may move the log-likelihood by."""
    return 4.0 * EPSILON * float(np.sum(family.gross(eta, log_dispersion) * (1.0 + np.abs(eta))))


def rounding_of_decrement(family: Family, eta: Floats, log_dispersion: float, weight: Floats) -> float:
    """What rounding of the score s may leave of a Newton decrement s'Z (Z'WZ + I)^-1 Z's, at most s'W^-1 s; ``weight`` (R,) is W."""
    error = 4.0 * EPSILON * family.gross(eta, log_dispersion) * (1.0 + np.abs(eta))
    return float(np.sum(np.divide(error**2, weight, out=np.zeros_like(error), where=weight > error)))


@dataclass(frozen=True)
class Binomial:
    """``outcome ~ Binomial(size, expit(eta))``; ``outcome``, ``size``: (R,)."""

    outcome: Floats
    size: Floats
    log_constant: float
    name: str = "binomial"
    dispersion: DispersionName | None = None

    def terms(self, eta: Floats, log_dispersion: float) -> Floats:
        """y r - n log(1 + share (exp(r) - 1)); -n log(1 + exp(+-eta)) where there are no or only successes."""
        share, rest = self._shares
        inner = (share > 0.0) & (rest > 0.0)
        r = eta - self._saturated
        found = _two_sided(self.outcome, self.size - self.outcome, share, rest, r)
        return np.where(inner, found, -self.size * np.logaddexp(0.0, np.where(share > 0.0, -eta, eta)))

    def constant(self, log_dispersion: float) -> float:
        """Sum of the logarithms of the binomial coefficients, and the saturated fit."""
        return self._constant

    @cached_property
    def _shares(self) -> tuple[Floats, Floats]:
        return self.outcome / self.size, (self.size - self.outcome) / self.size

    @cached_property
    def _saturated(self) -> Floats:
        share = self._shares[0]
        return np.asarray(logit(np.where((share > 0.0) & (share < 1.0), share, 0.5)))

    @cached_property
    def _constant(self) -> float:
        share, rest = self._shares
        return self.log_constant + float(np.sum(xlogy(self.outcome, share) + xlogy(self.size - self.outcome, rest)))

    def gross(self, eta: Floats, log_dispersion: float) -> Floats:
        """Successes, observed and expected."""
        return np.asarray(self.outcome + self.size * expit(eta))

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
        """y (r - (exp(r) - 1)); -size exp(eta) for y = 0."""
        r = eta - self._saturated
        return np.where(self.outcome > 0.0, self.outcome * (r - np.expm1(r)), -self.size * np.exp(eta))

    def constant(self, log_dispersion: float) -> float:
        """Sum of y log(exposure) - log y!, and the saturated fit."""
        return self._constant

    @cached_property
    def _saturated(self) -> Floats:
        return np.asarray(np.log(np.where(self.outcome > 0.0, self.outcome / self.size, 1.0)))

    @cached_property
    def _constant(self) -> float:
        return self.log_constant + float(np.sum(self.outcome * (self._saturated - 1.0)))

    def gross(self, eta: Floats, log_dispersion: float) -> Floats:
        """Counts, observed and expected."""
        return np.asarray(self.outcome + self.size * np.exp(eta))

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
        """y r - (y + n phi) log(1 + q (exp(r) - 1)), q = y / (y + n phi); -n phi log(1 + mu / phi) for y = 0."""
        some, trials = self.outcome > 0.0, self.n * np.exp(log_dispersion)
        total, r = self.outcome + trials, eta - np.log(np.where(some, self._mean, 1.0))
        found = _two_sided(self.outcome, trials, self.outcome / total, trials / total, r)
        return np.where(some, found, -trials * np.logaddexp(0.0, eta - log_dispersion))

    def constant(self, log_dispersion: float) -> float:
        """Sum over rows of log Gamma(y + phi) - log Gamma(phi) - log y!, and the saturated fit."""
        values, counts = self.histogram[:, 0], self.histogram[:, 1]
        phi = float(np.exp(log_dispersion))
        saturated = xlogy(self.outcome, self._mean / (phi + self._mean)) - self.n * phi * np.log1p(self._mean / phi)
        return float(counts @ rising_log_gamma(values, phi) - self.log_factorial + np.sum(saturated))

    @cached_property
    def _mean(self) -> Floats:
        return self.outcome / self.n

    def gross(self, eta: Floats, log_dispersion: float) -> Floats:
        """Counts, observed and expected."""
        return np.asarray(self.outcome + (self.outcome + self.n * np.exp(log_dispersion)) * expit(eta - log_dispersion))

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        """Derivatives in eta; q = mu / (phi + mu)."""
        phi = np.exp(log_dispersion)
        q, rest = expit(eta - log_dispersion), expit(log_dispersion - eta)
        total = self.outcome + self.n * phi
        weight = total * q * rest
        return Curvature(self.outcome - total * q, weight, weight * (1.0 - 2.0 * q))

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """Derivatives in log phi."""
        phi = float(np.exp(log_dispersion))
        q, rest = expit(eta - log_dispersion), expit(log_dispersion - eta)
        total = self.outcome + self.n * phi
        values, counts = self.histogram[:, 0], self.histogram[:, 1]
        by_constant = float(counts @ rising_digamma(values, phi)) - float(np.sum(self.n * np.log1p(self._mean / phi)))
        # n phi log((phi + mean) / (phi + mu)) + phi (n mu - y) / (phi + mu)
        trials = self.n * phi
        by_terms = trials * (np.log1p(self._mean / phi) - np.logaddexp(0.0, eta - log_dispersion)) + trials * q - self.outcome * rest
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
        """- shape n (r + exp(-r) - 1)."""
        r = eta - self._saturated
        return np.asarray(-np.exp(log_dispersion) * self.n * (r + np.expm1(-r)))

    def constant(self, log_dispersion: float) -> float:
        """N (a log a - log Gamma(a) - a) + a sum log(y / mean of its row) - sum log y."""
        return float(self.n.sum() * log_gamma_gap(log_dispersion) + np.exp(log_dispersion) * self._spread - self.sum_log_outcome)

    @cached_property
    def _saturated(self) -> Floats:
        return np.asarray(np.log(self.outcome / self.n))

    @cached_property
    def _spread(self) -> float:
        return self.sum_log_outcome - float(self.n @ self._saturated)

    def gross(self, eta: Floats, log_dispersion: float) -> Floats:
        """Shape times the observed over the expected, and shape times rows."""
        return np.asarray(np.exp(log_dispersion) * (self.n + self.outcome * np.exp(-eta)))

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        """Derivatives in eta."""
        shape = np.exp(log_dispersion)
        weight = shape * self.outcome * np.exp(-eta)
        return Curvature(weight - shape * self.n, weight, -weight)

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """Derivatives in log shape."""
        shape = np.exp(log_dispersion)
        at = self.curvature(eta, log_dispersion)
        by_constant = float(shape * (self.n.sum() * digamma_gap(log_dispersion) + self._spread))
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


def _two_sided(up: Floats, down: Floats, share: Floats, rest: Floats, r: Floats) -> Floats:
    """u r - (u + d) log(1 + share (exp(r) - 1)) for share = u / (u + d): so where u is small, by its mirror image where d is."""
    mirrored = np.where(np.abs(r) > STEEP, r > 0.0, up > down)
    direct = up * r - (up + down) * np.log1p(share * np.expm1(np.minimum(r, STEEP)))
    mirror = -down * r - (up + down) * np.log1p(rest * np.expm1(-np.maximum(r, -STEEP)))
    return np.where(mirrored, mirror, direct)


def log_gamma_gap(log_shape: float) -> float:
    """a log a - log Gamma(a) - a, without cancellation for a large a (Abramowitz and Stegun 1964, 6.1.41)."""
    a = float(np.exp(log_shape))
    if a < LARGE_PHI:
        return float(a * log_shape - gammaln(a) - a)
    return float((log_shape - np.log(2.0 * np.pi)) / 2.0 - 1.0 / (12.0 * a) + 1.0 / (360.0 * a**3))


def digamma_gap(log_shape: float) -> float:
    """log a - psi(a), without cancellation for a large a (Abramowitz and Stegun 1964, 6.3.18)."""
    a = float(np.exp(log_shape))
    if a < LARGE_PHI:
        return float(log_shape - psi(a))
    return float(1.0 / (2.0 * a) + 1.0 / (12.0 * a**2) - 1.0 / (120.0 * a**4))
