"""The one container that both engines return: joint distribution, variance components, audit record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.design.model import Design
from multilevel.design.unit_free import UnitFree
from multilevel.families.link import Link
from multilevel.fit.shared_rows import Rows
from multilevel.fit.theta_spread import ThetaSpread

type Engine = Literal["bayesian", "likelihood"]

type IntervalMethod = Literal["wald", "profile", "bootstrap", "posterior"]


@dataclass(frozen=True)
class Summary:
    """Estimates of m quantities: each array is (m,). ``lower`` and ``upper`` bound the equal-tailed interval asked for."""

    estimate: Floats
    std_error: Floats
    lower: Floats
    upper: Floats

    @classmethod
    def joined(cls, pieces: Sequence[Summary]) -> Summary:
        """Summaries one after the other; of no pieces, a summary of nothing."""
        nothing = cls(*(np.empty(0) for _ in range(4)))
        return cls(*(np.concatenate(columns) for columns in zip(*(piece._columns for piece in (nothing, *pieces)), strict=True)))

    def at(self, places: Integers) -> Summary:
        """The quantities at ``places``."""
        return Summary(*(column[places] for column in self._columns))

    def replaced(self, places: Integers, by: Summary) -> Summary:
        """A copy with the quantities at ``places`` taken from ``by``, which has as many."""
        columns = [column.copy() for column in self._columns]
        for column, own in zip(columns, by._columns, strict=True):
            column[places] = own
        return Summary(*columns)

    @property
    def _columns(self) -> tuple[Floats, Floats, Floats, Floats]:
        return self.estimate, self.std_error, self.lower, self.upper


class Joint(Protocol):
    """The joint distribution of (beta, b): p population coefficients, then q effects in the order of ``Design``.

    Rows of coefficients are sparse (m, p + q) matrices, so that any linear or averaged quantity of any engine is one call.
    """

    @property
    def mean(self) -> Floats:
        """(p + q,) posterior mean, or (RE)ML estimates and conditional modes."""

    def combine(self, rows: Rows, interval: float) -> Summary:
        """Linear combinations ``rows @ (beta, b)``."""

    def respond(
        self,
        rows: Rows,
        weights: csr_array,
        response: Callable[[Floats], Floats],
        slope: Callable[[Floats], Floats],
        interval: float,
    ) -> Summary:
        """Averages ``weights @ response(rows @ (beta, b))``; ``slope`` is the derivative of ``response``, elementwise."""

    def spread_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m,) standard deviations of ``(rows - centre) @ (beta, b)``; ``centre`` is (1, p + q)."""

    def covariance_about(self, rows: Rows, centre: csr_array) -> Floats:
        """(m, m) covariance of ``(rows - centre) @ (beta, b)``, for m small enough."""

    def draws(self, size: int, seed: int) -> Floats:
        """(size, p + q) draws: of the posterior, or of the normal approximation."""

    def on_response_scale(self, summary: Summary, link: Link, interval: float) -> Summary:
        """A summary of averages on the response scale, its limits inside the outcome's range."""


@dataclass(frozen=True)
class VarianceComponent:
    """A standard deviation (``other_term`` None) or a correlation of a block, or the residual sd (``grouping_factor`` "residual").

    ``block`` is the index into ``Design.blocks``, None for the residual. For dispersions other than sigma the term is ``phi`` or ``shape``.
    ``interval_method`` is None where there is no limit; ``note`` says why a limit is missing.
    """

    grouping_factor: str
    term: str
    other_term: str | None
    quantity: Literal["sd", "correlation"]
    estimate: float
    std_error: float | None
    lower: float | None
    upper: float | None
    block: int | None = None
    interval_method: IntervalMethod | None = None
    note: str = ""


@dataclass(frozen=True)
class Check:
    """One row of ``diagnostics``; a failed ``gate`` stops the run before anything is published."""

    check: str
    value: float | None
    threshold: float | None
    passed: bool
    message: str
    gate: bool = False


@dataclass(frozen=True)
class VarianceParameters:
    """Parameters (n,) of the variances with their covariance (n, n), twice the inverse of the deviance's Hessian; ``flat`` marks those
    that take part in a direction without information; ``units`` are their natural scales."""

    values: Floats
    covariance: Floats
    flat: Floats
    units: Floats


@dataclass(frozen=True)
class Maximum:
    """The maximum of the likelihood itself beside a restricted fit: theta (n,) in unit-free coordinates, and the log-likelihood there."""

    theta: Floats
    log_likelihood: float


