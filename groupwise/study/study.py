"""A study: one question, one YAML file. Read and refused here, before any data is touched."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from groupwise.publishing.address import plain_place
from groupwise.resources import Wishes, resources
from groupwise.source.time_zones import UTC_ZONE, check_time_zone
from groupwise.study.kept_statistics import KeptStatistics
from groupwise.study.level_text import Label
from groupwise.study.row_rule import RowRule
from groupwise.study.run_fields import KeptRuns, RunResources
from groupwise.study.study_labels import ColumnLabels, Labels
from groupwise.study.study_object import StudyObject
from groupwise.study.study_parts import (
    ColumnType,
    Differences,
    MissingRule,
    Name,
    NewLevels,
    Privacy,
    PublishedDraws,
    SamplingOptions,
    Window,
    as_day,
    new_levels,
)
from groupwise.study.study_source import Mix, Part, Source
from groupwise.study.user_text import SHOWN
from multilevel.errors import FormulaError, StudyError
from multilevel.families.registry import family_names, has_two_parts, is_linear, meant_family, statistics_of
from multilevel.formula.columns import categories_in, columns_in, grouping_columns, predictor_expressions, response_columns
from multilevel.formula.parse import parse_formula
from multilevel.formula.tree import Call, Formula
from multilevel.text import shorten


class Study(Part, StudyObject):
    """A study: one question, every field of a study file as an attribute. Relative paths are relative to the working directory.

    ``Study(name=..., formula=..., source={"parquet": ...})`` makes one, ``Study.read`` reads a file, ``write`` writes one. A study does not
    change; ``Study(**{**study.model_dump(), "interval": 0.8})`` is another one. A wrong field raises StudyError.
    """

    name: Name = Field(description="names the published folder: letters, digits, underscores and hyphens")
    title: str = Field("", max_length=300, description="the question, for people")
    formula: str = Field(description="the model in lme4's language")
    family: str = Field("gaussian", description="distribution of the outcome", json_schema_extra={"enum": list(family_names())})
    source: Source = Field(description="where line items come from")
    expectations: str | None = Field(None, pattern=r"^[a-z][a-z0-9_]*$", description="a suite of rules in expectations/, shared by studies")
    rules: tuple[RowRule, ...] = Field((), max_length=200, description="what every row must keep, beside the rules of expectations")
    where: str | None = Field(None, description="deliberate exclusions: line items for which this row-wise SQL condition does not hold")
    types: Mapping[str, ColumnType] = Field(
        default_factory=dict, description="per column: the DuckDB type it is read as; values that the cast would change are refused"
    )
    levels: Mapping[str, Annotated[tuple[Label, ...], Field(min_length=2)]] = Field(
        default_factory=dict,
        description="per column: its levels in order; of a categorical predictor the first is the reference that others are compared with",
    )
    labels: ColumnLabels = Field(default_factory=dict, description="per column: what people call it, and its levels; changes no number")
    missing: Mapping[str, MissingRule] = Field(default_factory=dict, description="per column: exclude, level or mean_and_indicator")
    window: Window | None = Field(None, description="which line items count; null: all, as_of is only a label")
    as_of: Annotated[Literal["latest", "scheduled"] | date, BeforeValidator(as_day)] = Field(
        "latest", description="latest: the day after the last row; scheduled: the run's date"
    )
    timezone: str | None = Field(
        None, max_length=60, description="zone of the shop's days and clocks, such as Europe/Berlin, for times that have one; null: UTC"
    )
    cells: tuple[str, str] | None = Field(None, description="the pair of columns published in cell_estimates; null: none")
    engine: Literal["bayesian", "likelihood"] = Field("bayesian", description="bayesian: posterior; likelihood: (RE)ML or Laplace")
    method: Literal["reml", "ml"] | None = Field(None, description="likelihood engine only; null: REML for gaussian, Laplace ML otherwise")
    interval: float = Field(0.95, gt=0, lt=1, description="probability of every interval, equal-tailed")
    publish_to: str = Field("published", min_length=1, description="folder, or s3://bucket/prefix (gs://, az://), for the versions")
    unit: str | None = Field(None, description="unit of the outcome, for axes and metadata")
    currency: str | None = Field(None, pattern=r"^[A-Z]{3}$", description="ISO 4217 code")
    quarantine_limit: float = Field(0.01, ge=0, le=1, description="largest share of line items that may be quarantined")
    max_cells: int = Field(2_000_000, gt=0, description="limit for families whose predictors must all join the key")
    predict_for: Annotated[
        tuple[NewLevels, ...],
        BeforeValidator(new_levels, json_schema_input_type=tuple[NewLevels, ...] | dict[str, Any] | None),
    ] = Field(
        (),
        description="levels to estimate although unseen: {region: [NORTH]}, nested {department:category: [{level: .., parent_level: ..}]}",
    )
    sampled: tuple[str, ...] = Field(
        (),
        max_length=10,
        description="columns whose levels are a sample of a larger population (customers, households), not all there are; changes no fit",
    )
    standardise_to: Mix | None = Field(
        None, description="a table of weights, the mix that group_estimates and cell_estimates are averaged over; null: the line items"
    )
    priors: dict[str, Any] | None = Field(None, description="overrides of the default priors; bayesian engine only")
    sampling: SamplingOptions = Field(default_factory=SamplingOptions, description="how the bayesian engine samples")
    resources: RunResources = Field(default_factory=RunResources, description="memory, threads and spill folder of a run")
    runs: KeptRuns = Field(default_factory=KeptRuns, description="for how many days the folders of runs stay")
    statistics: KeptStatistics | None = Field(
        None, description="statistics kept by day, month or file, so that a run reads only what changed; null: none are kept"
    )
    draws: PublishedDraws | None = Field(None, description="joint draws published in draws.parquet; null: none")
    seed: int = Field(20_260_101, ge=0, lt=2**32, description="of every random number in the run")
    quadrature_points: int = Field(1, ge=1, le=100, description="adaptive Gauss-Hermite points; 1 is Laplace")
    intervals: Literal["wald", "profile", "bootstrap"] = Field(
        "wald", description="likelihood engine only: how coefficients and variance components get their intervals"
    )
    bootstrap_samples: int = Field(500, ge=100, le=100_000, description="data sets that intervals: bootstrap draws and fits")
    privacy: Privacy | None = Field(None, description="groups of few people are not published")
    diff: Differences = Field(default_factory=Differences, description="the change above which diff and the report call a group moved")

    @field_validator("family", mode="before")
    @classmethod
    def _known_family(cls, value: object) -> object:
        known = family_names()
        if value not in known:
            close = difflib.get_close_matches(value[:SHOWN], known, n=1, cutoff=0.6) if isinstance(value, str) else []
            meant = (meant_family(value[:SHOWN]) if isinstance(value, str) else None) or next(iter(close), None)
            hint = f"did you mean {meant}? " if meant else ""
            raise ValueError(f"{hint}the families are {', '.join(known)}")
        return value

    @field_validator("publish_to")
    @classmethod
    def _inside(cls, value: str) -> str:
        return plain_place(value)

    @field_validator("formula")
    @classmethod
    def _readable(cls, value: str) -> str:
        try:
            parse_formula(value)
        except FormulaError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        ordered = {*self.coded_columns, *grouping_columns(self.parsed_formula), *(self.cells or ())}
        for name, listed in self.levels.items():
            if name not in ordered:
                raise ValueError(
                    f"levels: {name}: the formula has no such categorical predictor or group; name a column, or of C(column) the column"
                )
            if len(set(listed)) < len(listed):
                raise ValueError(f"levels: {name}: {', '.join(listed)}: a level is listed twice")
        for name, label in self.labels.items():
            if len(set(label.levels.values())) < len(label.levels):
                raise ValueError(f"labels: {name}: two levels have one label; readers could not tell them apart")
        return self

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            check_time_zone(value)
        return value

    @field_validator("rules")
    @classmethod
    def _named_apart(cls, value: tuple[RowRule, ...]) -> tuple[RowRule, ...]:
        names = [rule.rule_id for rule in value]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"two rules are called {repeated}; give one of them an id of its own")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        formula = self.parsed_formula
        if self.method == "reml" and not self.is_linear:
            raise ValueError(f"method: reml exists for gaussian outcomes only, this one is {self.family}; write ml or null")
        if self.method is not None and self.engine == "bayesian":
            raise ValueError("method belongs to engine: likelihood; write null or change the engine")
        self._intervals_fit()
        self._statistics_fit()
        if formula.response.trials is not None and (self.has_two_parts or statistics_of(self.family).size != "trials"):
            raise ValueError(f"p(successes, trials) is a binomial response, the family is {self.family}")
        if self.is_lognormal and not self.is_linear:
            raise ValueError(f"log(y) ~ is fitted as gaussian on the log scale, the family is {self.family}; {self.family} models y itself")
        if self.has_two_parts:
            self._fits_a_hurdle(formula)
        self._priors_are_readable()
        if formula.response.standard_error is not None and not self.is_linear:
            raise ValueError(f"se() is for gaussian outcomes, the family is {self.family}")
        if self.quadrature_points > 1 and (self.is_linear or self.engine == "bayesian"):
            raise ValueError("quadrature_points belongs to engine: likelihood with a family other than gaussian")
        if self.sampling.form == "importance" and self.has_two_parts:
            raise ValueError(f"sampling: form importance exists for outcomes of one part, {self.family} has two; leave form out")
        drawn = self.sampling.draws * self.sampling.chains
        if self.draws is not None and self.engine == "bayesian" and self.draws.rows > drawn:
            raise ValueError(
                f"draws: rows {self.draws.rows}: the sampler keeps {drawn} draws; write {drawn} or fewer, or raise sampling.draws"
            )
        if self.draws is not None and self.privacy is not None:
            raise ValueError("draws: every group's draws are published, the small groups' that privacy suppresses too; write draws: null")
        if self.privacy is not None and any(rule == "level" and name == self.privacy.of for name, rule in self.missing.items()):
            raise ValueError(f"privacy: a missing {self.privacy.of} cannot count as one person; exclude such rows")
        self._outcomes_are_not_filled_in(formula)
        if not formula.groups:
            raise ValueError("the formula has no group term; write at least one such as (1 | category)")
        return self

    def _outcomes_are_not_filled_in(self, formula: Formula) -> None:
        outcome = response_columns(formula)
        name = next((name for name in outcome if self.missing.get(name, "exclude") != "exclude"), None)
        if name is not None:
            raise ValueError(f"missing: {name}: {self.missing[name]} would make up outcomes; write {name}: exclude")

    def _priors_are_readable(self) -> None:
        if not self.priors:
            return
        # numpy comes with it, which a study without priors need not wait for
        from multilevel.bayesian.priors import read_priors

        parts = self.priors if self.has_two_parts else {"": self.priors}
        for name, part in parts.items():
            try:
                read_priors(part)
            except StudyError as error:
                raise ValueError(shorten(f"{name}: {error}" if name else str(error), 400)) from error

    def _statistics_fit(self) -> None:
        kept = self.statistics
        if kept is None:
            return
        if kept.partition == "file":
            if self.source.kind != "parquet" or self.source.line_items is not None:
                raise ValueError("statistics: partition: file is of Parquet files that no query (line_items) joins; write day or month")
            if kept.column is not None:
                raise ValueError("statistics: column says which day or month a line item is of; leave it out for partition: file")
            return
        if self.partition_column is None:
            raise ValueError(f"statistics: partition: {kept.partition} needs a column with the day of a line item; write column: ts")
        if self.window is not None and self.partition_column != self.window.column:
            raise ValueError(
                f"statistics: column {kept.column} is not window.column {self.window.column}, so that a window would cut every partition; "
                f"write {self.window.column}"
            )

    def _intervals_fit(self) -> None:
        if self.intervals != "wald" and self.engine == "bayesian":
            raise ValueError(f"intervals: {self.intervals} belongs to engine: likelihood; a posterior has its own intervals")
        if self.intervals == "profile" and self.quadrature_points > 1:
            raise ValueError("intervals: profile is of Laplace's deviance; write quadrature_points: 1, or intervals: bootstrap")
        if self.intervals != "wald" and self.has_two_parts:
            raise ValueError(f"intervals: {self.intervals} is of one model, a {self.family} has two; write intervals: wald")

    def _fits_a_hurdle(self, formula: Formula) -> None:
        if formula.offsets:
            raise ValueError(f"offset() would mean two things in the two parts of a {self.family}; divide the outcome by it in the query")
        if formula.response.weights is not None:
            raise ValueError(f"weights() is for gaussian outcomes, the family is {self.family}")
        if self.draws is not None:
            raise ValueError(f"draws are of one model, a {self.family} has two; write draws: null")
        strangers = sorted(set(self.priors or {}) - {"occurrence", "amount"})
        if strangers:
            raise ValueError(
                f"priors: {strangers[0]}: a {self.family} has two parts, each with its own priors; write "
                "priors: {occurrence: ..., amount: ...}"
            )

    @property
    def coded_columns(self) -> frozenset[str]:
        """Columns that are categorical predictors, or may be by their type."""
        return frozenset(name for part in predictor_expressions(self.parsed_formula) for name in categories_in(part))

    @property
    def outcome(self) -> str | None:
        """The outcome's column; None where the response is calculated from several."""
        columns = columns_in(self.parsed_formula.response.expression)
        return columns[0] if len(columns) == 1 else None

    @property
    def zone(self) -> str:
        """The time zone of the shop's days."""
        return self.timezone or UTC_ZONE

    @property
    def words(self) -> Labels:
        """What columns and levels are called."""
        return Labels.of(self.model_dump(mode="json", include={"labels", "levels"}))

    @property
    def has_rules(self) -> bool:
        """Whether rows must keep rules: the study's own, or those of a suite."""
        return bool(self.rules) or self.expectations is not None

    @property
    def parsed_formula(self) -> Formula:
        """The formula's tree."""
        return parse_formula(self.formula)

    @property
    def partition_column(self) -> str | None:
        """The column that says which partition of ``statistics`` a line item is of; None of files, and where nothing is kept."""
        if self.statistics is None or self.statistics.partition == "file":
            return None
        return self.statistics.column or (self.window.column if self.window else None)

    @property
    def wishes(self) -> Wishes:
        """What the study's run may take, as far as it says."""
        return Wishes(**self.resources.model_dump())

    @property
    def sampler_settings(self) -> dict[str, Any]:
        """``sampling`` without what is left to its defaults; no more cores than ``resources`` has threads."""
        settings = self.sampling.model_dump(exclude_none=True)
        if self.sampling.cores is None:
            settings["cores"] = max(1, min(self.sampling.chains, 4, resources(self.wishes).threads))
        return settings

    @property
    def has_two_parts(self) -> bool:
        """Whether the outcome is modelled in two parts, occurrence and amount."""
        return has_two_parts(self.family)

    @property
    def is_linear(self) -> bool:
        """Whether the model is a linear one, of the outcome or of its logarithm."""
        return is_linear(self.family)

    @property
    def is_lognormal(self) -> bool:
        """Whether the response is ``log(y)``."""
        response = self.parsed_formula.response.expression
        return isinstance(response, Call) and response.function == "log"
