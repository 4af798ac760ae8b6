"""What a report is about: the six tables, the study's own words, and how numbers of the outcome are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from groupwise.report.label_words import column_words, plural
from groupwise.report.labelled import labelled
from groupwise.study.study_labels import Labels
from groupwise.term_order import TermOrder
from multilevel.catalogue.headline import with_headline
from multilevel.design.parts import PARTS
from multilevel.errors import FormulaError, PublishError
from multilevel.families.registry import family_named, has_two_parts
from multilevel.formula.columns import columns_in
from multilevel.formula.parse import parse_formula

TABLE_NAMES = (
    "population_coefficients",
    "variance_components",
    "group_coefficients",
    "group_estimates",
    "cell_estimates",
    "diagnostics",
)
MIX = "common_mix_estimate"
"""Column of ``seen_estimates``: no pooling of the members as they are, whatever the headline."""

POINTS = " percentage points"

SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}


@dataclass(frozen=True)
class Subject:
    """Everything that the sections of a report read.

    tables : the six published tables by name. study : the study as a mapping (may be empty: the tables then speak for themselves).
    report : what the fit adds to the tables. validation : what was checked before. previous : the tables of the last version, or None.
    cells, previous_cells : the cells of both versions' averages, None where there are none.
    published : the tables with levels as the data have them, where ``tables`` has the study's labels.
    earlier : ``group_estimates`` of earlier days' versions, oldest first.
    """

    tables: Mapping[str, pa.Table]
    study: Mapping[str, object]
    report: Mapping[str, object]
    validation: Mapping[str, object]
    previous: Mapping[str, pa.Table] | None = None
    cells: pa.Table | None = None
    previous_cells: pa.Table | None = None
    published: Mapping[str, pa.Table] | None = None
    earlier: tuple[pa.Table, ...] = ()

    def with_labels(self) -> Subject:
        """The same under the study's labels of levels."""
        pair = self.study.get("cells")
        cells = (str(pair[0]), str(pair[1])) if isinstance(pair, list | tuple) and len(pair) == 2 else None
        earlier = tuple(labelled({"group_estimates": table}, self.labels)["group_estimates"] for table in self.earlier)
        return replace(self, tables=labelled(self.tables, self.labels, cells), published=self.tables, earlier=earlier)

    @property
    def labels(self) -> Labels:
        """What the study calls columns and levels."""
        return Labels.of(self.study)

    @property
    def order(self) -> TermOrder:
        """The order in which the formula names terms and factors, by names where it is not known."""
        try:
            return TermOrder(parse_formula(self.text("formula")), self.labels)
        except FormulaError:
            return TermOrder(None, self.labels)

    def term(self, term: str) -> str:
        """A term as the formula has it, its columns and levels under their labels."""
        part = next((f" ({part})" for part in PARTS if term.endswith(f" ({part})")), "")
        return f"{self.labels.term(term.removesuffix(part))}{part}"

    def column(self, column: str) -> str:
        """A column for people: its label, or its name in words."""
        return self.labels.names.get(column) or column_words(column)

    def bare(self, column: str) -> str:
        """A column for people, without the verb that makes it a question: ``is_weekend`` is weekend."""
        return re.sub(r"^(?:is|has|was) (?=.)", "", self.column(column))

    def text(self, name: str, default: str = "") -> str:
        """A word of the study, or of the fit's report if the study has none."""
        value = self.study.get(name) or self.report.get(name)
        return default if value is None else str(value)

    def constant(self, name: str) -> str:
        """A value that every published row carries: study, as_of, run_id, engine."""
        return str(self.tables["diagnostics"].column(name)[0])

    @property
    def title(self) -> str:
        """The study's title, or its name."""
        return self.text("title", self.constant("study"))

    @property
    def family(self) -> str:
        """The outcome's family."""
        return self.text("family", "gaussian")

    @property
    def is_log_outcome(self) -> bool:
        """Whether the formula explains the logarithm of the outcome."""
        return not self.has_two_parts and self.text("formula").replace(" ", "").startswith("log(")

    @property
    def is_multiplicative(self) -> bool:
        """Whether a coefficient multiplies the outcome (log link or log outcome)."""
        return self.is_log_outcome or (not self.has_two_parts and family_named(self.family).link.is_multiplicative)

    @property
    def has_two_parts(self) -> bool:
        """Whether the outcome has two parts, occurrence and amount."""
        return has_two_parts(self.family)

    @property
    def is_share(self) -> bool:
        """Whether the outcome's expectation is a probability."""
        return not self.has_two_parts and family_named(self.family).link.is_logistic

    @property
    def effect_kind(self) -> Literal["added", "percent", "odds", "link"]:
        """How a coefficient acts on the outcome; of two parts each does so in its own way, and is left on its link scale."""
        if self.has_two_parts:
            return "link"
        if self.is_share:
            return "odds"
        return "percent" if self.is_multiplicative else "added"

    @property
    def unit(self) -> str:
        """The outcome's unit in words; without one the outcome's label or name."""
        return self.text("unit") or self.outcome_words

    @property
    def outcome_words(self) -> str:
        """What the outcome is called: its label or its column's name in words; "outcome" where the formula is not known."""
        try:
            columns = columns_in(parse_formula(self.text("formula")).response.expression)
        except FormulaError:
            return "outcome"
        return self.column(columns[0]) if len(columns) == 1 and not self.has_two_parts else "outcome"

    def signed_outcome(self, value: float) -> str:
        """A difference on the outcome's scale, as prose writes it: +$0.12, −4.2 percentage points."""
        sign = "−" if value < 0 else "+"
        return f"{sign}{100 * abs(value):.1f}{POINTS}" if self.is_share else f"{sign}{self.outcome(abs(value))}"

    @property
    def axis_format(self) -> str:
        """The d3 format of axes on the outcome's scale."""
        if self.is_share:
            return ".0%"
        return "$,.2f" if self.text("currency") == "USD" else ",.3~r"

    def outcome(self, value: float) -> str:
        """A number on the outcome's scale, as prose writes it: $2.31, 31.2 %, 13.4."""
        if self.is_share:
            return f"{100 * value:.1f} %"
        currency = self.text("currency")
        if currency:
            return f"{SYMBOLS.get(currency, currency + ' ')}{value:,.2f}"
        return number(value)

    @cached_property
    def seen_estimates(self) -> pa.Table:
        """``group_estimates`` of levels that were seen, the headline's numbers as their estimates; ``MIX`` is the members' own average."""
        table = self.tables["group_estimates"]
        if not self.is_before_headlines:
            table = with_headline(table.append_column(MIX, table.column("no_pooling_estimate")))
        return table.filter(pc.invert(table.column("is_new")))

    @property
    def is_before_headlines(self) -> bool:
        """Whether the tables are of version 1, when no pooling left out the other factors' groups."""
        return "headline" not in self.tables["group_estimates"].column_names

    def members_of(self, factor: str) -> str | None:
        """What a level's members are where they are a sample and its estimate speaks of new ones; None where it speaks of those it has."""
        table = self.tables["group_estimates"]
        if self.is_before_headlines:
            return None
        own = table.filter((pc.field("grouping_factor") == factor) & (pc.field("headline") == "population"))
        return self._member(factor) if own.num_rows else None

    def is_sampled(self, factor: str) -> bool:
        """Whether a factor's levels are of a sample (customers, customers by category), of which no single one is of interest."""
        sampled = self.study.get("sampled")
        return isinstance(sampled, list | tuple) and not set(sampled).isdisjoint(factor.split(":"))

    def _member(self, factor: str) -> str:
        """The first sampled column that is nested in the factor, as people say it."""
        found = self.study.get("sampled")
        sampled = [str(name) for name in found] if isinstance(found, list | tuple) else []
        names = [str(name) for name in pc.unique(self.tables["group_estimates"].column("grouping_factor")).to_pylist()]
        inside = [name for name in sampled if any(f"{other}:".startswith(f"{factor}:") and other.endswith(f":{name}") for other in names)]
        own = [name for name in sampled if any(other.rpartition(":")[2] == name for other in names)]
        return self.column(next(iter([*inside, *own, *sampled]), "member"))

    def speaks_of(self, factor: str) -> str:
        """What the intervals of a factor's levels speak of, one sentence."""
        members, levels = self.members_of(factor), self.levels_words(factor)
        if members is None:
            return f"The intervals speak of these {levels} as they are, with what they consist of and the line items that they have."
        return (
            f"The intervals speak of what to expect of a new {members} in one of these {levels}: its {plural(members)} in the data are a "
            "sample, and each counts once."
        )

    @cached_property
    def factors(self) -> list[str]:
        """Grouping factors: the customers' of the study's cells first, then the one with fewest levels."""
        counts = self.seen_estimates.group_by("grouping_factor").aggregate([("level", "count")]).to_pylist()
        ordered = [row["grouping_factor"] for row in sorted(counts, key=lambda row: (row["level_count"], row["grouping_factor"]))]
        pair = self.study.get("cells")
        first = str(pair[0]) if isinstance(pair, list | tuple) and pair else ""
        return sorted(ordered, key=lambda factor: factor != first)

    def factor_words(self, factor: str) -> str:
        """A factor for people: ``department:category_key`` is category in department where it is nested."""
        outer, inner = self._outer_and_inner(factor)
        return f"{inner} in {outer}" if outer else inner

    def levels_words(self, factor: str) -> str:
        """The levels of a factor for people: categories in department."""
        outer, inner = self._outer_and_inner(factor)
        return f"{plural(inner)} in {outer}" if outer else plural(inner)

    def _outer_and_inner(self, factor: str) -> tuple[str, str]:
        """Words of the columns around a nested factor, empty where it is not nested, and of its own."""
        table = self.tables["group_estimates"]
        nested = table.filter((pc.field("grouping_factor") == factor) & ~pc.field("is_new")).column("parent_level").null_count == 0
        *around, own = factor.split(":")
        if around and nested:
            return ", ".join(self.column(column) for column in around), self.column(own)
        return "", " × ".join(self.column(column) for column in factor.split(":"))

    @property
    def interval(self) -> str:
        """The probability of the intervals, as prose writes it."""
        value = self.study.get("interval", self.report.get("interval", 0.95))
        return f"{100 * float(str(value)):g} %"


