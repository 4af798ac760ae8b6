"""A fitted model of the likelihood engine as a function of its variance parameters: what (beta, b) are at each, and how likely each is.

The density is the restricted one, beta integrated (by Laplace's approximation under a curved link), whatever the fit maximised: with few
levels the maximum of the likelihood itself is too low by what fitting beta used up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from multilevel.arrays import Floats
from multilevel.design.model import Design
from multilevel.design.reduction import reduce_design
from multilevel.errors import FitError
from multilevel.fit.container import Fit, UnitFreeFit
from multilevel.fit.residuals import outcome_variance
from multilevel.generalised.pirls import Mode
from multilevel.generalised.quadrature import quadrature_deviance
from multilevel.generalised.search import Problem, problem_of
from multilevel.intervals.theta_coordinates import Coordinates
from multilevel.linear.criterion import Criterion
from multilevel.linear.factorise import BlockedSystem
from multilevel.linear.joint_normal import NormalJoint
from multilevel.linear.theta import Theta
from multilevel.linear.uncertainty import numerical_jacobian

MOST_KEPT = 5_000_000
"""Rows of all modes that are kept, since a point that is drawn from is asked for again."""


@dataclass(frozen=True)
class Estimated:
    """Where the fit ended, in ``Coordinates``: x (d,), minus infinity where a standard deviation is zero; covariance (d, d), the
    curvature's; is_flat (d,) where that has none."""

    x: Floats
    covariance: Floats
    is_flat: np.ndarray

    @property
    def errors(self) -> Floats:
        """(d,) standard errors, infinite where there is no curvature."""
        variance = np.diagonal(self.covariance)
        known = ~self.is_flat & np.isfinite(self.x) & (variance > 0)
        return np.where(known, np.sqrt(np.where(known, variance, 1.0)), np.inf)


class ThetaModel(Protocol):
    """In the unit-free coordinates of the fit."""

    coordinates: Coordinates

    def log_density(self, x: Floats) -> float:
        """Restricted log-likelihood at x (d,), up to a constant; minus infinity where nothing can be computed."""

    def joint(self, x: Floats) -> NormalJoint:
        """(beta, b) given theta. Raises FitError where no finite mode is reached."""

    def level_errors(self) -> tuple[Floats, ...]:
        """Per block (k,) the typical standard error of a level's effect from its own rows alone: below it no sd is told from zero."""


def coordinates_of(design: Design, *, has_scale: bool, is_flat_log: bool) -> Coordinates:
    """Of a design in unit-free coordinates."""
    scale = math.sqrt(outcome_variance(design)) if design.cells.has_moments else 1.0
    sizes = tuple(len(block.columns) for block in design.blocks)
    return Coordinates(sizes, tuple(block.n_seen_levels for block in design.blocks), scale or 1.0, has_scale, is_flat_log)


def estimated(plain: UnitFreeFit, coordinates: Coordinates, to_roots: Callable[[Floats], tuple[tuple[Floats, ...], float]]) -> Estimated:
    """``to_roots`` : from the engine's parameters to the roots of Sigma and the scale."""
    assert plain.parameters is not None
    values, covariance, flat, units = plain.parameters.values, plain.parameters.covariance, plain.parameters.flat, plain.parameters.units

    def x_of(parameters: Floats) -> Floats:
        return coordinates.of(*to_roots(parameters))

    x = x_of(values)
    with np.errstate(invalid="ignore"):
        jacobian = numerical_jacobian(x_of, values, units)
    known = np.isfinite(jacobian)
    jacobian = np.where(known, jacobian, 0.0)
    is_flat = ~np.isfinite(x) | ~known.all(axis=1) | ((np.abs(jacobian) * units > 1e-8) & (flat > 0.01)).any(axis=1)
    return Estimated(x, jacobian @ covariance @ jacobian.T, is_flat)


