"""A two-part study from cells to tables: two designs on the same cells, two fits, one published set of tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from multilevel.catalogue.published_tables import EVERY_TABLE
from multilevel.cells.statistics import CellStatistics
from multilevel.checking.predictive import predictive_checks
from multilevel.checking.row_loo import row_loo
from multilevel.design.model import Design
from multilevel.design.nesting import Nesting
from multilevel.design.parts import PARTS, Part
from multilevel.errors import StudyError
from multilevel.estimands.fitted_part import FittedPart
from multilevel.estimands.level_variance import LevelVariance, level_variance
from multilevel.estimands.product import TwoPartFit, product_of_fits
from multilevel.fit.coefficients import coefficients_of
from multilevel.fit.container import Check, Fit
from multilevel.fit.residuals import expected_residual_ss
from multilevel.formula.tree import Formula
from multilevel.interpretation.contextual import contextual_effects
from multilevel.interpretation.dispersion import dispersion_check
from multilevel.interpretation.unsplit_slopes import reversal_warnings, unsplit_warnings
from multilevel.interpretation.warnings import design_warnings, effective_sizes, separated_groups, simpson_warnings
from multilevel.study.clock import Clock
from multilevel.study.designs import PartDesigns, asked_of, part_designs, tree_of
from multilevel.study.engines import fit_partial, fit_without_group_predictors
from multilevel.study.extremes_by_factor import Pooling, fit_pooling
from multilevel.study.options import FitOptions, StudyFit, failed_gates
from multilevel.study.two_part_checks import calibration_of_expected_values, joined_checks
from multilevel.study.two_part_report import two_part_report
from multilevel.tables.diagnostics import criteria, diagnostics, sizes
from multilevel.tables.group_coefficients import group_coefficients
from multilevel.tables.population_coefficients import population_coefficients
from multilevel.tables.two_part_cells import two_part_cell_estimates
from multilevel.tables.two_part_estimates import TwoPartPooling, two_part_group_estimates
from multilevel.tables.variance_components import variance_components


@dataclass(frozen=True)
class PartResults:
    """One part, fitted: partial pooling, the same without group-level predictors, both extremes, and its checks."""

    fit: Fit
    without: Fit | None
    pooling: Pooling
    checks: list[Check]


def options_of_part(options: FitOptions, part: Part) -> FitOptions:
    """The study's options for one part: its own priors, and random numbers that the other part does not use."""
    priors = options.priors
    if priors is not None:
        if not isinstance(priors, Mapping) or set(priors) - set(PARTS):
            raise StudyError(f"priors: {priors!r}: a two-part model takes priors: {{occurrence: ..., amount: ...}}.")
        priors = priors.get(part)
    method = options.method if part == "amount" or options.method == "ml" else None
    return replace(options, priors=priors, method=method, seed=options.seed + PARTS.index(part), progress=None)


