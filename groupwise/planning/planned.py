"""What a dry run says of a study whose cells and design are known: terms, groups, cost, priors, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from groupwise.compression.compress import CompressedStudy
from groupwise.study.study import Study
from multilevel.description.mathematics import Mathematics, mathematics
from multilevel.description.model_description import describe
from multilevel.design.checks import DesignWarning
from multilevel.design.family_checks import check_family
from multilevel.design.model import Design
from multilevel.errors import DataError, FitError, StudyError
from multilevel.estimands.new_levels import NewLevel
from multilevel.families.registry import family_named
from multilevel.formula.tree import Formula
from multilevel.prediction.average_cells import MOST_CELLS
from multilevel.study.designs import StudyPart, check_asked, check_part

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
    dependence : what is known of line items of one unit before a fit.
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
    dependence: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    cost: str | None = None
    takes_hours: bool = False
    priors: tuple[str, ...] = ()
    prior_predictive: tuple[str, ...] = ()


def planned(start: Plan, formula: Formula, parts: Sequence[StudyPart], compressed: CompressedStudy) -> Plan:
    """The plan of a study whose cells and designs are known: of one part, or of both, whose terms and groups are the same."""
    designs = [part.design for part in parts]
    whole = designs[0]
    groups = tuple(
        PlannedGroup(b.factor.name, b.factor.n_levels, tuple(c.label for c in b.columns), b.factor.parent_name) for b in whole.blocks
    )
    warnings, refusals = _checked(formula, parts)
    n_of_terms = len(whole.population) + sum(g.n_variance_parameters for g in groups)
    return replace(
        start,
        words=tuple(describe(formula, designs, start.family)),
        mathematics=mathematics(formula, designs, start.family),
        sql=compressed.sql,
        n_rows=compressed.n_rows,
        n_cells=compressed.n_cells,
        compression_ratio=compressed.compression_ratio,
        terms=tuple(PlannedTerm(c.label, c.kind, c.constant_within) for c in whole.population),
        aliased=whole.aliased,
        groups=groups,
        n_parameters=sum(n_of_terms + _dispersions(design) for design in designs),
        n_effects=sum(design.n_effects for design in designs),
        warnings=warnings,
        notes=(*_notes(compressed), *_unsplit(groups)),
        refusals=refusals,
    )


def _checked(formula: Formula, parts: Sequence[StudyPart]) -> tuple[tuple[DesignWarning, ...], tuple[str, ...]]:
    """The warnings of all parts, each once, and why a part cannot be fitted: of the first such part."""
    found: list[DesignWarning] = []
    for part in parts:
        try:
            own = check_part(formula, part)
            check_family(part.design, part.design.cells.family)
        except (DataError, FitError) as error:
            return (), (part.told(str(error)),)
        found += own if part is parts[0] else [replace(one, message=part.told(one.message)) for one in own if one not in found]
    return tuple(found), ()


def with_asked(made: Plan, study: Study, design: Design) -> Plan:
    """The plan, refused where ``predict_for`` or ``cells`` name what the model does not have, or name it twice."""
    named = tuple(NewLevel(new.grouping_factor, new.level, new.parent_level) for new in study.predict_for)
    try:
        check_asked(design, named, study.cells)
    except StudyError as error:
        return replace(made, refusals=(*made.refusals, f"{study.name}: {error}"))
    return made


def with_cost(made: Plan, study: Study, parts: Sequence[StudyPart], with_priors: bool) -> Plan:
    """The plan with what the fits will cost, and the priors' words where they are asked for."""
    found = [
        (part, _of_part(replace(made, family=part.design.cells.family), _with_own_priors(study, part), part.design, with_priors))
        for part in parts
    ]
    costs = [plan.cost if part.name is None else f"for the {part.name} {plan.cost}" for part, plan in found if plan.cost is not None]
    return replace(
        made,
        refusals=tuple(part.told(refusal) for part, plan in found for refusal in plan.refusals),
        cost=", and ".join(costs) or None,
        takes_hours=any(plan.takes_hours for _, plan in found),
        priors=tuple(part.told(line) for part, plan in found for line in plan.priors),
        prior_predictive=tuple(part.told(line) for part, plan in found for line in plan.prior_predictive),
    )


def _with_own_priors(study: Study, part: StudyPart) -> Study:
    if part.name is None or study.priors is None:
        return study
    return study.model_copy(update={"priors": study.priors.get(part.name)})


def _of_part(made: Plan, study: Study, design: Design, with_priors: bool) -> Plan:
    """The plan of one part's fit: ``study`` has its priors."""
    # PyMC's parts cost a second to import: only once there is something to fit.
    from multilevel.bayesian.cost import likelihood_cost, sampling_cost
    from multilevel.bayesian.durations import HOURS
    from multilevel.bayesian.memory import refuse_too_large
    from multilevel.bayesian.priors import read_priors
    from multilevel.bayesian.sampling import read_sampling
    from multilevel.bayesian.unit_free_priors import model_priors
    from multilevel.linear.footprint import refuse_beyond_memory

    if study.engine == "likelihood":
        if with_priors:
            raise StudyError(f"{study.name}: engine: likelihood has no priors; leave --prior-predictive out, or write engine: bayesian.")
        try:
            refuse_beyond_memory(design)
            found = likelihood_cost(design)
        except FitError as error:
            return replace(made, refusals=(f"{study.name}: {error}",))
        return replace(made, cost=found.sentence(), takes_hours=found.seconds > HOURS)
    sampling = read_sampling(study.sampler_settings)
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


def _unsplit(groups: Sequence[PlannedGroup]) -> list[str]:
    return [
        f"{group.factor} has {group.n_levels:,} levels: `diff` compares them, and splits no changes of more than {MOST_CELLS:,}."
        for group in groups
        if group.n_levels > MOST_CELLS
    ]


def _notes(compressed: CompressedStudy) -> tuple[str, ...]:
    if compressed.compression_ratio >= LITTLE_COMPRESSION:
        return ()
    return (
        f"{compressed.n_cells:,} cells for {compressed.n_rows:,} rows: hardly any compression, so the fit costs about as much as on "
        "the rows. That is what a grouping factor with few rows per level, or a continuous predictor in the key, does.",
    )
