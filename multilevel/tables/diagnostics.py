"""``diagnostics``: what was checked, the computation's checks first, then criteria, sizes and what to mind when reading the numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from multilevel.catalogue.table_assembly import Heading, published_table
from multilevel.cells.statistics import CellStatistics
from multilevel.fit.container import Check, Fit, fact

ALWAYS = (
    "log_likelihood",
    "reml_criterion",
    "aic",
    "bic",
    "n_line_items",
    "n_excluded",
    "n_quarantined",
    "n_cells",
    "compression_ratio",
    "max_r_hat",
    "min_ess_bulk",
    "min_ess_tail",
    "n_divergences",
    "pareto_k",
    "singular",
    "converged",
)
"""Checks that every run publishes a row for; the value is null where one does not apply."""


def diagnostics(checks: Sequence[Check], heading: Heading) -> pa.Table:
    """The whole table: one row per check, the first of a name standing; missing names of ``ALWAYS`` come as not applicable."""
    rows: dict[str, Check] = {}
    for check in checks:
        rows.setdefault(check.check, check)
    for name in ALWAYS:
        rows.setdefault(name, fact(name, None, "does not apply to this engine and family"))
    found = list(rows.values())
    return published_table(
        "diagnostics",
        heading,
        {
            "check": [check.check for check in found],
            "value": [_finite(check.value) for check in found],
            "threshold": [_finite(check.threshold) for check in found],
            "passed": [bool(check.passed) for check in found],
            "message": [check.message for check in found],
        },
    )


def criteria(fit: Fit) -> list[Check]:
    """Log-likelihood, REML criterion, AIC, BIC, degrees of the model: on the scale of the formula's response and of the rows."""
    n_rows = fit.design.cells.n_rows
    likelihood = fit.likelihood_for_criteria
    deviance = None if likelihood is None else -2.0 * likelihood
    scale = "of log(y)" if fit.design.cells.log_outcome else "of the response"
    is_restricted = fit.method == "reml"
    told = f"log-likelihood on the scale {scale}, all line items"
    if is_restricted:
        told += "; the restricted one, of what the coefficients leave: models whose coefficients differ cannot be compared by it"
    found = [
        fact("log_likelihood", fit.log_likelihood, told),
        fact("reml_criterion", fit.reml_criterion, "minus twice the restricted log-likelihood"),
        fact(
            "aic",
            None if deviance is None else deviance + 2.0 * fit.n_parameters,
            f"-2 log-likelihood + 2 x {fit.n_parameters} parameters{', by maximum likelihood' if is_restricted else ''}",
        ),
        fact("bic", None if deviance is None else deviance + np.log(n_rows) * fit.n_parameters, "-2 log-likelihood + log(n) x parameters"),
        fact("n_parameters", float(fit.n_parameters) if fit.n_parameters else None, "coefficients, variances and dispersion"),
    ]
    if is_restricted and likelihood is not None:
        found.append(
            fact("log_likelihood_ml", likelihood, f"maximised log-likelihood on the scale {scale}, without restriction: AIC and BIC")
        )
    if not fit.is_posterior:
        found.append(fact("singular", float(fit.singular), "1 where a variance is zero or a correlation -1 or 1; a result, not an error"))
    jacobian = fit.design.cells.once.get("log_jacobian")
    if deviance is not None and jacobian is not None and fit.design.cells.log_outcome:
        value = deviance - 2.0 * jacobian + 2.0 * fit.n_parameters
        found.append(fact("aic_response_scale", value, "AIC on the scale of y itself, comparable with families other than log(y)"))
    if fit.sigma is not None:
        found.append(fact("sigma", fit.sigma, "residual standard deviation"))
    if fit.dispersion is not None:
        found.append(fact("dispersion", fit.dispersion, "phi of the negative binomial or shape of the gamma"))
    return found


def sizes(cells: CellStatistics) -> list[Check]:
    """Line items, cells, and the compression they are."""
    return [
        fact("n_line_items", float(cells.n_rows), "line items that the estimates rest on"),
        fact("n_cells", float(cells.n_cells), "cells that carry the sufficient statistics"),
        fact("compression_ratio", cells.n_rows / cells.n_cells, "line items per cell"),
    ]


def left_out(n_excluded: int, n_quarantined: int) -> list[Check]:
    """Line items that are not among the cells."""
    return [
        fact("n_excluded", float(n_excluded), "line items left out on purpose by the study's `where` and `missing`"),
        fact("n_quarantined", float(n_quarantined), "line items left out because they broke a rule"),
    ]


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
