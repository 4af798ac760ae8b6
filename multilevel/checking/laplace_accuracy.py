"""How far Laplace's approximation is from the integral that it stands for, factor by factor.

Where the levels of a factor have few line items each, as the pairs of a household and a category have, the integrand is far from normal:
Laplace's approximation then underestimates the factor's standard deviation (Breslow and Lin 1995), and averages on the response scale move
with it. Here everything else is held at the fit, and the factor's levels are integrated one by one by adaptive Gauss-Hermite quadrature
(Pinheiro and Bates 1995, eq. 2.6). One Newton step from the fitted standard deviation says where the integral would have put it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from multilevel.arrays import Floats
from multilevel.design.reduction import ReducedBlock, ReducedRows, coefficient_matrix, reduce_design
from multilevel.fit.container import Check, Fit
from multilevel.generalised.quadrature import quadrature_deviance
from multilevel.generalised.search import Problem, problem_of

LAPLACE, POINTS = 1, 9
"""Nodes of the rule: one is Laplace's approximation."""

MATERIAL = 0.02
"""Share of a standard deviation below which its error does not matter."""

STEP = 0.02
"""Relative step of the difference that gives the curvature."""


def laplace_accuracy(fit: Fit) -> list[Check]:
    """``laplace_accuracy[g]`` for every factor with one effect a level; reported, never a gate.

    The value is the relative error of the factor's standard deviation, the others held; it fails where that is beyond 2 % and beyond one
    standard error. Empty for fits that do not use Laplace's approximation, and for factors whose variance has vanished.
    """
    if fit.method != "laplace" or fit.unit_free is None or fit.unit_free.joint is None:
        return []
    design, mean = fit.unit_free.form.design, fit.unit_free.joint.mean
    rows = reduce_design(design)
    eta = np.asarray(rows.offset + coefficient_matrix(rows) @ mean)
    found = []
    for index, (block, own, root) in enumerate(zip(design.blocks, rows.blocks, fit.unit_free.lambdas, strict=True)):
        if len(root) > 1 or root[0, 0] == 0.0:
            continue
        start = len(design.population) + design.starts[index]
        effects = mean[start : start + block.n_effects]
        problem = problem_of(design, _alone(rows, own, eta - own.values[:, 0] * effects[own.codes]), fit.family)
        log_dispersion = 0.0 if fit.dispersion is None else float(np.log(fit.dispersion))
        found.append(_check(block.factor.name, *_shift(problem, abs(float(root[0, 0])), log_dispersion)))
    return found


def _alone(rows: ReducedRows, own: ReducedBlock, offset: Floats) -> ReducedRows:
    """The rows with one factor, everything else of the predictor in ``offset`` (R,)."""
    return replace(rows, X=np.zeros((len(offset), 0)), blocks=(own,), offset=offset)


def _shift(problem: Problem, sd: float, log_dispersion: float) -> tuple[float, float]:
    """How far quadrature would move ``sd``, relative to it; and the relative standard error of sd."""

    def slope(at: float, points: int) -> float:
        mode = problem.objective.mode(np.array([at]), log_dispersion, None)
        layout, likelihood = problem.objective.layout, problem.likelihood
        return float(quadrature_deviance(layout, likelihood, mode, at, log_dispersion, points)[1].theta[0])

    step = STEP * sd
    curvature = (slope(sd + step, POINTS) - slope(sd - step, POINTS)) / (2.0 * step)
    if not curvature > 0.0:
        return np.nan, np.nan
    return (slope(sd, LAPLACE) - slope(sd, POINTS)) / curvature / sd, float(np.sqrt(2.0 / curvature)) / sd


def _check(name: str, shift: float, error: float) -> Check:
    label = f"laplace_accuracy[{name}]"
    if not np.isfinite(shift):
        return Check(label, None, MATERIAL, True, "not calculated: the deviance is not curved upwards there")
    passed = abs(shift) <= max(MATERIAL, error)
    if passed:
        return Check(label, shift, MATERIAL, True, f"quadrature would move the standard deviation of {name} by {shift:+.1%}")
    message = (
        f"levels of {name} have too few line items for Laplace's approximation: quadrature would move its standard deviation by "
        f"{shift:+.1%}, {abs(shift) / error:.1f} standard errors. Averages on the response scale are off as well, and their intervals too "
        f"narrow; leave the term out, or write engine: bayesian (quadrature_points: 9 where this is the only factor)"
    )
    return Check(label, shift, MATERIAL, False, message)
