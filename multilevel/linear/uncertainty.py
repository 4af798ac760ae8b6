"""Uncertainty of theta and sigma: Wald intervals of standard deviations and correlations, Satterthwaite degrees of freedom."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import ndtri

from multilevel.arrays import Floats
from multilevel.design.model import Design
from multilevel.fit.container import IntervalMethod, VarianceComponent, VarianceParameters
from multilevel.linear.criterion import Criterion
from multilevel.linear.factorise import BlockedFactor
from multilevel.linear.optimise import STRETCHED

SMALLEST_EIGENVALUE = 1e-6
"""Directions of the Hessian flatter than this, relative to the steepest, carry no information (a singular fit) and are left out."""

DIFFERENCE = 1e-4
"""Step of a parameter in its unit, for differences of gradients."""

FARTHEST = 300.0
"""Largest half width of an interval on the log scale whose limits are published: exp() of more overflows."""


@dataclass(frozen=True)
class Nearby:
    """Per entry of theta, ``steps`` (n,) to either side of the optimum: the roots (p, p) of the coefficients' covariance over sigma^2."""

    steps: Floats
    roots: tuple[tuple[Floats, Floats], ...]


def variance_parameters(
    criterion: Criterion, factor: BlockedFactor, theta: Floats, sigma: float, units: Floats
) -> tuple[VarianceParameters, Nearby]:
    """The Hessian of the unprofiled criterion at the optimum ``theta``, factorised, inverted where it has curvature; what else its
    differences were factorised for."""
    known = criterion.fixed_sigma is not None
    values = theta if known else np.append(theta, math.log(sigma))
    units = np.where(np.abs(theta) > STRETCHED * units, np.abs(theta), units)
    scale = units if known else np.append(units, 1.0)
    if not len(values):
        return VarianceParameters(values, np.zeros((0, 0)), np.zeros(0), np.zeros(0)), Nearby(np.zeros(0), ())
    hessian, nearby = _hessian(criterion, factor, theta, sigma, scale)
    eigenvalues, vectors = np.linalg.eigh(hessian)
    kept = eigenvalues > SMALLEST_EIGENVALUE * eigenvalues[-1]
    inverse = np.where(kept, 1.0 / np.where(kept, eigenvalues, 1.0), 0.0)
    covariance = 2.0 * (vectors * inverse) @ vectors.T * np.outer(scale, scale)
    return VarianceParameters(values, covariance, np.sum(vectors[:, ~kept] ** 2, axis=1), scale), nearby


def _hessian(criterion: Criterion, factor: BlockedFactor, theta: Floats, sigma: float, scale: Floats) -> tuple[Floats, Nearby]:
    """Of the unprofiled criterion in (theta, log sigma) / ``scale``: by central differences in theta, in log sigma as it follows."""
    n, steps = len(theta), DIFFERENCE * scale[: len(theta)]
    found, roots = np.zeros((len(scale), len(scale))), []

    def at(moved: Floats) -> tuple[Floats, Floats]:
        near = criterion.factorise(moved)
        return criterion.joint_gradient(near, sigma), _coefficient_root(near)

    for index in range(n):
        move = np.zeros(n)
        move[index] = steps[index]
        (above, one), (below, other) = at(theta + move), at(theta - move)
        found[index] = (above - below) * scale / (2.0 * DIFFERENCE)
        roots.append((one, other))
    found[:n, :n] = (found[:n, :n] + found[:n, :n].T) / 2.0
    if criterion.fixed_sigma is None:
        found[n, :n] = found[:n, n]
        found[n, n] = 4.0 * factor.penalised_rss / sigma**2
    return found, Nearby(steps, tuple(roots))


def coefficient_covariance(factor: BlockedFactor, sigma: float) -> Floats:
    """(p, p) sigma^2 R_XX^-1 R_XX^-T in the coordinates of the original X (Bates et al. 2015, eq. 54)."""
    root = _coefficient_root(factor)
    return np.asarray(sigma**2 * root @ root.T)


def combined_variances(factor: BlockedFactor, sigma: float, combinations: Floats) -> Floats:
    """(m,) variances of ``combinations`` (m, p) of the coefficients, as sums of squares: large ones that cancel keep their digits."""
    return np.asarray(sigma**2 * np.sum((combinations @ _coefficient_root(factor)) ** 2, axis=1))


def _coefficient_root(factor: BlockedFactor) -> Floats:
    """(p, p) R_XX^-1."""
    system = factor.system
    q, p = system.rest_starts[-1], system.n_population
    if not p:
        return np.zeros((0, 0))
    return np.asarray(solve_triangular(system.triangle, solve_triangular(factor.root[q:, q:], np.eye(p))))


def satterthwaite(factor: BlockedFactor, nearby: Nearby, parameters: VarianceParameters, combinations: Floats, sigma: float) -> Floats:
    """(m,) degrees of freedom 2 v^2 / Var(v) of the variance v of each row of ``combinations`` (m, p) of coefficients (Satterthwaite 1946;
    Fai and Cornelius 1996)."""

    def variances(root: Floats) -> Floats:
        return np.asarray(sigma**2 * np.sum((combinations @ root) ** 2, axis=1))

    v = variances(_coefficient_root(factor))
    pairs = zip(nearby.roots, nearby.steps, strict=True)
    columns = [(variances(above) - variances(below)) / (2.0 * step) for (above, below), step in pairs]
    if len(columns) < len(parameters.values):
        # a variance of coefficients is proportional to sigma^2
        columns.append(2.0 * v)
    jacobian = np.stack(columns, axis=1) if columns else np.zeros((len(v), 0))
    spread = np.einsum("ij,jk,ik->i", jacobian, parameters.covariance, jacobian)
    with np.errstate(divide="ignore"):
        return np.where(spread > 0, 2.0 * v**2 / spread, np.inf)


