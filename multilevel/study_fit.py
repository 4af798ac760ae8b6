"""A study from cells to tables: design, partial pooling beside complete and no pooling, the six tables, the report's dictionary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import pyarrow as pa

from multilevel.cells import CellStatistics
from multilevel.design import Design
from multilevel.design_build import build_design
from multilevel.design_checks import check_design
from multilevel.fit import Check, Fit
from multilevel.formula.tree import Formula
from multilevel.hurdle import is_hurdle
from multilevel.interpretation.contextual import contextual_effects
from multilevel.interpretation.dispersion import dispersion_check
from multilevel.interpretation.unsplit_slopes import unsplit_warnings
from multilevel.interpretation.warnings import design_warnings, effective_sizes, separated_groups, simpson_warnings
from multilevel.study_fit_calibration import calibration_of_means
from multilevel.study_fit_engines import fit_partial, fit_without_group_predictors
from multilevel.study_fit_options import FitOptions, FittedPart, StudyFit
from multilevel.study_fit_pooling import Pooling, fit_pooling
from multilevel.study_fit_report import report_of
from multilevel.tables.assemble import Heading
from multilevel.tables.cell_estimates import cell_estimates
from multilevel.tables.cell_pairs import cell_pair
from multilevel.tables.diagnostics import criteria, diagnostics, sizes
from multilevel.tables.draws import check_draws, draws_table
from multilevel.tables.group_coefficients import group_coefficients
from multilevel.tables.group_estimates import group_estimates
from multilevel.tables.level_variance import LevelVariance, level_variance
from multilevel.tables.nesting import Nesting, nesting
from multilevel.tables.new_levels import check_named
from multilevel.tables.population_coefficients import coefficients_of, population_coefficients
from multilevel.tables.variance_components import variance_components


@dataclass
class _Clock:
    """Seconds by step, and word of progress where somebody listens."""

    options: FitOptions
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, done: float) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[name] = perf_counter() - start
        if self.options.progress is not None:
            self.options.progress(name, done)


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
    if is_hurdle(cells.family):
        # The two parts are fits of their own, and their tables know both.
        from multilevel.study_fit_two_part import fit_two_parts

        return fit_two_parts(formula, cells, options)
    clock = _Clock(options)
    with clock.step("design", 0.02):
        design = build_design(formula, cells)
        found = check_design(formula, design)
        tree = nesting(design)
        check_named(tree, options.predict_for)
        if options.cells_pair is not None:
            cell_pair(design, tree, options.cells_pair)
        if options.draws is not None:
            check_draws(design, tree, options.draws)
    with clock.step("partial pooling", 0.7):
        fit = fit_partial(design, options)
    with clock.step("without group-level predictors", 0.8):
        without = fit_without_group_predictors(design, options)
    with clock.step("complete and no pooling", 0.85):
        pooling = fit_pooling(design, tree, options)
    with clock.step("tables", 0.97):
        variance = level_variance(design, fit.joint.mean, dict(tree.factors)) if cells.log_outcome else None
        tables = _tables(fit, tree, options, without=without, pooling=pooling, variance=variance)
        if options.draws is not None:
            tables["draws"] = draws_table(fit, tree, _heading(options), options.draws, options.seed)
    with clock.step("checks", 1.0):
        contextual = contextual_effects(fit, pooling.complete)
        checks = [
            *fit.checks,
            *options.extra_checks,
            *criteria(fit),
            *sizes(fit, options.n_excluded, options.n_quarantined),
            *simpson_warnings(contextual),
            *design_warnings(found),
            *_readings(design, fit, tree),
            *dispersion_check(fit),
            *calibration_of_means(fit, tree, variance),
            *pooling.checks,
        ]
        tables["diagnostics"] = diagnostics(checks, _heading(options))
    report = report_of(formula, fit, tree, options, checks=checks, contextual=contextual, seconds=clock.seconds)
    return StudyFit(
        tables, report, tuple(check for check in checks if check.gate and not check.passed), (FittedPart(None, fit, design, variance),)
    )


def _tables(
    fit: Fit, tree: Nesting, options: FitOptions, *, without: Fit | None, pooling: Pooling, variance: LevelVariance | None
) -> dict[str, pa.Table]:
    heading, named, seed = _heading(options), options.predict_for, options.seed
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


def _readings(design: Design, fit: Fit, tree: Nesting) -> list[Check]:
    return [
        *effective_sizes(design, tree),
        *unsplit_warnings(design, tree),
        *separated_groups(fit, tree),
    ]


def _heading(options: FitOptions) -> Heading:
    return Heading(options.study, options.as_of, options.run_id, options.engine)
