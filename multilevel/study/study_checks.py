"""The rows of ``diagnostics``: the checks of every part, under its own name where there are two, and those of the study as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from multilevel.arrays import Floats
from multilevel.cells.unit_sums import UnitSums
from multilevel.checking.design_effects import Published, design_effects
from multilevel.checking.laplace_accuracy import laplace_accuracy
from multilevel.checking.omitted_terms import omitted_terms
from multilevel.checking.predictive import predictive_checks
from multilevel.checking.row_loo import row_loo
from multilevel.checking.uneven_spread import uneven_spread
from multilevel.design.nesting import Nesting
from multilevel.design.parts import units_of_part
from multilevel.fit.container import Check, fact
from multilevel.interpretation.dispersion import dispersion_check
from multilevel.interpretation.unsplit_slopes import reversal_warnings, unsplit_warnings
from multilevel.interpretation.warnings import design_warnings, effective_sizes, separated_groups, simpson_warnings
from multilevel.prediction.save_model import unkept
from multilevel.study.calibration import calibration_of_logarithms, calibration_of_products
from multilevel.study.designs import StudyPart
from multilevel.study.fitted_parts import PartResults
from multilevel.study.lognormal_shape import lognormal_shape
from multilevel.study.options import FitOptions
from multilevel.study.sampled_members import sampled_checks
from multilevel.tables.diagnostics import criteria, left_out, sizes

_TOGETHER: dict[str, Callable[[list[float]], float]] = {
    "max_r_hat": max,
    "min_ess_bulk": min,
    "min_ess_tail": min,
    "n_divergences": sum,
    "pareto_k": max,
    "singular": max,
    "converged": max,
}
"""How one number of both parts is the worse of the two, or their sum."""


def study_checks(
    results: Sequence[PartResults], tree: Nesting, options: FitOptions, units: Sequence[UnitSums], estimates: pa.Table
) -> list[Check]:
    """Everything that was checked; the report tells what failed in this order.

    ``units`` : sums of sampled columns that the formula leaves out. ``estimates`` : the published ``group_estimates``.
    """
    whole = results[0].part
    published = published_levels(estimates, tree) if units and len(results) == 1 else {}
    dependence = [
        [
            check
            for sums in units
            for check in design_effects(
                result.fit, result.tree, _own_units(result, sums), _row_variance(result), published, result.options.model.seed
            )
        ]
        for result in results
    ]
    fits, likelihoods = [_of_the_fit(result) for result in results], [_criteria(result) for result in results]
    measured = [sums.column for sums in units if any(check.check.endswith(f", {sums.column}]") for own in dependence for check in own)]
    return [
        *_named(results, dependence),
        *_named(results, fits),
        *options.publishing.extra_checks,
        *_joint_checks([[*fit, *own] for fit, own in zip(fits, likelihoods, strict=True)], whole.design.cells.n_rows),
        *_named(results, likelihoods),
        *sizes(whole.design.cells),
        *left_out(options.publishing.n_excluded, options.publishing.n_quarantined),
        *design_warnings(whole.warnings),
        *effective_sizes(whole.design, tree),
        *sampled_checks(tree, options.publishing.sampled, measured),
        *_named(results[1:], [_of_fewer_rows(result, whole) for result in results[1:]]),
        *_named(results, [_of_the_groups(result, estimates) for result in results]),
        *calibration_of_products([result.fitted for result in results], tree),
        *_named(results, [result.pooling.checks for result in results]),
        *_named(results, [_kept(result) for result in results]),
    ]


def _kept(result: PartResults) -> list[Check]:
    """Said only where the joint distribution is too large to keep."""
    why = unkept(result.fit)
    return [] if why is None else [Check("joint_kept", None, None, False, f"contrast and predict will have nothing to read: {why}")]


def published_levels(estimates: pa.Table, tree: Nesting) -> dict[str, Published]:
    """Estimates of every factor's levels with their standard errors, from the table ``group_estimates``."""
    columns = estimates.select(["grouping_factor", "parent_level", "level", "is_new", "estimate", "std_error"]).to_pylist()
    known = {
        (row["grouping_factor"], row["parent_level"], row["level"]): (row["estimate"], row["std_error"])
        for row in columns
        if not row["is_new"] and row["estimate"] is not None and row["std_error"] is not None
    }
    found = {}
    for name, factor in tree.factors.items():
        parents = [None] * factor.n_levels if factor.parents is None else [str(parent) for parent in factor.parents]
        keys = ((name, parent, str(level)) for parent, level in zip(parents, factor.levels, strict=True))
        pairs = np.array([known.get(key, (np.nan, np.nan)) for key in keys], dtype=np.float64)
        found[name] = Published(pairs[:, 0], pairs[:, 1])
    return found


