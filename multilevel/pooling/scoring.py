"""Newton's method for a generalised linear model with one factor's terms free in every level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from multilevel.arrays import Floats
from multilevel.design.reduction import ReducedRows
from multilevel.errors import FitError
from multilevel.families.likelihood import Likelihood, rounding_of_decrement, rounding_of_value
from multilevel.families.outcome import Outcome
from multilevel.generalised.reweighting import Coordinates, Reweighting, reweighting, solve
from multilevel.linear.factorise import BlockedFactor
from multilevel.pooling.levels import LevelSolution, level_basis, level_gram, with_kernels

STEPS = 120
HALVINGS = 30

TOLERANCE = 1e-12
"""Newton decrement at which the search ends: a separated level, which gains 1 a step, is then 27 and more from where it began."""

ROUNDS = 30
DISPERSION_BOUNDS = (-12.0, 16.0)


@dataclass(frozen=True)
class LevelFit:
    """beta (p,) common coefficients, effects (L, k); factor of the information there, with the levels' part of it; log_likelihood of the
    line items; dispersion or None."""

    beta: Floats
    effects: Floats
    factor: BlockedFactor
    solution: LevelSolution
    log_likelihood: float
    dispersion: float | None


def fit_levels(rows: ReducedRows, outcome: Outcome) -> LevelFit:
    """Maximum likelihood of common coefficients and free levels; ``rows`` has one block, the factor's terms.

    Levels without a finite estimate end as not estimable; what is left of them says nothing about the common coefficients.
    Raises FitError where a common coefficient has no finite estimate.
    """
    search = _Search(rows, outcome.family.likelihood(outcome))
    log_dispersion = 0.0
    at = search.start()
    for _ in range(ROUNDS):
        at = search.climb(at, log_dispersion)
        better = search.best_dispersion(at, log_dispersion)
        is_settled = abs(better - log_dispersion) < 1e-7
        log_dispersion = better
        if is_settled:
            break
    at = search.climb(at, log_dispersion)
    factor, solution = search.factor(at, log_dispersion)
    has_dispersion = search.likelihood.has_dispersion
    return LevelFit(
        beta=search.layout.beta(at),
        effects=at.own,
        factor=factor,
        solution=solution,
        log_likelihood=search.value(at, log_dispersion),
        dispersion=math.exp(log_dispersion) if has_dispersion else None,
    )


class _Search:
    def __init__(self, rows: ReducedRows, likelihood: Likelihood) -> None:
        self.likelihood = likelihood
        self.layout: Reweighting = reweighting(rows)
        typical = likelihood.curvature(np.full(len(rows.size), likelihood.typical_predictor()) + rows.offset, 0.0).weight
        self._base_weights = np.maximum(typical, 1e-6 * rows.size)
        self._levels = level_basis(level_gram(rows.blocks[0], self._base_weights))

    def start(self) -> Coordinates:
        """No effects; the common columns nearest to the overall mean."""
        zero = self.layout.zero()
        constant = self.likelihood.typical_predictor() - self.layout.offset
        system = self.layout.system(self._base_weights)
        factor = with_kernels(system, self._levels.solve(system.own).kernels)
        found, _ = solve(factor, self.layout.transposed(self._base_weights * constant), with_basis=True)
        return found if np.isfinite(found.basis).all() else zero

    def eta(self, at: Coordinates) -> Floats:
        """(R,) linear predictor."""
        return self.layout.offset + self.layout.linear(at)

    def value(self, at: Coordinates, log_dispersion: float) -> float:
        """Log-likelihood of the line items, -inf where it overflows."""
        with np.errstate(over="ignore", invalid="ignore"):
            found = float(np.sum(self.likelihood.terms(self.eta(at), log_dispersion))) + self.likelihood.constant(log_dispersion)
        return found if np.isfinite(found) else -math.inf

    def factor(self, at: Coordinates, log_dispersion: float) -> tuple[BlockedFactor, LevelSolution]:
        """The information at a point, and the levels' part of it."""
        system = self.layout.system(self.likelihood.curvature(self.eta(at), log_dispersion).weight)
        solution = self._levels.solve(system.own)
        return with_kernels(system, solution.kernels), solution

    def climb(self, at: Coordinates, log_dispersion: float) -> Coordinates:
        """Newton's steps to the maximum at a given dispersion."""
        value = self.value(at, log_dispersion)
        for _ in range(STEPS):
            eta = self.eta(at)
            curvature = self.likelihood.curvature(eta, log_dispersion)
            score = self.layout.transposed(curvature.score)
            step, _ = solve(self.factor(at, log_dispersion)[0], score, with_basis=True)
            if step.dot(score) < max(TOLERANCE, rounding_of_decrement(self.likelihood, eta, log_dispersion, curvature.weight)):
                return at
            rounding = rounding_of_value(self.likelihood, eta, log_dispersion)
            share = 1.0
            for _ in range(HALVINGS):
                moved = at + step.times(share)
                new_value = self.value(moved, log_dispersion)
                if new_value >= value - rounding:
                    break
                share /= 2.0
            else:
                return at
            at, value = moved, new_value
        raise FitError("No pooling: the likelihood has no finite maximum in the common coefficients; a predictor separates the outcome.")

    def best_dispersion(self, at: Coordinates, present: float) -> float:
        """log phi or log shape that maximises the likelihood at a linear predictor; ``present`` for families without one."""
        if not self.likelihood.has_dispersion:
            return present
        eta = self.eta(at)

        def loss(log_dispersion: float) -> float:
            return -float(np.sum(self.likelihood.terms(eta, log_dispersion))) - self.likelihood.constant(log_dispersion)

        return float(minimize_scalar(loss, bounds=DISPERSION_BOUNDS, method="bounded", options={"xatol": 1e-8}).x)