@dataclass(frozen=True)
class LinearTheta:
    """Of a linear mixed model whose residual sd was estimated as ``sigma``."""

    coordinates: Coordinates
    criterion: Criterion
    design: Design
    sigma: float

    @classmethod
    def of(cls, fit: Fit, joint: NormalJoint) -> LinearTheta:
        """Of a fit whose system its ``joint`` keeps."""
        return cls.of_system(fit, joint.factor.system, joint.sigma)

    @classmethod
    def of_system(cls, fit: Fit, system: BlockedSystem, sigma: float) -> LinearTheta:
        """Of a fit to the cross-products ``system``."""
        assert fit.unit_free is not None
        design = fit.unit_free.form.design
        known = design.cells.known_sigma
        layout = Theta(tuple(len(block.columns) for block in design.blocks))
        criterion = Criterion(system, layout, True, 0.0, 1.0 if known else None)
        return cls(coordinates_of(design, has_scale=not known, is_flat_log=True), criterion, design, sigma)

    def estimated(self, plain: UnitFreeFit) -> Estimated:
        """As ``estimated``."""
        known, layout = self.criterion.fixed_sigma is not None, self.criterion.layout

        def to_roots(values: Floats) -> tuple[tuple[Floats, ...], float]:
            sigma = 1.0 if known else math.exp(values[-1])
            return tuple(sigma * part for part in layout.lambdas(values if known else values[:-1])), sigma

        return estimated(plain, self.coordinates, to_roots)

    def log_density(self, x: Floats) -> float:
        """-1/2 of the restricted criterion."""
        sigma = self.coordinates.scale(x)
        try:
            factor = self.criterion.system.factorise([root / sigma for root in self.coordinates.roots(x)])
        except FitError:
            return -math.inf
        return -self.criterion.value(factor, sigma) / 2.0

    def joint(self, x: Floats) -> NormalJoint:
        """From one factorisation."""
        sigma = self.coordinates.scale(x)
        return NormalJoint(self.criterion.system.factorise([root / sigma for root in self.coordinates.roots(x)]), sigma)

    def level_errors(self) -> tuple[Floats, ...]:
        """sigma over the root of the levels' rows."""
        rows = reduce_design(self.design)
        information = [
            np.stack([np.bincount(block.codes, column**2, block.n_levels) for column in block.values.T], axis=1) for block in rows.blocks
        ]
        return tuple(self.sigma / np.sqrt(_typical(own)) for own in information)


class LaplaceTheta:
    """Of a generalised linear mixed model."""

    def __init__(self, fit: Fit, quadrature_points: int) -> None:
        assert fit.unit_free is not None
        design = fit.unit_free.form.design
        self._rows = reduce_design(design)
        self._problem: Problem = problem_of(design, self._rows, fit.family)
        self._points = quadrature_points
        self._modes: dict[bytes, tuple[Mode, Floats, float]] = {}
        self.coordinates = coordinates_of(design, has_scale=self._problem.with_dispersion, is_flat_log=False)

    def estimated(self, plain: UnitFreeFit) -> Estimated:
        """As ``estimated``."""
        layout, has_scale = self._problem.theta_layout, self._problem.with_dispersion

        def to_roots(values: Floats) -> tuple[tuple[Floats, ...], float]:
            return layout.lambdas(values[: layout.n]), math.exp(-values[-1] / 2.0) if has_scale else 1.0

        return estimated(plain, self.coordinates, to_roots)

    def log_density(self, x: Floats) -> float:
        """Laplace's approximation over effects and coefficients, or quadrature over the effects."""
        try:
            mode, theta, log_dispersion = self._mode(x)
        except (FitError, FloatingPointError, OverflowError):
            return -math.inf
        if self._points > 1:
            layout, likelihood = self._problem.objective.layout, self._problem.likelihood
            value, _ = quadrature_deviance(layout, likelihood, mode, float(theta[0]), log_dispersion, self._points)
        else:
            value = self._problem.objective.value(mode)
        return -(value + mode.factor.log_det_population) / 2.0

    def joint(self, x: Floats) -> NormalJoint:
        """Normal about the joint mode of coefficients and effects."""
        mode, _, _ = self._mode(x)
        layout = self._problem.objective.layout
        effects = [part.ravel() for part in layout.by_block(mode.effects)]
        return NormalJoint(mode.factor, 1.0, None, np.concatenate([layout.beta(mode.effects), *effects]))

    def level_errors(self) -> tuple[Floats, ...]:
        """From the information at the overall mean."""
        objective = self._problem.objective
        zero = np.zeros(self._problem.theta_layout.n)
        weight = objective.mode(zero, 0.0, None).curvature.weight
        information = [
            np.stack([np.bincount(block.codes, weight * column**2, block.n_levels) for column in block.values.T], axis=1)
            for block in self._rows.blocks
        ]
        return tuple(1.0 / np.sqrt(_typical(own)) for own in information)

    def _mode(self, x: Floats) -> tuple[Mode, Floats, float]:
        key = x.tobytes()
        if key not in self._modes:
            self._modes[key] = self._found(x)
            if len(self._modes) * len(self._rows.offset) > MOST_KEPT:
                self._modes.pop(next(iter(self._modes)))
        return self._modes[key]

    def _found(self, x: Floats) -> tuple[Mode, Floats, float]:
        theta = self._problem.theta_layout.flat(self.coordinates.roots(x))
        log_dispersion = -2.0 * float(x[-1]) if self._problem.with_dispersion else 0.0
        return self._problem.objective.mode(theta, log_dispersion, None), theta, log_dispersion


def _typical(information: Floats) -> Floats:
    """(k,) median over levels (L, k) that say anything."""
    return np.array([float(np.median(own[own > 0])) if np.any(own > 0) else 1.0 for own in information.T])
