"""Laplace's approximation of -2 log-likelihood and its analytic gradient.

d(theta, beta, phi) = -2 log f(y | b) + |u|^2 + log |Lambda' Z'WZ Lambda + I| at the conditional modes (Bates et al. 2015; Kristensen et
al. 2016, eq. 5, for the derivative through the modes). W is the observed information, as in glmmTMB; with a canonical link it is lme4's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.families.likelihood import Likelihood
from multilevel.generalised.average_information import Information, average_information
from multilevel.generalised.pirls import Mode, find_mode
from multilevel.generalised.reweighting import Coordinates, Reweighting, solve
from multilevel.linear.effects_gradient import volume_gradient
from multilevel.linear.theta import Theta
from multilevel.linear.touched_covariances import TouchedCovariances


@dataclass(frozen=True)
class Gradient:
    """Derivatives of the deviance: theta (nt,), gamma (p,) (zero where it is profiled), log dispersion (0.0 without one)."""

    theta: Floats
    basis: Floats
    log_dispersion: float


class Objective:
    """The deviance of one model; remembers the last mode, where the next search for one begins."""

    def __init__(self, layout: Reweighting, likelihood: Likelihood, theta_layout: Theta, start: Coordinates) -> None:
        self.layout, self.likelihood, self.theta_layout = layout, likelihood, theta_layout
        self._start = start
        self._last: Mode | None = None
        self.evaluations = 0

    def mode(self, theta: Floats, log_dispersion: float, basis: Floats | None) -> Mode:
        """The conditional modes; gamma too is at its mode when ``basis`` is None."""
        last = self._start if self._last is None else self._last.effects
        start = last if basis is None else last.with_basis(basis)
        lambdas = self.theta_layout.lambdas(theta)
        found = find_mode(self.layout, self.likelihood, lambdas, log_dispersion, start, with_basis=basis is None, near=self._last)
        self._last = found
        self.evaluations += 1
        return found

    @staticmethod
    def value(mode: Mode) -> float:
        """-2 log-likelihood by Laplace's approximation, on the scale of the line items."""
        return mode.penalised + mode.factor.log_det_effects

    def gradient(self, mode: Mode, log_dispersion: float, *, profiled: bool) -> Gradient:
        """At a mode; ``profiled`` tells that gamma was at its mode too and follows theta."""
        layout, curvature = self.layout, mode.curvature
        variance = layout.leverages(mode.factor)
        pull = curvature.weight_slope * variance
        follow, follow_u = solve(mode.factor, layout.transposed(pull), with_basis=profiled)
        moved = layout.linear(follow)
        outward = -2.0 * curvature.score + pull - curvature.weight * moved
        by_theta = self._by_theta(mode, outward, follow_u)
        by_basis = np.zeros(layout.basis.shape[1]) if profiled else layout.basis.T @ outward
        if not self.likelihood.has_dispersion:
            return Gradient(by_theta, by_basis, 0.0)
        by = self.likelihood.by_dispersion(mode.eta, log_dispersion)
        total = -2.0 * by.log_likelihood + float(variance @ by.weight) + float(moved @ by.score)
        return Gradient(by_theta, by_basis, total)

    def information(self, mode: Mode) -> Information:
        """What is known of the curvature in theta at a joint mode without differences."""
        return average_information(self.layout, self.theta_layout, mode)

    def _by_theta(self, mode: Mode, outward: Floats, follow_u: Coordinates) -> Floats:
        layout = self.layout
        direct = layout.by_block(layout.transposed(outward))
        score = layout.by_block(layout.transposed(mode.curvature.score))
        u, a = layout.by_block(mode.spherical), layout.by_block(follow_u)
        volume = volume_gradient(mode.factor, TouchedCovariances.given_beta(mode.factor))
        parts = [np.tril(direct[f].T @ u[f] + score[f].T @ a[f] + volume[f]) for f in range(len(u))]
        return self.theta_layout.flat(parts)
