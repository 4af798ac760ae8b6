"""The one scan over all line items: rules, deliberate exclusions, missing values and the study's needs are counted together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from groupwise.compression.sql_expressions import TABLE
from groupwise.source.conditions import row_condition
from groupwise.source.relation import Relation, literal, quote, rows_of
from groupwise.study.study import Study
from groupwise.validation import missing_values
from groupwise.validation.needs import Need, Varied, column_needs, row_needs
from groupwise.validation.scan_sql import applies, broken, duplicate_name, with_duplicates
from groupwise.validation.suite import Rule

QUARANTINE_FILE = "part-0.parquet"
BROKEN_RULES = "broken_rules"
FLAGS = "groupwise: "
"""Begins the names of the scan's own columns, so that they are nobody else's."""


@dataclass(frozen=True)
class Counts:
    """Line items of the window by what becomes of them, per rule those looked at and those broken, per need what the rows say."""

    total: int
    quarantined: int
    duplicates: int
    excluded_where: int
    excluded_missing: int
    left: int
    checked: tuple[int, ...]
    unexpected: tuple[int, ...]
    breaking: tuple[int, ...]
    varied: tuple[bool, ...]


@dataclass(frozen=True)
class RowScan:
    """The queries of one study over its line items. ``means``: of columns to be filled in; ``carried``: columns of the relation to keep
    besides those that the study reads; ``has_no_duplicates``: line items that are alike under a rule are looked for elsewhere."""

    study: Study
    relation: Relation
    rules: tuple[Rule, ...]
    means: Mapping[str, float]
    carried: tuple[str, ...] = ()
    has_no_duplicates: bool = False

    @property
    def types(self) -> Mapping[str, str]:
        """Columns of the line items."""
        return self.relation.columns

    @property
    def study_types(self) -> dict[str, str]:
        """Columns of the study's rows."""
        return missing_values.study_types(self.study, self.types)

    @property
    def needs(self) -> list[Need]:
        """What every row that is left must keep."""
        return row_needs(self.study, self.study_types)

    @property
    def varied(self) -> list[Varied]:
        """What must differ between the rows that are left."""
        return column_needs(self.study, self.study_types)

    @property
    def keeps_all(self) -> bool:
        """Whether no rule, condition or missing value can leave a line item out."""
        rules = any(rule.quarantines for rule in self.rules)
        return not rules and not self.study.where and missing_values.excluded(self.study, self.types) == "false"

    def marked_sql(self) -> str:
        """Every line item with its flags: per rule whether it looks at the row and whether the row breaks it; what becomes of the row."""
        flags = []
        for index, rule in enumerate(self.rules):
            flags.append(f"{applies(rule, self.types)} as {flag('applies', index)}")
            flags.append(f"{broken(rule, self.types)} as {flag('broken', index)}")
        wanted = f"coalesce(({self._where()}), false)"
        flags.append(f"{wanted} as {flag('is wanted')}, ({missing_values.excluded(self.study, self.types)}) as {flag('lacks a value')}")
        unique = [f"1 as {quote(duplicate_name(rule))}" for rule in self.rules if rule.is_unique]
        source = with_duplicates(self.relation.sql, () if self.has_no_duplicates else self.rules, self.types)
        source = f"select {', '.join(['*', *unique])} from ({source})" if self.has_no_duplicates and unique else source
        flagged = f"select *, {', '.join(flags)} from ({source})"
        quarantining = [(flag("broken", index), rule) for index, rule in enumerate(self.rules) if rule.quarantines]
        ruled_out = " or ".join(one for one, _ in quarantining) or "false"
        spoilt = " or ".join(one for one, rule in quarantining if not rule.keep) or "false"
        dropped = f"({ruled_out}) and not ({spoilt})"
        decided = f"select *, ({ruled_out}) as {flag('is ruled out')}, ({dropped}) as {flag('is a duplicate')} from ({flagged})"
        kept = f"not {flag('is ruled out')} and {flag('is wanted')} and not {flag('lacks a value')}"
        return f"select *, ({kept}) as {flag('is kept')} from ({decided})"

    def kept_by_rules_sql(self) -> str:
        """Line items that broke no rule, whatever the study does with them after."""
        return f"select * from ({self.marked_sql()}) where not {flag('is ruled out')}"

    def count(self, connection: duckdb.DuckDBPyConnection) -> Counts:
        """Everything there is to count, in one scan."""
        query = f"select {select_list(self.sums() | self.variations())} from ({self.flagged_sql()}) as {TABLE}"
        return self.counts(rows_of(connection, query, self.study.name, "the line items cannot be checked")[0])

    def flagged_sql(self, more: str = "") -> str:
        """The study's columns of every line item, with its flags; ``more`` : further expressions over the line item as it is."""
        own = ", ".join(quote(name) for name in self._flag_names())
        return f"select {self._columns()}, {own}{more} from ({self.marked_sql()})"

    def variations(self) -> dict[str, str]:
        """Per ``Varied``: an aggregate over ``flagged_sql``, whether one of its values differs between the rows that are left."""
        return {
            f"varied {i}": " or ".join(f"{low} is distinct from {high}" for low, high in bounds) for i, bounds in enumerate(self.bounds())
        }

    def sums(self) -> dict[str, str]:
        """What is counted, as aggregates over ``flagged_sql``: counts of line items, which add over any parts of them."""
        return {"total": "count(*)"} | {name: f"count_if({condition})" for name, condition in self.conditions().items()}

    def conditions(self) -> dict[str, str]:
        """What line items are counted by, over ``flagged_sql``."""
        ruled_out, copied, wanted, lacking, kept = map(flag, ("is ruled out", "is a duplicate", "is wanted", "lacks a value", "is kept"))
        picks = {
            "quarantined": f"{ruled_out} and not {copied}",
            "duplicates": copied,
            "excluded_where": f"not {ruled_out} and not {wanted}",
            "excluded_missing": f"not {ruled_out} and {wanted} and {lacking}",
            "left": kept,
        }
        rules = range(len(self.rules))
        picks |= {f"checked {i}": flag("applies", i) for i in rules}
        picks |= {f"unexpected {i}": flag("broken", i) for i in rules}
        picks |= {f"breaking {i}": f"{kept} and coalesce({need.breaks}, false)" for i, need in enumerate(self.needs)}
        return picks

    def bounds(self) -> list[list[tuple[str, str]]]:
        """Per ``Varied``, per value: the aggregates that are its least and its largest among the rows that are left."""
        kept = flag("is kept")
        return [[(f"min({value}) filter ({kept})", f"max({value}) filter ({kept})") for value in one.values] for one in self.varied]

    def counts(self, row: Mapping[str, Any]) -> Counts:
        """What ``sums`` and ``varied <i>`` came to, by name."""
        rules = range(len(self.rules))
        whole = {name: int(value or 0) for name, value in row.items()}
        return Counts(
            total=whole["total"],
            quarantined=whole["quarantined"],
            duplicates=whole["duplicates"],
            excluded_where=whole["excluded_where"],
            excluded_missing=whole["excluded_missing"],
            left=whole["left"],
            checked=tuple(whole[f"checked {i}"] for i in rules),
            unexpected=tuple(whole[f"unexpected {i}"] for i in rules),
            breaking=tuple(whole[f"breaking {i}"] for i in range(len(self.needs))),
            varied=tuple(bool(whole[f"varied {i}"]) for i in range(len(self.varied))),
        )

    def study_sql(self, *, ruled_out: int) -> str:
        """The study's rows as one SELECT; rules come in only where a row broke one (``connect`` refuses a source that changed since)."""
        conditions = [f"coalesce(({self._where()}), false)"] if self.study.where else []
        excluded = missing_values.excluded(self.study, self.types)
        conditions += [f"not ({excluded})"] if excluded != "false" else []
        source = self.relation.sql
        if ruled_out:
            rules = [rule for rule in self.rules if rule.quarantines]
            source = with_duplicates(source, rules, self.types)
            conditions += [f"not {broken(rule, self.types)}" for rule in rules]
        kept = f"select * from ({source})" + (f" where {' and '.join(conditions)}" if conditions else "")
        return f"select {self._columns()} from ({kept})"

    def write_quarantine(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> Path:
        """Every quarantined row and dropped duplicate, with the ids of all rules that it broke in ``broken_rules``, semicolons between."""
        folder.mkdir(exist_ok=True)
        target = folder / QUARANTINE_FILE
        copy = f"copy ({self.quarantined_sql(list(self.types))}) to {literal(str(target))} (format parquet, compression zstd)"
        rows_of(connection, copy, self.study.name, "the quarantined rows cannot be written")
        return target

    def quarantined_sql(self, names: Sequence[str]) -> str:
        """Every quarantined row's columns ``names``, and what it broke."""
        labels = [
            f"case when {flag('broken', index)} then {literal(rule.rule_id)} end"
            for index, rule in enumerate(self.rules)
            if rule.quarantines
        ]
        columns = ", ".join(quote(name) for name in names if name != BROKEN_RULES)
        picks = f"{columns}, concat_ws(';', {', '.join(labels)}) as {BROKEN_RULES}"
        return f"select {picks} from ({self.marked_sql()}) where {flag('is ruled out')}"

    def _columns(self) -> str:
        return ", ".join([missing_values.study_columns(self.study, self.types, self.means), *map(quote, self.carried)])

    def _where(self) -> str:
        return row_condition(self.study.where, list(self.types), study=self.study.name) if self.study.where else "true"

    def _flag_names(self) -> Sequence[str]:
        per_rule = [f"{FLAGS}{kind} {index}" for index in range(len(self.rules)) for kind in ("applies", "broken")]
        return [*per_rule, *(FLAGS + name for name in ("is wanted", "lacks a value", "is ruled out", "is a duplicate", "is kept"))]


def select_list(picks: Mapping[str, str]) -> str:
    """Expressions by the names that their columns get."""
    return ", ".join(f"{sql} as {quote(name)}" for name, sql in picks.items())


def scan_of(connection: duckdb.DuckDBPyConnection, study: Study, relation: Relation, rules: Sequence[Rule]) -> RowScan:
    """The scan, after the means that it needs: those are of the rows that are kept."""
    missing_values.study_types(study, relation.columns)
    blind = RowScan(study, relation, tuple(rules), {})
    kept = f"select * from ({blind.marked_sql()}) where {flag('is kept')}"
    missing_values.refuse_literal_level(study, missing_values.counted_levels(connection, study, kept, relation.columns))
    return RowScan(study, relation, tuple(rules), missing_values.column_means(connection, study, kept, relation.columns))


def flag(name: str, index: int | None = None) -> str:
    """The quoted name of one of the scan's own columns, of a rule by its place."""
    return quote(FLAGS + name + ("" if index is None else f" {index}"))
