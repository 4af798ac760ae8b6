"""A two-part study from cells to tables: two designs on the same cells, two fits, one published set of tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
import pyarrow as pa

from multilevel.cells import CellStatistics
from multilevel.design import Design
from multilevel.design_build import build_design
from multilevel.design_checks import DesignWarning, check_design
from multilevel.errors import StudyError
from multilevel.fit import Check, Fit
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Formula
from multilevel.hurdle import PARTS, Part, amount_design, split_cells
from multilevel.interpretation.contextual import contextual_effects
from multilevel.interpretation.dispersion import dispersion_check
from multilevel.interpretation.unsplit_slopes import unsplit_warnings
from multilevel.interpretation.warnings import design_warnings, effective_sizes, separated_groups, simpson_warnings
from multilevel.study_fit_engines import fit_partial, fit_without_group_predictors
from multilevel.study_fit_options import FitOptions, StudyFit
from multilevel.study_fit_options import FittedPart as StudyPart
from multilevel.study_fit_pooling import Pooling, fit_pooling
from multilevel.study_fit_two_part_checks import calibration_of_expected_values, joined_checks
from multilevel.study_fit_two_part_report import two_part_report
from multilevel.tables.assemble import Heading
from multilevel.tables.catalogue import EVERY_TABLE
from multilevel.tables.cell_pairs import cell_pair
from multilevel.tables.diagnostics import criteria, diagnostics, sizes
from multilevel.tables.group_coefficients import group_coefficients
from multilevel.tables.level_variance import LevelVariance, level_variance
from multilevel.tables.nesting import Nesting, nesting
from multilevel.tables.new_levels import check_named
from multilevel.tables.population_coefficients import coefficients_of, population_coefficients
from multilevel.tables.two_part import Part as FittedPart
from multilevel.tables.two_part import TwoPartFit
from multilevel.tables.two_part_cells import two_part_cell_estimates
from multilevel.tables.two_part_estimates import TwoPartPooling, two_part_group_estimates
from multilevel.tables.variance_components import variance_components


@dataclass(frozen=True)
class PartDesigns:
    """``whole`` has every cell; ``amount`` those with rows above zero; ``amount_everywhere`` every cell, with n the rows above zero."""

    whole: Design
    amount: Design
    amount_everywhere: Design
    warnings: tuple[DesignWarning, ...]

    @property
    def by_part(self) -> dict[Part, Design]:
        """What is fitted."""
        return {"occurrence": self.whole, "amount": self.amount}


@dataclass(frozen=True)
class FittedPartOfStudy:
    """One part, fitted: partial pooling, the same without group-level predictors, both extremes, and its checks."""

    fit: Fit
    without: Fit | None
    pooling: Pooling
    checks: list[Check]


@dataclass
class _Clock:
    options: FitOptions
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, done: float) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[name] = perf_counter() - start
        if self.options.progress is not None:
            self.options.progress(name, done)


def part_designs(formula: Formula, cells: CellStatistics) -> PartDesigns:
    """Both designs of a hurdle study.

    Raises
    ------
    DataError
        Outcomes below zero, none at zero, none above. FitError: either part cannot be fitted.
    """
    parts = split_cells(cells, expression_label(formula.response.expression))
    whole = build_design(formula, parts.occurrence)
    warnings = check_design(formula, whole)
    amount = amount_design(whole, parts.amount, formula)
    check_design(formula, amount)
    return PartDesigns(whole, amount, replace(whole, cells=parts.amount), warnings)


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
    clock = _Clock(options)
    if options.draws is not None:
        raise StudyError(f"draws: rows {options.draws}: draws are of one model, a {cells.family} has two; write draws: null.")
    with clock.step("design", 0.02):
        designs = part_designs(formula, cells)
        tree = nesting(designs.whole)
        check_named(tree, options.predict_for)
        if options.cells_pair is not None:
            cell_pair(designs.whole, tree, options.cells_pair)
    fitted: dict[Part, FittedPartOfStudy] = {}
    for part, done in zip(PARTS, (0.4, 0.8), strict=True):
        with clock.step(f"{part}: partial, complete and no pooling", done):
            fitted[part] = _fit_part(designs.by_part[part], tree, options_of_part(options, part))
    occurrence, amount = fitted["occurrence"], fitted["amount"]
    both = TwoPartFit(FittedPart(occurrence.fit), FittedPart(amount.fit), designs.whole)
    with clock.step("tables", 0.97):
        variance = None
        if designs.amount.cells.log_outcome:
            variance = level_variance(designs.amount, amount.fit.joint.mean, dict(tree_of(designs.amount, tree).factors))
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
        tables["diagnostics"] = diagnostics(checks, _heading(options))
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
    parts = (StudyPart("occurrence", occurrence.fit, designs.whole), StudyPart("amount", amount.fit, designs.amount_everywhere, variance))
    return StudyFit(tables, report, tuple(check for check in checks if check.gate and not check.passed), parts)


def _fit_part(design: Design, tree: Nesting, options: FitOptions) -> FittedPartOfStudy:
    fit = fit_partial(design, options)
    pooling = fit_pooling(design, tree, options)
    checks = [
        *fit.checks,
        *criteria(fit),
        *simpson_warnings(contextual_effects(fit, pooling.complete)),
        *unsplit_warnings(design, tree_of(design, tree)),
        *separated_groups(fit, tree_of(design, tree)),
        *dispersion_check(fit),
        *pooling.checks,
    ]
    return FittedPartOfStudy(fit, fit_without_group_predictors(design, options), pooling, checks)


def tree_of(design: Design, tree: Nesting) -> Nesting:
    """The study's nesting with the codes of one part's cells."""
    return replace(tree, factors={name: replace(factor, codes=_codes(design, name)) for name, factor in tree.factors.items()})


def _codes(design: Design, name: str) -> np.ndarray:
    return next(block.factor.codes for block in design.blocks if block.factor.name == name)


def _tables(
    both: TwoPartFit,
    fitted: Mapping[Part, FittedPartOfStudy],
    designs: PartDesigns,
    tree: Nesting,
    options: FitOptions,
    variance: LevelVariance | None,
) -> dict[str, pa.Table]:
    heading, named, seed = _heading(options), options.predict_for, options.seed
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


def _pooling(fitted: Mapping[Part, FittedPartOfStudy]) -> TwoPartPooling:
    first, second = (fitted[part].pooling for part in PARTS)
    complete = None if first.complete is None or second.complete is None else (first.complete, second.complete)
    return TwoPartPooling(
        complete, {name: (first.separate[name], second.separate[name]) for name in first.separate if name in second.separate}
    )


def _heading(options: FitOptions) -> Heading:
    return Heading(options.study, options.as_of, options.run_id, options.engine)