def numerical_jacobian(function: Callable[[Floats], Floats], at: Floats, units: Floats) -> Floats:
    """(m, n) by central differences, each step relative to the parameter's size and to its natural scale ``units`` (n,)."""
    columns = []
    for index in range(len(at)):
        step = 1e-5 * max(abs(at[index]), 1e-2 * units[index])
        move = np.zeros(len(at))
        move[index] = step
        columns.append((function(at + move) - function(at - move)) / (2.0 * step))
    return np.array(columns).T if columns else np.zeros((len(function(at)), 0))


@dataclass(frozen=True)
class ComponentQuantity:
    """A standard deviation or correlation as a function of (theta, log sigma)."""

    grouping_factor: str
    term: str
    other_term: str | None
    block: int | None
    value: Callable[[Floats], float]


def components(
    design: Design,
    lambdas_of: Callable[[Floats], Sequence[Floats]],
    sigma_of: Callable[[Floats], float],
    parameters: VarianceParameters,
    interval: float,
) -> tuple[VarianceComponent, ...]:
    """Standard deviations and correlations with Wald intervals on the log and Fisher z scales (Pinheiro and Bates 2000, section 2.4).

    ``lambdas_of`` and ``sigma_of`` read the parameter vector. Standard error and interval are None on the boundary.
    """
    quantities = [
        quantity
        for index, block in enumerate(design.blocks)
        for quantity in block_quantities(index, block.factor.name, [c.label for c in block.columns], lambdas_of, sigma_of)
    ]
    return tuple(_summarise(quantity, parameters, interval) for quantity in quantities)


def block_quantities(
    index: int, name: str, labels: Sequence[str], lambdas_of: Callable[[Floats], Sequence[Floats]], sigma_of: Callable[[Floats], float]
) -> list[ComponentQuantity]:
    """The standard deviations and correlations of one block."""

    def covariance(values: Floats) -> Floats:
        factor = lambdas_of(values)[index]
        return np.asarray(sigma_of(values) ** 2 * factor @ factor.T)

    def sd(i: int) -> Callable[[Floats], float]:
        return lambda values: math.sqrt(covariance(values)[i, i])

    def correlation(i: int, j: int) -> Callable[[Floats], float]:
        def value(values: Floats) -> float:
            matrix = covariance(values)
            size = math.sqrt(matrix[i, i] * matrix[j, j])
            return float(matrix[i, j] / size) if size > 0 else math.nan

        return value

    sds = [ComponentQuantity(name, label, None, index, sd(i)) for i, label in enumerate(labels)]
    pairs = [(i, j) for i in range(len(labels)) for j in range(i + 1, len(labels))]
    return sds + [ComponentQuantity(name, labels[i], labels[j], index, correlation(i, j)) for i, j in pairs]


def _summarise(quantity: ComponentQuantity, parameters: VarianceParameters, interval: float) -> VarianceComponent:
    estimate = quantity.value(parameters.values)
    is_sd = quantity.other_term is None
    std_error, lower, upper = _wald(quantity, estimate, parameters, interval, is_sd=is_sd)
    method: IntervalMethod | None = None if lower is None else "wald"
    return VarianceComponent(
        quantity.grouping_factor,
        quantity.term,
        quantity.other_term,
        "sd" if is_sd else "correlation",
        estimate,
        std_error,
        lower,
        upper,
        quantity.block,
        method,
    )


def _wald(
    quantity: ComponentQuantity, estimate: float, parameters: VarianceParameters, interval: float, *, is_sd: bool
) -> tuple[float | None, float | None, float | None]:
    nothing = (None, None, None)
    if not math.isfinite(estimate) or (is_sd and estimate <= 0) or (not is_sd and abs(estimate) >= 1 - 1e-9):
        return nothing
    gradient = numerical_jacobian(lambda values: np.array([quantity.value(values)]), parameters.values, parameters.units)[0]
    felt = 1e-8 * (estimate if is_sd else 1.0)
    if not np.isfinite(gradient).all() or np.any((np.abs(gradient) * parameters.units > felt) & (parameters.flat > 0.01)):
        return nothing
    std_error = math.sqrt(max(float(gradient @ parameters.covariance @ gradient), 0.0))
    if std_error == 0.0:
        return nothing
    half = float(ndtri(0.5 + interval / 2.0)) * std_error
    if is_sd:
        return std_error, *log_limits(estimate, half / estimate)
    z, half_z = math.atanh(estimate), half / (1.0 - estimate**2)
    return std_error, math.tanh(z - half_z), math.tanh(z + half_z)


def log_limits(estimate: float, half: float) -> tuple[float | None, float | None]:
    """exp(log estimate -+ half); None where that is no number any more, so far out that the interval means nothing."""
    if not half < FARTHEST:
        return None, None
    return estimate * math.exp(-half), estimate * math.exp(half)


def residual_component(parameters: VarianceParameters, interval: float) -> VarianceComponent:
    """sigma, with a Wald interval on the log scale."""
    sigma = math.exp(parameters.values[-1])
    log_error = math.sqrt(max(float(parameters.covariance[-1, -1]), 0.0))
    return log_component("sigma", sigma, log_error, interval)


def log_component(term: str, estimate: float, log_error: float, interval: float) -> VarianceComponent:
    """sigma, phi or shape, with a Wald interval on the log scale."""
    lower, upper = log_limits(estimate, float(ndtri(0.5 + interval / 2.0)) * log_error)
    method: IntervalMethod | None = None if lower is None else "wald"
    return VarianceComponent("residual", term, None, "sd", estimate, estimate * log_error, lower, upper, block=None, interval_method=method)
