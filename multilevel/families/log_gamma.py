"""Differences of log-gamma functions that keep their digits for large arguments."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gammaln, psi

from multilevel.arrays import Floats

LARGE = 1e3
"""From here on differences of log-gamma functions are taken by Stirling's series: the functions themselves would cancel."""


def rising_log_gamma(values: Floats, phi: float | Floats) -> Floats:
    """log Gamma(y + phi) - log Gamma(phi), without cancellation for large phi (Abramowitz and Stegun 1964, 6.1.41); both broadcast."""
    small, large = np.minimum(phi, LARGE), np.maximum(phi, LARGE)
    top = values + large
    series = (1.0 / top - 1.0 / large) / 12.0 - (top**-3 - large**-3) / 360.0
    stirling = (large - 0.5) * np.log1p(values / large) + values * (np.log(top) - 1.0) + series
    return np.where(phi < LARGE, gammaln(values + small) - gammaln(small), stirling)


def rising_digamma(values: Floats, phi: float) -> Floats:
    """psi(y + phi) - psi(phi), without cancellation for large phi (Abramowitz and Stegun 1964, 6.3.18)."""
    if phi < LARGE:
        return np.asarray(psi(values + phi) - psi(phi))
    top = values + phi
    return np.asarray(np.log1p(values / phi) - (1.0 / top - 1.0 / phi) / 2.0 - (top**-2 - phi**-2) / 12.0 + (top**-4 - phi**-4) / 120.0)


def log_gamma_gap(log_shape: float) -> float:
    """a log a - log Gamma(a) - a, without cancellation for a large a (Abramowitz and Stegun 1964, 6.1.41)."""
    a = float(np.exp(log_shape))
    if a < LARGE:
        return float(a * log_shape - gammaln(a) - a)
    return float((log_shape - np.log(2.0 * np.pi)) / 2.0 - 1.0 / (12.0 * a) + 1.0 / (360.0 * a**3))


def digamma_gap(log_shape: float) -> float:
    """log a - psi(a), without cancellation for a large a (Abramowitz and Stegun 1964, 6.3.18)."""
    a = float(np.exp(log_shape))
    if a < LARGE:
        return float(log_shape - psi(a))
    return float(1.0 / (2.0 * a) + 1.0 / (12.0 * a**2) - 1.0 / (120.0 * a**4))


def digamma(x: float) -> float:
    """Digamma, to be compiled: recurrence up to 8, then the asymptotic series (Abramowitz and Stegun 1972, 6.3.18)."""
    below = 0.0
    while x < 8.0:
        below -= 1.0 / x
        x += 1.0
    s = 1.0 / (x * x)
    return below + math.log(x) - 0.5 / x - s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s * (1 / 132 - s * 691 / 32760)))))
