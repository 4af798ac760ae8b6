"""``diagnostics`` of a two-part model: each part's checks under its own name, and what holds for both together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from multilevel.arrays import Floats
from multilevel.design.nesting import Nesting
from multilevel.design.parts import Part
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.product import TwoPartFit
from multilevel.fit.container import Check, fact
from multilevel.fit.residuals import linear_predictor
from multilevel.study.calibration import MOST_OUTSIDE, TOLERANCE

_WORST: dict[str, Callable[[list[float]], float]] = {
    "max_r_hat": max,
    "min_ess_bulk": min,
    "min_ess_tail": min,
    "n_divergences": sum,
    "pareto_k": max,
    "singular": max,
}
"""How one number of both parts is the worse of the two, or their sum."""


def joined_checks(checks: Mapping[Part, Sequence[Check]]) -> list[Check]:
    """Every check as ``name[part]``, and for the names that every run publishes one row for both parts."""
    found = [
        replace(check, check=f"{check.check}[{part}]", message=f"{part}: {check.message}") for part, own in checks.items() for check in own
    ]
    return [*found, *_together(checks)]


def _together(checks: Mapping[Part, Sequence[Check]]) -> list[Check]:
    values = {part: {check.check: check.value for check in own} for part, own in checks.items()}
    rows = []
    for name, worse in _WORST.items():
        present = [value for own in values.values() if (value := own.get(name)) is not None]
        if present:
            rows.append(fact(name, float(worse(present)), "of both parts; each has a row of its own"))
    likelihoods = [_likelihood(values["occurrence"]), _likelihood(values["amount"], of_y=True)]
    n_parameters = sum(own.get("n_parameters") or 0.0 for own in values.values())
    known = [value for value in likelihoods if value is not None]
    if len(known) == len(likelihoods):
        rows.append(fact("log_likelihood", sum(known), "log-likelihood of y, zeros and amounts, all line items"))
        rows.append(fact("aic", 2.0 * n_parameters - 2.0 * sum(known), f"-2 log-likelihood + 2 x {n_parameters:g} parameters, both parts"))
    return rows


def _likelihood(values: Mapping[str, float | None], *, of_y: bool = False) -> float | None:
    """A part's log-likelihood; that of a lognormal amount on the scale of y, from its AIC there."""
    aic, n_parameters = values.get("aic_response_scale"), values.get("n_parameters")
    if of_y and aic is not None and n_parameters is not None:
        return n_parameters - aic / 2.0
    return values.get("log_likelihood")


def calibration_of_expected_values(both: TwoPartFit, tree: Nesting, variance: LevelVariance | None, total: Floats) -> list[Check]:
    """Per factor the share of line items in levels whose fitted mean of y misses the observed one; ``total`` (C,) is the summed outcome."""
    n = both.design.cells.n.astype(float)
    first, second = (linear_predictor(both.design, part.fit.joint.mean) for part in both.parts)
    dispersion = both.amount.fit.dispersion
    factors = dict(tree.factors)
    sigma2 = np.zeros(len(n)) if variance is None else np.exp(variance.constant + variance.part(factors, frozenset(factors)))
    p = both.occurrence.response.mean(first)
    amount = both.amount.response.mean(second + sigma2 / 2.0)
    relative = np.expm1(np.minimum(sigma2, 50.0)) if dispersion is None else np.full(len(n), 1.0 / dispersion)
    # Var(y) of a hurdle: p E[a^2] - p^2 E[a]^2
    noise = n * amount**2 * (p * (1.0 + relative) - p**2)
    found = []
    for name, factor in tree.factors.items():
        rows, observed, expected, scatter = (np.bincount(factor.codes, v, factor.n_levels) for v in (n, total, n * p * amount, noise))
        error = np.abs(expected - observed)
        outside = error > np.maximum(TOLERANCE * expected, 2.0 * np.sqrt(scatter))
        share = float(np.sum(rows[outside]) / rows.sum())
        away = f"{int(outside.sum())} of {factor.n_levels} levels by more than {TOLERANCE:.0%} and twice their sampling error"
        typical = error.sum() / observed.sum()
        message = f"{name}: fitted means of y differ from the observed ones by {typical:.1%} on average (weighted by outcome); {away}"
        found.append(Check(f"calibration_of_means[{name}]", share, MOST_OUTSIDE, passed=share <= MOST_OUTSIDE, message=message))
    return found
