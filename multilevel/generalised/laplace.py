"""Laplace fits of generalised linear mixed models over cells: lme4's ``nAGQ = 1`` (glmmTMB's where the link is not canonical).

theta first with beta at its conditional mode (lme4's ``nAGQ = 0``), then theta, beta and log dispersion jointly; standard errors from the
Hessian of the deviance over all of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from multilevel.arrays import Floats
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows
from multilevel.errors import FitError
from multilevel.generalised.laplace_optimise import DISTANCE, spectrum
from multilevel.generalised.quadrature import quadrature_deviance
from multilevel.generalised.search import Accuracy, Point, Problem, basis_root, problem_of, scaled_sds, search
from multilevel.linear.factorise import BlockedFactor
from multilevel.linear.neighbour import Neighbour

FEW_COLUMNS = 1_000

SHARP = 1e8
"""Information of a cell's outcome on its linear predictor beyond which rounding is what a search that does not end has met."""

UNBOUNDED = 8.0
"""Standard deviation on the link scale from which a search that does not end is taken to run to infinity."""


@dataclass(frozen=True)
class LaplaceFit:
    """A fitted generalised linear mixed model.

    theta (nt,), lambdas per block (k, k), covariances per block (k, k) = Lambda Lambda'; beta (p,); effects (q,) conditional modes b in the
    order of ``Design``; dispersion phi or shape, None without one. eta (R,) the linear predictor at the mode with the offset, weights (R,)
    the observed information there, score (R,) the first derivative. log_likelihood of the line items, constants included.
    parameters: (theta, beta, log dispersion) with ``parameter_covariance`` and ``flat``, the share of each in directions without
    information; beta_covariance (p, p) from the joint Hessian. factor: the penalised system at the mode. largest_sd of effects on the link
    scale. distance: to the optimum in standard errors.
    """

    theta: Floats
    lambdas: tuple[Floats, ...]
    covariances: tuple[Floats, ...]
    beta: Floats
    effects: Floats
    dispersion: float | None
    eta: Floats
    weights: Floats
    score: Floats
    log_likelihood: float
    parameters: Floats
    parameter_covariance: Floats
    flat: Floats
    beta_covariance: Floats
    factor: BlockedFactor
    singular: bool
    largest_sd: float
    distance: float
    evaluations: int
    starts: int
    seconds: float
    accuracy: Accuracy

    @property
    def converged(self) -> bool:
        """Whether the optimum is nearer than a thousandth of a standard error; a pilot is not held to it."""
        return self.accuracy == "pilot" or self.distance < DISTANCE


def fit_laplace(
    design: Design,
    rows: ReducedRows,
    family: str,
    *,
    quadrature_points: int = 1,
    accuracy: Accuracy = "full",
    seed: int = 0,
    near: Neighbour | None = None,
) -> LaplaceFit:
    """Fit by PIRLS and Laplace's approximation, or adaptive Gauss-Hermite quadrature for one scalar factor.

    Parameters
    ----------
    design, rows : the model over cells and its reduced rows. family : binomial, poisson, negative_binomial or gamma.
    quadrature_points : 1 for Laplace. accuracy : "pilot" stops with beta profiled. seed : of further starts.
    near : another day's optimum, from which the first search starts.

    Raises
    ------
    FitError where modes are infinite, no start converges, or quadrature is asked for with other than one scalar factor.

    Source: Bates et al. (2015), J. Stat. Softw. 67(1); Kristensen et al. (2016), J. Stat. Softw. 70(5).
    """
    began = time.perf_counter()
    problem = problem_of(design, rows, family)
    if quadrature_points > 1 and [block.values.shape[1] for block in rows.blocks] != [1]:
        message = (
            f"quadrature_points: {quadrature_points} needs a model with one grouping factor and only its intercept (or one slope) varying; "
            f"this one has {len(rows.blocks)} group terms. Write quadrature_points: 1 (Laplace)."
        )
        raise FitError(message)
    # threads cost more than they save in a factor of a few hundred columns
    with threadpool_limits(1 if len(problem.objective.layout.template.gram) < FEW_COLUMNS else None):
        best, starts = search(problem, quadrature_points, accuracy, seed, near)
    if accuracy == "full" and not best.local.converged:
        raise FitError(_not_converged(problem, best, starts, [block.factor.name for block in design.blocks]))
    fit = _finish(problem, best, quadrature_points, accuracy)
    return replace(fit, starts=starts, evaluations=problem.objective.evaluations, seconds=time.perf_counter() - began)


