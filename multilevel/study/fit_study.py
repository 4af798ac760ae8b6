"""A study from cells to tables: the parts of its model, one or two, fitted; the six tables; the report's dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from multilevel.cells.statistics import CellStatistics
from multilevel.cells.unit_sums import UnitSums
from multilevel.errors import StudyError
from multilevel.estimands.fitted_part import expected_outcome
from multilevel.formula.tree import Formula
from multilevel.study.clock import Clock
from multilevel.study.designs import asked_of, study_parts
from multilevel.study.fitted_parts import fit_parts
from multilevel.study.options import FitOptions, StudyFit, failed_gates
from multilevel.study.report_facts import report_of
from multilevel.study.study_checks import study_checks
from multilevel.study.study_tables import study_tables
from multilevel.tables.diagnostics import diagnostics
from multilevel.tables.draws import check_draws


def fit_study(formula: Formula, cells: CellStatistics, options: FitOptions, units: Sequence[UnitSums] = ()) -> StudyFit:
    """Fit a study and build everything that is published of it.

    A two-part (hurdle) family has two designs on the same cells and two fits. The tables of coefficients and variance components have both
    parts' rows, told apart by ``part``; ``group_estimates`` and ``cell_estimates`` have one expected value, P(y > 0) E[y | y > 0].

    Parameters
    ----------
    formula : from ``parse_formula``.
    cells : the statistics that ``compress`` made for the same formula and family.
    options : what to fit and how to label it.
    units : sums by cell and unit of sampled columns that the formula leaves out, for design effects and errors of plain
        means; made together with ``cells``.

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
    clock = Clock(options.progress)
    with clock.step("design", 0.02):
        parts = study_parts(formula, cells)
        tree = asked_of(parts[0].design, options)
        if options.publishing.draws is not None and len(parts) > 1:
            raise StudyError(
                f"draws: rows {options.publishing.draws}: draws are of one model, a {cells.family} has two; write draws: null."
            )
        if options.publishing.draws is not None:
            check_draws(parts[0].design, tree, options.publishing.draws)
    results = fit_parts(parts, tree, options, clock)
    fitted = tuple(result.fitted for result in results)
    with clock.step("tables", 0.97) as told:
        tables = study_tables(results, expected_outcome(fitted), tree, options, units, told)
    results = tuple(replace(result, pooling=result.pooling.without_levels) for result in results)
    with clock.step("checks", 1.0):
        checks = study_checks(results, tree, options, units, tables["group_estimates"])
        tables["diagnostics"] = diagnostics(checks, options.heading)
    report = report_of(formula, cells.family, results, options, checks=checks, seconds=clock.seconds)
    return StudyFit(tables, report, failed_gates(checks), fitted, tree)