def fit_two_parts(formula: Formula, cells: CellStatistics, options: FitOptions) -> StudyFit:
    """As ``fit_study``, for ``hurdle_lognormal`` and ``hurdle_gamma``.

    The tables of coefficients and variance components have both parts' rows, told apart by ``part``; ``group_estimates`` and
    ``cell_estimates`` have one expected value, P(y > 0) E[y | y > 0].
    """
    clock = Clock(options.progress)
    if options.draws is not None:
        raise StudyError(f"draws: rows {options.draws}: draws are of one model, a {cells.family} has two; write draws: null.")
    with clock.step("design", 0.02):
        designs = part_designs(formula, cells)
        tree = asked_of(designs.whole, options)
    fitted: dict[Part, PartResults] = {}
    for part, done in zip(PARTS, (0.4, 0.8), strict=True):
        with clock.step(f"{part}: partial, complete and no pooling", done):
            fitted[part] = _fit_part(designs.by_part[part], tree, options_of_part(options, part))
    occurrence, amount = fitted["occurrence"], fitted["amount"]
    both = product_of_fits(occurrence.fit, amount.fit)
    with clock.step("tables", 0.97):
        variance = None
        if designs.amount.cells.log_outcome:
            residual_ss = expected_residual_ss(designs.amount, amount.fit.joint)
            variance = level_variance(designs.amount.cells.n, residual_ss, dict(tree_of(designs.amount, tree).factors))
        tables = _tables(both, fitted, designs, tree, options, variance)
    with clock.step("checks", 1.0):
        checks = [
            *options.extra_checks,
            *joined_checks({part: entry.checks for part, entry in fitted.items()}),
            *sizes(occurrence.fit, options.n_excluded, options.n_quarantined),
            *design_warnings(designs.warnings),
            *effective_sizes(designs.whole, tree),
            *calibration_of_expected_values(both, tree, variance, cells.total),
        ]
        tables["diagnostics"] = diagnostics(checks, options.heading)
    report = two_part_report(
        formula,
        cells.family,
        {part: entry.fit for part, entry in fitted.items()},
        {part: tree_of(designs.by_part[part], tree) for part in PARTS},
        {part: options_of_part(options, part) for part in PARTS},
        checks=checks,
        contextual={part: contextual_effects(entry.fit, entry.pooling.complete) for part, entry in fitted.items()},
        seconds=clock.seconds,
    )
    parts = (FittedPart("occurrence", occurrence.fit, designs.whole), FittedPart("amount", amount.fit, designs.amount_everywhere, variance))
    return StudyFit(tables, report, failed_gates(checks), parts)


def _fit_part(design: Design, tree: Nesting, options: FitOptions) -> PartResults:
    fit = fit_partial(design, options)
    pooling = fit_pooling(design, tree, options)
    checks = [
        *fit.checks,
        *predictive_checks(fit, options.seed),
        *row_loo(fit),
        *criteria(fit),
        *simpson_warnings(contextual_effects(fit, pooling.complete)),
        *unsplit_warnings(design, tree_of(design, tree)),
        *reversal_warnings(design, pooling.complete, pooling.separate_fits),
        *separated_groups(fit, tree_of(design, tree)),
        *dispersion_check(fit),
        *pooling.checks,
    ]
    return PartResults(fit, fit_without_group_predictors(design, options), pooling, checks)


def _tables(
    both: TwoPartFit,
    fitted: Mapping[Part, PartResults],
    designs: PartDesigns,
    tree: Nesting,
    options: FitOptions,
    variance: LevelVariance | None,
) -> dict[str, pa.Table]:
    heading, named, seed = options.heading, options.predict_for, options.seed
    population, components, groups = {}, {}, {}
    for part, entry in fitted.items():
        kinds = [coefficients_of(entry.fit, "partial"), *entry.pooling.coefficients]
        population[part] = population_coefficients(heading, kinds, entry.without)
        components[part] = variance_components(entry.fit, heading, entry.without)
        everywhere = entry.fit if part == "occurrence" else replace(entry.fit, design=designs.amount_everywhere)
        groups[part] = group_coefficients(everywhere, tree, heading, named, seed)
    return {
        "population_coefficients": one_table("population_coefficients", population),
        "variance_components": one_table("variance_components", components),
        "group_coefficients": one_table("group_coefficients", groups),
        "group_estimates": two_part_group_estimates(
            both, tree, heading, pooling=_pooling(fitted), variance=variance, named=named, seed=seed
        ),
        "cell_estimates": two_part_cell_estimates(both, tree, heading, options.cells_pair, variance, seed),
    }


def one_table(name: str, tables: Mapping[Part, pa.Table]) -> pa.Table:
    """Both parts' rows in the order of the key, each with its part."""
    marked = []
    for part, table in tables.items():
        at = table.schema.get_field_index("part")
        marked.append(table.set_column(at, table.schema.field(at), pa.array([part] * table.num_rows, pa.string())))
    return pa.concat_tables(marked).sort_by([(key, "ascending") for key in EVERY_TABLE[name].sort_key])


def _pooling(fitted: Mapping[Part, PartResults]) -> TwoPartPooling:
    first, second = (fitted[part].pooling for part in PARTS)
    complete = None if first.complete is None or second.complete is None else (first.complete, second.complete)
    return TwoPartPooling(
        complete, {name: (first.separate[name], second.separate[name]) for name in first.separate if name in second.separate}
    )