def _not_converged(problem: Problem, best: Point, starts: int, names: list[str]) -> str:
    sds = scaled_sds(problem, best.theta)
    if sds and max(sds) > UNBOUNDED:
        name = names[int(np.argmax(sds))]
        return (
            f"{name}: the likelihood keeps rising as the standard deviation of its effects grows (it stood at {max(sds):.0f} on the link "
            "scale when the search ended), as happens with few line items in a level and outcomes nearly all alike. Use a coarser factor, "
            f"drop a term of {name}, or write engine: bayesian, whose prior bounds it."
        )
    weight = _largest_weight(problem, best)
    if weight > SHARP:
        return (
            f"The likelihood's optimiser did not converge from {starts} starts: single cells' outcomes say so much (counts, or a shape, of "
            f"{weight:.0e}) that rounding hides the optimum, which is still {best.local.distance:.2g} standard errors away. Rows whose own "
            "outcomes are that large are as good as normal on the log scale: write log(outcome) and family: gaussian. Or leave out slopes, "
            "or a factor."
        )
    return (
        f"The likelihood's optimiser did not converge from {starts} starts ({problem.objective.evaluations} evaluations; the optimum "
        f"is still {best.local.distance:.2g} standard errors away). Simplify the group terms, centre predictors far from zero (center(x)), "
        "or rescale those of unlike size."
    )


def _largest_weight(problem: Problem, best: Point) -> float:
    weight = problem.objective.mode(best.theta, best.log_dispersion, best.basis).curvature.weight
    return float(np.max(weight, initial=0.0))


def _finish(problem: Problem, best: Point, points: int, accuracy: Accuracy) -> LaplaceFit:
    layout, theta_layout = problem.objective.layout, problem.theta_layout
    theta = theta_layout.fix_signs(best.theta)
    mode = problem.objective.mode(theta, best.log_dispersion, best.basis)
    value = problem.objective.value(mode)
    if points > 1:
        value, _ = quadrature_deviance(layout, problem.likelihood, mode, float(theta[0]), best.log_dispersion, points)
    beta = layout.beta(mode.effects)
    parameters = np.concatenate([theta, beta, [best.log_dispersion] if problem.with_dispersion else []])
    n, p = theta_layout.n, len(beta)
    inverse = solve_triangular(layout.template.triangle, np.eye(p)) if p else np.zeros((0, 0))
    if accuracy == "full":
        covariance, flat = _parameter_covariance(problem, best, inverse)
    else:
        covariance, flat = np.zeros((len(parameters), len(parameters))), np.ones(len(parameters))
        covariance[n : n + p, n : n + p] = inverse @ basis_root(mode) @ basis_root(mode).T @ inverse.T
    lambdas = theta_layout.lambdas(theta)
    return LaplaceFit(
        theta=theta,
        lambdas=lambdas,
        covariances=tuple(part @ part.T for part in lambdas),
        beta=beta,
        effects=np.concatenate([part.ravel() for part in layout.by_block(mode.effects)]) if lambdas else np.zeros(0),
        dispersion=float(np.exp(best.log_dispersion)) if problem.with_dispersion else None,
        eta=mode.eta,
        weights=mode.curvature.weight,
        score=mode.curvature.score,
        log_likelihood=-value / 2.0,
        parameters=parameters,
        parameter_covariance=covariance,
        flat=flat,
        beta_covariance=covariance[n : n + p, n : n + p],
        factor=mode.factor,
        singular=theta_layout.is_singular(theta, problem.scales),
        largest_sd=max(scaled_sds(problem, theta), default=0.0),
        distance=best.local.distance,
        evaluations=0,
        starts=0,
        seconds=0.0,
        accuracy=accuracy,
    )


def _parameter_covariance(problem: Problem, best: Point, inverse: Floats) -> tuple[Floats, Floats]:
    """2 H^-1 in (theta, beta, log dispersion); columns of Lambda whose sign was turned turn with it."""
    n, p = problem.theta_layout.n, len(best.basis)
    curvature = spectrum(best.local.hessian)
    signs = np.where(problem.theta_layout.fix_signs(best.theta) * best.theta < 0, -1.0, 1.0)
    change = np.eye(len(best.local.at))
    change[:n, :n] = np.diag(problem.units * signs)
    change[n : n + p, n : n + p] = inverse @ best.turn
    covariance = 2.0 * change @ curvature.inverse() @ change.T
    mixed = change[n : n + p, n : n + p] ** 2 @ curvature.flat()[n : n + p]
    flat = curvature.flat()
    total = np.sum(change[n : n + p, n : n + p] ** 2, axis=1)
    flat[n : n + p] = mixed / np.where(total > 0, total, 1.0)
    return covariance, flat
