"""A study from cells to tables: design, partial pooling beside complete and no pooling, the six tables, the report's dictionary."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from multilevel.cells.statistics import CellStatistics
from multilevel.checking.predictive import predictive_checks
from multilevel.checking.row_loo import row_loo
from multilevel.design.build import build_design
from multilevel.design.checks import DesignWarning, check_design
from multilevel.design.nesting import Nesting
from multilevel.estimands.fitted_part import FittedPart
from multilevel.estimands.level_variance import LevelVariance, level_variance
from multilevel.families.registry import has_two_parts
from multilevel.fit.coefficients import coefficients_of
from multilevel.fit.container import Check, Fit
from multilevel.fit.residuals import expected_residual_ss
from multilevel.formula.tree import Formula
from multilevel.interpretation.contextual import ContextualEffect, contextual_effects
from multilevel.interpretation.dispersion import dispersion_check
from multilevel.interpretation.unsplit_slopes import reversal_warnings, unsplit_warnings
from multilevel.interpretation.warnings import design_warnings, effective_sizes, separated_groups, simpson_warnings
from multilevel.study.calibration import calibration_of_means
from multilevel.study.clock import Clock
from multilevel.study.designs import asked_of
from multilevel.study.engines import fit_partial, fit_without_group_predictors
from multilevel.study.extremes_by_factor import Pooling, fit_pooling
from multilevel.study.options import FitOptions, StudyFit, failed_gates
from multilevel.study.report_facts import report_of
from multilevel.tables.cell_estimates import cell_estimates
from multilevel.tables.diagnostics import criteria, diagnostics, sizes
from multilevel.tables.draws import check_draws, draws_table
from multilevel.tables.group_coefficients import group_coefficients
from multilevel.tables.group_estimates import group_estimates
from multilevel.tables.population_coefficients import population_coefficients
from multilevel.tables.variance_components import variance_components


def fit_study(formula: Formula, cells: CellStatistics, options: FitOptions) -> StudyFit:
    """Fit a study and build everything that is published of it.

    Parameters
    ----------
    formula : from ``parse_formula``.
    cells : the statistics that ``compress`` made for the same formula and family.
    options : what to fit and how to label it.

    Returns
    -------
    StudyFit
        The six tables of the catalogue, the report's dictionary, and the failed gates; nothing is raised for those, so that the tables of
        a failed run can be looked at.

    Raises
    ------
    StudyError
        What the options ask for does not exist in this model. FitError: the model cannot be fitted.
    """
    if has_two_parts(cells.family):
        # The two parts are fits of their own, and their tables know both.
        from multilevel.study.two_part_study import fit_two_parts

        return fit_two_parts(formula, cells, options)
    clock = Clock(options.progress)
    with clock.step("design", 0.02):
        design = build_design(formula, cells)
        found = check_design(formula, design)
        tree = asked_of(design, options)
        if options.draws is not None:
            check_draws(design, tree, options.draws)
    with clock.step("partial pooling", 0.7):
        fit = fit_partial(design, options)
    with clock.step("without group-level predictors", 0.8):
        without = fit_without_group_predictors(design, options)
    with clock.step("complete and no pooling", 0.85):
        pooling = fit_pooling(design, tree, options)
    with clock.step("tables", 0.97):
        variance = level_variance(cells.n, expected_residual_ss(design, fit.joint), dict(tree.factors)) if cells.log_outcome else None
        tables = _tables(fit, tree, options, without=without, pooling=pooling, variance=variance)
        if options.draws is not None:
            tables["draws"] = draws_table(fit, tree, options.heading, options.draws, options.seed)
    with clock.step("checks", 1.0):
        contextual = contextual_effects(fit, pooling.complete)
        checks = _checks(fit, tree, options, pooling=pooling, contextual=contextual, warnings=found, variance=variance)
        tables["diagnostics"] = diagnostics(checks, options.heading)
    report = report_of(formula, fit, tree, options, checks=checks, contextual=contextual, seconds=clock.seconds)
    return StudyFit(tables, report, failed_gates(checks), (FittedPart(None, fit, design, variance),))


def _tables(
    fit: Fit, tree: Nesting, options: FitOptions, *, without: Fit | None, pooling: Pooling, variance: LevelVariance | None
) -> dict[str, pa.Table]:
    heading, named, seed = options.heading, options.predict_for, options.seed
    kinds = [coefficients_of(fit, "partial"), *pooling.coefficients]
    return {
        "population_coefficients": population_coefficients(heading, kinds, without),
        "variance_components": variance_components(fit, heading, without),
        "group_coefficients": group_coefficients(fit, tree, heading, named, seed),
        "group_estimates": group_estimates(
            fit,
            tree,
            heading,
            complete=pooling.complete_response,
            no_pooling=pooling.separate,
            variance=variance,
            named=named,
            seed=seed,
        ),
        "cell_estimates": cell_estimates(fit, tree, heading, options.cells_pair, variance),
    }


def _checks(
    fit: Fit,
    tree: Nesting,
    options: FitOptions,
    *,
    pooling: Pooling,
    contextual: list[ContextualEffect],
    warnings: Sequence[DesignWarning],
    variance: LevelVariance | None,
) -> list[Check]:
    return [
        *fit.checks,
        *predictive_checks(fit, options.seed),
        *row_loo(fit),
        *options.extra_checks,
        *criteria(fit),
        *sizes(fit, options.n_excluded, options.n_quarantined),
        *simpson_warnings(contextual),
        *design_warnings(warnings),
        *effective_sizes(fit.design, tree),
        *unsplit_warnings(fit.design, tree),
        *reversal_warnings(fit.design, pooling.complete, pooling.separate_fits),
        *separated_groups(fit, tree),
        *dispersion_check(fit),
        *calibration_of_means(fit, tree, variance),
        *pooling.checks,
    ]