@dataclass(frozen=True)
class UnitFreeFit:
    """The same fit in the coordinates in which it was made: what is not linear in the coefficients is computed here, since far from zero
    the coefficients as written would cancel.

    form : the design and the maps back. covariances, covariance_draws : as in ``Fit``. joint : the likelihood engine's, else None.
    lambdas : the likelihood engine's relative covariance factors, else empty. shrinkage : as in ``Fit``; None where nothing adds it up.
    parameters : theta, and log sigma or log dispersion last, of the likelihood engine's fits. system : the cross-products of a linear
    model's form (``linear.assemble.system_of``), where the fit keeps them.
    """

    form: UnitFree
    covariances: tuple[Floats, ...]
    covariance_draws: tuple[Floats, ...] | None = None
    joint: Joint | None = None
    lambdas: tuple[Floats, ...] = ()
    shrinkage: tuple[Floats, ...] | None = None
    parameters: VarianceParameters | None = None
    system: object | None = None


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    Attributes
    ----------
    covariances : per block (k, k): (RE)ML estimate, or the posterior mean of Sigma.
    covariance_draws : per block (S, k, k) aligned with ``joint.draws`` order where the engine keeps draws, else None.
    sigma : residual sd (gaussian), else None; ``dispersion`` phi (negative_binomial) or shape (gamma), else None.
    conditional_variance : per block (L, k): Var(b | y, theta, beta), lme4's; for the bayesian engine averaged over draws.
    shrinkage : per block (L, k): Var(b | y, theta, beta) / tau^2, averaged over draws; 1 where tau = 0.
    degrees_of_freedom, ess_bulk, ess_tail, r_hat : per population coefficient (p,), None where the engine has none.
    coefficient_limits : (p, 2) profile or bootstrap limits of the population coefficients, None for those of ``joint``.
    log_likelihood, reml_criterion : on the scale of the formula's response and of the rows (constants restored), None where undefined.
    n_parameters : beta, theta and dispersion.
    checks : computation checks, gates among them.
    record : audit: optimiser, evaluations, tolerances, gradient norm, form of the sampler, seconds by step.
    theta : the joint distribution with the uncertainty of theta where it is kept apart from draws, which published intervals carry. In the
        likelihood engine ``joint`` is given the estimated theta; a posterior's ``joint`` is this mixture itself. None where there is no
        theta, or nobody asked.
    maximum : of the likelihood itself, beside a restricted fit that somebody compares.
    sampler_statistics : name -> (chains, draws), what the sampler says of every draw, in ArviZ' names; empty where draws are independent.
    unit_free : the fit in unit-free coordinates; None of no pooling, whose effects have no distribution.
    """

    design: Design
    family: str
    engine: Engine
    method: str
    interval: float
    joint: Joint
    components: tuple[VarianceComponent, ...]
    covariances: tuple[Floats, ...]
    conditional_variance: tuple[Floats, ...]
    shrinkage: tuple[Floats, ...]
    sigma: float | None = None
    dispersion: float | None = None
    covariance_draws: tuple[Floats, ...] | None = None
    sigma_draws: Floats | None = None
    dispersion_draws: Floats | None = None
    degrees_of_freedom: Floats | None = None
    coefficient_limits: Floats | None = None
    ess_bulk: Floats | None = None
    ess_tail: Floats | None = None
    r_hat: Floats | None = None
    log_likelihood: float | None = None
    reml_criterion: float | None = None
    n_parameters: int = 0
    singular: bool = False
    checks: tuple[Check, ...] = ()
    record: dict[str, object] = field(default_factory=dict)
    unit_free: UnitFreeFit | None = None
    theta: ThetaSpread | None = None
    maximum: Maximum | None = None
    sampler_statistics: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def likelihood_for_criteria(self) -> float | None:
        """Maximised log-likelihood for AIC and BIC: never the restricted one, which is of other data for every X."""
        if self.method == "reml":
            return None if self.maximum is None else self.maximum.log_likelihood
        return self.log_likelihood

    @property
    def is_posterior(self) -> bool:
        """Whether the joint distribution is a posterior, whose means are the estimates; else it is about the maximum of a likelihood."""
        return self.has_draws or (self.theta is not None and self.theta.method == "posterior")

    @property
    def has_draws(self) -> bool:
        """Whether the joint distribution is posterior draws, in step with those of the variances; else it is normal, or a mixture."""
        return self.covariance_draws is not None

    def effect_variance(self, block: int, z: Floats) -> Floats:
        """(R,) z'Sigma z of a block, for ``z`` (R, k) in the columns as written."""
        covariances = self.covariances if self.unit_free is None else self.unit_free.covariances
        turned = self._turned(block, z)
        return np.asarray(np.einsum("ri,ij,rj->r", turned, covariances[block], turned))

    def drawn_effect_variance(self, block: int, z: Floats, kept: Integers) -> Floats:
        """(R, len(kept)) z'Sigma z in each of the draws ``kept``, for ``z`` (R, k) in the columns as written; only of a fit with draws."""
        draws = self.covariance_draws if self.unit_free is None else self.unit_free.covariance_draws
        assert draws is not None
        turned, covariances = self._turned(block, z), draws[block][kept]
        squares = (turned[:, :, None] * turned[:, None, :]).reshape(len(z), -1)
        return np.asarray(squares @ covariances.reshape(len(kept), -1).T)

    def _turned(self, block: int, z: Floats) -> Floats:
        return z if self.unit_free is None else np.asarray(z @ self.unit_free.form.maps.blocks[block])

    @property
    def theta_weights(self) -> Floats:
        """(T,) of the points of theta; one where the fit knows no others."""
        return np.ones(1) if self.theta is None else self.theta.weights

    def effect_variances(self, block: int, z: Floats) -> Floats:
        """(R, T) the same at each of the T points that ``theta`` knows; (R, 1) at the estimate where it knows none."""
        if self.theta is None or self.unit_free is None:
            return self.effect_variance(block, z)[:, None]
        turned = z @ self.unit_free.form.maps.blocks[block]
        return np.asarray(np.einsum("ri,tij,rj->rt", turned, self.theta.covariances[block], turned, optimize=True))


def fact(check: str, value: float | None, message: str) -> Check:
    """A number without a threshold: it cannot fail."""
    return Check(check, value, None, passed=True, message=message)