def overall_average(averages: Sequence[object], n: Sequence[object]) -> float | None:
    """Complete pooling over all line items, of its averages over each level's own mix: weighted by how many line items a level has."""
    known = [(float(str(average)), float(str(weight))) for average, weight in zip(averages, n, strict=True) if average is not None]
    total = sum(weight for _, weight in known)
    return sum(average * weight for average, weight in known) / total if total else None


def term_words(term: str) -> str:
    """A term for people: the dummy of a true-or-false column is called by its column."""
    return term.replace("[true]", "").replace("[True]", "")


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, thousands separated, never in exponents unless tiny."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    magnitude = abs(value)
    if magnitude >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if magnitude >= 1e-4 else f"{value:.1e}"


def read_tables(source: Mapping[str, pa.Table] | Path) -> dict[str, pa.Table]:
    """The six tables, from a mapping or from the folder that holds their Parquet files.

    Raises PublishError naming the tables that are not there.
    """
    if isinstance(source, Path):
        paths = {name: source / f"{name}.parquet" for name in TABLE_NAMES}
        missing = [name for name, path in paths.items() if not path.is_file()]
        # one file at a time: a folder named dt=... must not add a partition column
        tables = {name: pq.ParquetFile(path).read() for name, path in paths.items() if path.is_file()}
        where = str(source)
    else:
        missing = [name for name in TABLE_NAMES if name not in source]
        tables = {name: source[name] for name in TABLE_NAMES if name in source}
        where = "the tables given"
    if missing:
        raise PublishError(f"report: {where} lacks {', '.join(missing)}; a report needs all six published tables.")
    return tables
