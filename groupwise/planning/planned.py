"""What a dry run says of a study whose cells and design are known: terms, groups, cost, priors, refusals."""

from __future__ import annotations

from dataclasses import dataclass, replace

from groupwise.compression.compress import CompressedStudy
from groupwise.study.study import Study
from multilevel.description.mathematics import Mathematics, mathematics
from multilevel.description.model_description import describe
from multilevel.design.checks import DesignWarning, check_design
from multilevel.design.family_checks import check_family
from multilevel.design.model import Design
from multilevel.errors import DataError, FitError, StudyError
from multilevel.estimands.new_levels import NewLevel
from multilevel.families.registry import family_named
from multilevel.formula.tree import Formula
from multilevel.study.designs import check_asked

LITTLE_COMPRESSION = 2.0
"""Rows per cell below which the plan says that the statistics are hardly smaller than the rows."""


@dataclass(frozen=True)
class PlannedTerm:
    """A population-level coefficient: its label, its kind, and the factor within whose levels it is constant."""

    label: str
    kind: str
    constant_within: str | None


@dataclass(frozen=True)
class PlannedGroup:
    """A group term: its factor, how many levels, its columns, the factor its levels are within."""

    factor: str
    n_levels: int
    terms: tuple[str, ...]
    parent: str | None

    @property
    def n_effects(self) -> int:
        """Levels times terms."""
        return self.n_levels * len(self.terms)

    @property
    def n_variance_parameters(self) -> int:
        """Standard deviations and correlations."""
        k = len(self.terms)
        return k * (k + 1) // 2


@dataclass(frozen=True)
class Plan:
    """What ``groupwise plan`` prints. After a refusal the parts that could not be known are empty or None.

    words : the formula in sentences; mathematics : the model written out; sql : the compressing query.
    n_parameters : coefficients, variance parameters and the dispersion.
    warnings : change how numbers should be read; refusals : would stop the run.
    cost : time and memory of the fit, in words. priors, prior_predictive : sentences, where they were asked for.
    """

    study: str
    formula: str
    family: str
    engine: str
    words: tuple[str, ...] = ()
    mathematics: Mathematics | None = None
    sql: str | None = None
    n_rows: int | None = None
    n_cells: int | None = None
    compression_ratio: float | None = None
    terms: tuple[PlannedTerm, ...] = ()
    aliased: tuple[str, ...] = ()
    groups: tuple[PlannedGroup, ...] = ()
    n_parameters: int | None = None
    n_effects: int | None = None
    warnings: tuple[DesignWarning, ...] = ()
    notes: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    cost: str | None = None
    takes_hours: bool = False
    priors: tuple[str, ...] = ()
    prior_predictive: tuple[str, ...] = ()


def planned(start: Plan, formula: Formula, design: Design, compressed: CompressedStudy) -> Plan:
    """The plan of a study whose cells and design are known."""
    groups = tuple(
        PlannedGroup(b.factor.name, b.factor.n_levels, tuple(c.label for c in b.columns), b.factor.parent_name) for b in design.blocks
    )
    warnings: tuple[DesignWarning, ...] = ()
    refusals: tuple[str, ...] = ()
    try:
        warnings = check_design(formula, design)
        check_family(design, design.cells.family)
    except (DataError, FitError) as error:
        refusals = (str(error),)
    return replace(
        start,
        words=tuple(describe(formula, design, start.family)),
        mathematics=mathematics(formula, design, start.family),
        sql=compressed.sql,
        n_rows=compressed.n_rows,
        n_cells=compressed.n_cells,
        compression_ratio=compressed.compression_ratio,
        terms=tuple(PlannedTerm(c.label, c.kind, c.constant_within) for c in design.population),
        aliased=design.aliased,
        groups=groups,
        n_parameters=len(design.population) + sum(g.n_variance_parameters for g in groups) + _dispersions(design),
        n_effects=design.n_effects,
        warnings=warnings,
        notes=_notes(compressed),
        refusals=refusals,
    )


def with_asked(made: Plan, study: Study, design: Design) -> Plan:
    """The plan, refused where ``predict_for`` or ``cells`` name what the model does not have, or name it twice."""
    named = tuple(NewLevel(new.grouping_factor, new.level, new.parent_level) for new in study.predict_for)
    try:
        check_asked(design, named, study.cells)
    except StudyError as error:
        return replace(made, refusals=(*made.refusals, f"{study.name}: {error}"))
    return made


def with_cost(made: Plan, study: Study, design: Design, with_priors: bool) -> Plan:
    """The plan with what the fit will cost, and the priors' words where they are asked for."""
    # PyMC's parts cost a second to import: only once there is something to fit.
    from multilevel.bayesian.cost import likelihood_cost, sampling_cost
    from multilevel.bayesian.durations import HOURS
    from multilevel.bayesian.memory import refuse_too_large
    from multilevel.bayesian.priors import read_priors
    from multilevel.bayesian.sampling import read_sampling
    from multilevel.bayesian.unit_free_priors import model_priors

    if study.engine == "likelihood":
        if with_priors:
            raise StudyError(f"{study.name}: engine: likelihood has no priors; leave --prior-predictive out, or write engine: bayesian.")
        found = likelihood_cost(design)
        return replace(made, cost=found.sentence(), takes_hours=found.seconds > HOURS)
    sampling = read_sampling(study.sampling.model_dump(exclude_none=True))
    try:
        refuse_too_large(design, sampling)
    except FitError as error:
        return replace(made, refusals=(str(error),))
    priors = model_priors(design, made.family, read_priors(study.priors))
    found = sampling_cost(priors.form.design, made.family, priors.inner, sampling)
    made = replace(made, cost=found.sentence(), takes_hours=found.seconds > HOURS)
    if not with_priors:
        return made
    from multilevel.bayesian.prior_report import describe_priors, prior_predictive

    lines = tuple(f"{line.parameter} ~ {line.prior}: {line.meaning}" for line in describe_priors(design, made.family, priors.written))
    allowed = prior_predictive(priors.form.design, made.family, priors.inner, seed=study.seed)
    expected = ", ".join(f"{p:.1%} below {q:,.4g}" for p, q in zip(allowed.probabilities, allowed.quantiles, strict=True))
    outcome = study.parsed_formula.text.split("~")[0].strip()
    sentences = (
        f"Expected {outcome} of a cell, over the priors alone: {expected}.",
        f"Its observed mean is {allowed.observed_mean:,.4g}.",
    )
    return replace(made, priors=lines, prior_predictive=sentences)


def _dispersions(design: Design) -> int:
    return int(family_named(design.cells.family).scale is not None and not design.cells.known_sigma)


def _notes(compressed: CompressedStudy) -> tuple[str, ...]:
    if compressed.compression_ratio >= LITTLE_COMPRESSION:
        return ()
    return (
        f"{compressed.n_cells:,} cells for {compressed.n_rows:,} rows: hardly any compression, so the fit costs about as much as on "
        "the rows. That is what a grouping factor with few rows per level, or a continuous predictor in the key, does.",
    )