def _row_variance(result: PartResults) -> Floats | None:
    variance, factors = result.variance, dict(result.tree.factors)
    return None if variance is None else np.exp(variance.constant + variance.part(factors, frozenset(factors)))


def _own_units(result: PartResults, units: UnitSums) -> UnitSums:
    return units if result.part.name is None else units_of_part(units, result.part.name)


def _of_the_fit(result: PartResults) -> list[Check]:
    seed = result.options.model.seed
    omitted = omitted_terms(result.fit, result.tree, seed)
    return [
        *result.fit.checks,
        *predictive_checks(result.fit, seed, omitted),
        *omitted,
        *uneven_spread(result.fit, result.tree, omitted),
        *laplace_accuracy(result.fit),
        *row_loo(result.fit),
    ]


def _criteria(result: PartResults) -> list[Check]:
    return [*criteria(result.fit), *simpson_warnings(result.contextual)]


def _of_the_groups(result: PartResults, estimates: pa.Table) -> list[Check]:
    design, pooling = result.fit.design, result.pooling
    is_part = result.part.name is not None
    return [
        *unsplit_warnings(design, result.tree),
        *reversal_warnings(design, pooling.complete, pooling.separate_fits),
        *separated_groups(result.fit, result.tree),
        *dispersion_check(result.fit),
        *calibration_of_logarithms(result.fit, result.tree, result.variance),
        *lognormal_shape(result.fit, result.tree, result.variance, estimates, is_part=is_part),
    ]


def _of_fewer_rows(result: PartResults, whole: StudyPart) -> list[Check]:
    """Of a part that does not have all line items: how many it has, and what is to be minded among them only."""
    part = result.part
    return [
        *sizes(part.design.cells),
        *design_warnings([warning for warning in part.warnings if warning not in whole.warnings]),
        *effective_sizes(part.design, result.tree),
    ]


def _named(results: Sequence[PartResults], checks: Sequence[Sequence[Check]]) -> list[Check]:
    """The checks of every part: each as ``name[part]`` where there are two."""
    found: list[Check] = []
    for result, own in zip(results, checks, strict=True):
        part = result.part
        found += (
            own
            if part.name is None
            else [replace(check, check=f"{check.check}[{part.name}]", message=part.told(check.message)) for check in own]
        )
    return found


def _joint_checks(parts: Sequence[Sequence[Check]], n_rows: int) -> list[Check]:
    """One row of all parts for each of the names that every run publishes; none of one part, whose rows they are already.

    ``parts``: the checks of each part, under their plain names. ``n_rows``: line items of the study.
    """
    if len(parts) == 1:
        return []
    values = [{check.check: check.value for check in own} for own in parts]
    rows = []
    for name, together in _TOGETHER.items():
        present = [value for own in values if (value := own.get(name)) is not None]
        if present:
            rows.append(fact(name, float(together(present)), "of both parts; each has a row of its own"))
    return [*rows, *_joint_criteria(values, n_rows)]


def _joint_criteria(parts: Sequence[Mapping[str, float | None]], n_rows: int) -> list[Check]:
    """Log-likelihood, AIC and BIC of the outcome: the parts' likelihoods are multiplied."""
    k = sum(own.get("n_parameters") or 0.0 for own in parts)
    rows = [fact("n_parameters", k, "coefficients, variances and dispersions of both parts")] if k else []
    known = [found for own in parts if (found := _likelihood(own)) is not None]
    if len(known) < len(parts):
        return rows
    deviance = -2.0 * sum(known)
    return [
        *rows,
        fact("log_likelihood", sum(known), "log-likelihood of y, zeros and amounts, all line items"),
        fact("aic", deviance + 2.0 * k, f"-2 log-likelihood + 2 x {k:g} parameters, both parts"),
        fact("bic", deviance + float(np.log(n_rows)) * k, "-2 log-likelihood + log(n) x parameters of both parts, n all line items"),
    ]


def _likelihood(values: Mapping[str, float | None]) -> float | None:
    """A part's log-likelihood; that of a logarithm on the scale of y, from its AIC there."""
    aic, n_parameters = values.get("aic_response_scale"), values.get("n_parameters")
    if aic is not None and n_parameters is not None:
        return n_parameters - aic / 2.0
    return values.get("log_likelihood")
