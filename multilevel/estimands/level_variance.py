"""Residual variances per level for ``log(y)`` studies, partially pooled, so that natural-scale means use each level's own sigma.

With RSS_c the expected residual sum of squares of cell c under the joint distribution of the coefficients (at their mean alone it would be
too small by what fitting used up) and n_c its rows, RSS_c ~ sigma_c^2 chi^2(n_c) and log sigma_c^2 = a + sum over grouping factors of
u_f[level], u_f ~ Normal(0, omega_f^2). The u are posterior modes (penalised gamma regression, Lee and Nelder 2006, ch. 7; weights n_c / 2
divided by the Pearson dispersion, so that heavy tails do not pass for differences). omega_f is found by EM with the diagonal of the
curvature, over L - 1 levels: the gamma(2) prior that keeps an sd off zero (Chung et al. 2013), since a few levels that happen to agree
would otherwise pass for sigmas known to be equal. Cost: a few dozen passes over the cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from multilevel.arrays import Floats, Integers
from multilevel.design.model import Factor
from multilevel.errors import FitError
from multilevel.fit.container import Summary

_PASSES = 60
_TOLERANCE = 1e-6

WIDEST = 15.0
"""Residual standard deviation of log(y), in the most variable level, above which exp(sigma^2 / 2) is not published."""


@dataclass(frozen=True)
class LevelVariance:
    """log sigma^2 of a cell = constant + the sum of its levels' effects.

    effects : factor -> (L,). std_errors : factor -> (L,) posterior sd of an effect less the factor's mean effect over line items.
    omega : factor -> sd of the effects. mean_error : posterior sd of the mean log sigma^2 over line items.
    """

    constant: float
    effects: dict[str, Floats]
    std_errors: dict[str, Floats]
    omega: dict[str, float]
    mean_error: float = 0.0

    def part(self, factors: dict[str, Factor], names: frozenset[str]) -> Floats:
        """(C,) sum of the effects of the named factors in each cell."""
        pieces = [self.effects[name][factor.codes] for name, factor in factors.items() if name in names]
        n_cells = len(next(iter(factors.values())).codes)
        return np.asarray(sum(pieces, np.zeros(n_cells)))


def level_variance(n_rows: Integers, residual_ss: Floats, factors: dict[str, Factor]) -> LevelVariance:
    """Fit the log-variances to the rows (C,) and the expected residual sums of squares (C,) of the cells."""
    n = n_rows.astype(float)
    ss = np.maximum(residual_ss, 0.0)
    constant = float(np.log(ss.sum() / n.sum()))
    effects = {name: np.zeros(factor.n_levels) for name, factor in factors.items()}
    precision = {name: np.ones(factor.n_levels) for name, factor in factors.items()}
    omega2 = dict.fromkeys(factors, 0.1)
    # a level without rows (of a hurdle's amounts) has the distribution of the others, and tells nothing of it
    seen = {name: np.bincount(factor.codes, n, factor.n_levels) > 0 for name, factor in factors.items()}
    predictor = np.full(len(n), constant)
    dispersion = _dispersion(ss, n, predictor)
    for _ in range(_PASSES):
        before = predictor.copy()
        for name, factor in factors.items():
            ratio = ss * np.exp(-predictor)
            information = np.bincount(factor.codes, n, factor.n_levels) / (2.0 * dispersion)
            score = np.bincount(factor.codes, ratio - n, factor.n_levels) / (2.0 * dispersion)
            precision[name] = information + 1.0 / omega2[name]
            step = np.clip((score - effects[name] / omega2[name]) / precision[name], -1.0, 1.0)
            effects[name] = effects[name] + step
            predictor = predictor + step[factor.codes]
            told = (effects[name] ** 2 + 1.0 / precision[name])[seen[name]]
            omega2[name] = max(float(np.sum(told)) / max(len(told) - 1, 1), 1e-8)
        shift = float(np.log(np.sum(ss * np.exp(-predictor)) / n.sum()))
        constant, predictor = constant + shift, predictor + shift
        dispersion = _dispersion(ss, n, predictor)
        if np.max(np.abs(predictor - before)) < _TOLERANCE:
            break
    errors = {name: _about_the_mean(1.0 / value, np.bincount(factors[name].codes, n, len(value))) for name, value in precision.items()}
    omega = {name: float(np.sqrt(value)) for name, value in omega2.items()}
    _refuse_too_wide(float(np.max(predictor[n > 0])))
    return LevelVariance(constant, effects, errors, omega, float(np.sqrt(2.0 * dispersion / n.sum())))


def _refuse_too_wide(log_variance: float) -> None:
    if log_variance > np.log(WIDEST**2):
        raise FitError(
            f"The outcome's logarithm has a residual standard deviation of {np.exp(log_variance / 2.0):.3g}: its mean on the natural "
            "scale, exp(mu + sigma^2 / 2), is beyond any use. Look for values near zero that stand for something else, and leave them "
            "out with `where`."
        )


def _about_the_mean(variance: Floats, n: Floats) -> Floats:
    """(L,) sd of an effect less the mean of all, from the variances of single ones given the rest, taken as independent."""
    share = n / n.sum()
    others = np.sum(share**2 * variance) - share**2 * variance
    return np.asarray(np.sqrt((1.0 - share) ** 2 * variance + others))


def widened(summary: Summary, error: Floats, interval: float) -> Summary:
    """A natural-scale mean's summary with ``error``, the sd of its sigma^2 / 2, added on the log scale: its bounds stretch about it."""
    own = summary.std_error / summary.estimate
    relative = np.hypot(own, error)
    stretch = relative / np.maximum(own, 1e-300)
    half = ndtri(0.5 + interval / 2.0) * relative
    factors = [np.log(bound / summary.estimate) * stretch for bound in (summary.lower, summary.upper)]
    lower, upper = (np.where(own > 0, factor, side * half) for factor, side in zip(factors, (-1.0, 1.0), strict=True))
    return Summary(summary.estimate, summary.estimate * relative, summary.estimate * np.exp(lower), summary.estimate * np.exp(upper))


def _dispersion(ss: Floats, n: Floats, predictor: Floats) -> float:
    """Pearson dispersion of the cells' variances about their model: 1 for normal rows, larger for heavy tails, never below 1."""
    ratio = ss * np.exp(-predictor) - n
    return max(1.0, float(np.sum(ratio**2 / (2.0 * n)) / max(len(n) - 1, 1)))
