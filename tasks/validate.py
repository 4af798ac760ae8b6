"""Validate: row rules quarantine first, then deliberate exclusions and missing values, then the study's own needs on what is left.

The rules live once, in ``expectations/*.json``. Here they are one DuckDB scan over all rows; ``tasks.expectation_record`` runs the same
file through Great Expectations on a sample, as the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from multilevel.errors import DataError
from tasks.conditions import row_condition
from tasks.expectation_rules import Rule, applies, broken, load_rules, with_duplicates
from tasks.needs import check_needs
from tasks.relation import Relation, connect, literal, quote
from tasks.study import Study

MISSING_LEVEL = "(missing)"
QUARANTINE_FOLDER = "quarantine"
VALIDATION_FILE = "validation.json"
SHOWN_ROWS = 5
ROW_KEY = "broken_rules"


@dataclass(frozen=True)
class RuleResult:
    """What the scan found for one rule: ``checked`` rows that it looks at, ``unexpected`` rows that break it."""

    rule_id: str
    type: str
    severity: str
    why: str
    columns: tuple[str, ...]
    mostly: float
    checked: int
    unexpected: int

    @property
    def success(self) -> bool:
        """Whether at least ``mostly`` of the rows keep the rule."""
        return self.unexpected <= (1.0 - self.mostly) * self.checked + 1e-9 * self.checked


@dataclass(frozen=True)
class Validated:
    """The study's rows after quarantine, exclusions and missing values, and how many went where.

    ``study_sql`` is one complete SELECT for ``tasks.relation.connect``; ``quarantine`` its Parquet file, None if no row broke a rule.
    """

    study_sql: str
    n_rows: int
    n_quarantined: int
    n_excluded_where: int
    n_excluded_missing: int
    n_left: int
    rules: tuple[RuleResult, ...]
    quarantine: Path | None
    record: Path

    @property
    def n_excluded(self) -> int:
        """Deliberately left out: by ``where`` and by ``missing: exclude``."""
        return self.n_excluded_where + self.n_excluded_missing


def validate(study: Study, relation: Relation, folder: Path) -> Validated:
    """Scan the line items, write ``quarantine/`` and ``validation.json`` into ``folder``.

    Raises
    ------
    DataError : a critical rule failed, too many rows are quarantined, nothing is left, or what is left breaks the study's needs.
    StudyError : the suite or ``where`` cannot be read.
    """
    types = relation.columns
    rules = load_rules(study.expectations, types) if study.expectations else ()
    connection = connect(relation, folder)
    try:
        scanned = with_duplicates(relation.sql, rules, types)
        counts = _count(connection, study, scanned, rules, types)
        results = _results(rules, counts)
        quarantine = _write_quarantine(connection, scanned, rules, types, folder) if counts["quarantined"] else None
        kept = _study_sql(connection, study, scanned, rules, types)
        outcome = Validated(
            study_sql=kept,
            n_rows=counts["total"],
            n_quarantined=counts["quarantined"],
            n_excluded_where=counts["excluded_where"],
            n_excluded_missing=counts["excluded_missing"],
            n_left=counts["total"] - counts["quarantined"] - counts["excluded_where"] - counts["excluded_missing"],
            rules=results,
            quarantine=quarantine,
            record=folder / VALIDATION_FILE,
        )
        _write_record(outcome, study, relation, _examples(connection, quarantine))
        _stop_on_failure(study, outcome)
        check_needs(connection, study, kept)
    finally:
        connection.close()
    return outcome


def _any_broken(rules: Sequence[Rule], types: Mapping[str, str]) -> str:
    return " or ".join(broken(rule, types) for rule in rules if rule.quarantines) or "false"


def _where(study: Study, types: Mapping[str, str]) -> str:
    return f"coalesce(({row_condition(study.where, list(types), study=study.name)}), false)" if study.where else "true"


def _missing_excluded(study: Study, types: Mapping[str, str]) -> str:
    parts = [_is_missing(name, types) for name, rule in study.missing.items() if rule == "exclude"]
    return " or ".join(parts) or "false"


def _is_missing(name: str, types: Mapping[str, str]) -> str:
    return f"({quote(name)} is null or isnan({quote(name)}))" if types[name] in ("DOUBLE", "FLOAT") else f"{quote(name)} is null"


def _count(
    connection: duckdb.DuckDBPyConnection, study: Study, scanned: str, rules: Sequence[Rule], types: Mapping[str, str]
) -> dict[str, int]:
    """Everything there is to count, in one scan."""
    wanted, missing = _where(study, types), _missing_excluded(study, types)
    flags = f"({_any_broken(rules, types)}) as is_broken, ({wanted}) as is_wanted, ({missing}) as is_missing"
    per_rule = []
    for index, rule in enumerate(rules):
        per_rule.append(f"count(*) filter ({applies(rule, types)}) as checked_{index}")
        per_rule.append(f"count(*) filter ({broken(rule, types)}) as unexpected_{index}")
    query = f"""
        select
            count(*) as total,
            count(*) filter (is_broken) as quarantined,
            count(*) filter (not is_broken and not is_wanted) as excluded_where,
            count(*) filter (not is_broken and is_wanted and is_missing) as excluded_missing
            {"".join(", " + part for part in per_rule)}
        from (select *, {flags} from ({scanned}))
    """
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description or ()]
    return dict(zip(names, (int(value) for value in cursor.fetchall()[0]), strict=True))


def _results(rules: Sequence[Rule], counts: Mapping[str, int]) -> tuple[RuleResult, ...]:
    return tuple(
        RuleResult(
            rule.rule_id, rule.type, rule.severity, rule.why, rule.columns, rule.mostly, counts[f"checked_{i}"], counts[f"unexpected_{i}"]
        )
        for i, rule in enumerate(rules)
    )


def _write_quarantine(
    connection: duckdb.DuckDBPyConnection, scanned: str, rules: Sequence[Rule], types: Mapping[str, str], folder: Path
) -> Path:
    """Every broken row with the ids of all rules that it broke, semicolons between."""
    target = folder / QUARANTINE_FOLDER / "part-0.parquet"
    target.parent.mkdir(exist_ok=True)
    labels = ", ".join(f"case when {broken(rule, types)} then {literal(rule.rule_id)} end" for rule in rules if rule.quarantines)
    columns = ", ".join(quote(name) for name in types)
    query = f"select {columns}, concat_ws(';', {labels}) as {ROW_KEY} from ({scanned}) where {_any_broken(rules, types)}"
    connection.execute(f"copy ({query}) to {literal(str(target))} (format parquet, compression zstd)")
    return target


def _study_sql(connection: duckdb.DuckDBPyConnection, study: Study, scanned: str, rules: Sequence[Rule], types: Mapping[str, str]) -> str:
    """The study's rows as one SELECT over the line items' columns, missing values replaced as the study says."""
    conditions = f"not ({_any_broken(rules, types)}) and {_where(study, types)} and not ({_missing_excluded(study, types)})"
    kept = f"select * from ({scanned}) where {conditions}"
    means = _means(connection, study, kept)
    parts = []
    for name in types:
        rule = study.missing.get(name)
        if rule == "level":
            parts.append(f"coalesce(cast({quote(name)} as varchar), {literal(MISSING_LEVEL)}) as {quote(name)}")
        elif rule == "mean_and_indicator":
            absent = _is_missing(name, types)
            parts.append(f"case when {absent} then {means[name]!r} else {quote(name)} end as {quote(name)}")
            parts.append(f"cast({absent} as integer) as {quote(name + '_missing')}")
        else:
            parts.append(quote(name))
    return f"select {', '.join(parts)} from ({kept})"


def _means(connection: duckdb.DuckDBPyConnection, study: Study, kept: str) -> dict[str, float]:
    names = [name for name, rule in study.missing.items() if rule == "mean_and_indicator"]
    if not names:
        return {}
    picks = ", ".join(f"avg({quote(name)}) filter (not isnan(cast({quote(name)} as double)))" for name in names)
    values = connection.sql(f"select {picks} from ({kept})").fetchall()[0]
    absent = [name for name, value in zip(names, values, strict=True) if value is None]
    if absent:
        raise DataError(f"{study.name}: missing: {absent[0]}: mean_and_indicator needs at least one value, the column has none.")
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _examples(connection: duckdb.DuckDBPyConnection, quarantine: Path | None) -> list[dict[str, Any]]:
    if quarantine is None:
        return []
    query = f"select * from read_parquet({literal(str(quarantine))}) limit {SHOWN_ROWS}"
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description or ()]
    return [{name: str(value) if value is not None else None for name, value in zip(names, row, strict=True)} for row in cursor.fetchall()]


def _write_record(outcome: Validated, study: Study, relation: Relation, examples: list[dict[str, Any]]) -> None:
    content = {
        "study": study.name,
        "suite": study.expectations,
        "as_of": str(relation.as_of),
        "rows": outcome.n_rows,
        "quarantined": outcome.n_quarantined,
        "excluded_where": outcome.n_excluded_where,
        "excluded_missing": outcome.n_excluded_missing,
        "left": outcome.n_left,
        "quarantine_limit": study.quarantine_limit,
        "rules": [{**asdict(rule), "success": rule.success} for rule in outcome.rules],
        "examples": examples,
        "quarantine": None if outcome.quarantine is None else str(outcome.quarantine),
        "study_sql": outcome.study_sql,
    }
    outcome.record.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _stop_on_failure(study: Study, outcome: Validated) -> None:
    failed = [rule for rule in outcome.rules if rule.severity == "critical" and not rule.success]
    if failed:
        worst = failed[0]
        more = f" {len(failed) - 1} more critical rules failed." if len(failed) > 1 else ""
        raise DataError(
            f"{study.name}: {outcome.n_rows:,} line items break the critical rule {worst.rule_id}: {worst.unexpected:,} of "
            f"{worst.checked:,} rows ({worst.why}){more} The rows are in {outcome.quarantine}; mend the source or the suite "
            f"expectations/{study.expectations}.json."
        )
    share = outcome.n_quarantined / outcome.n_rows
    if share > study.quarantine_limit:
        worst = max((rule for rule in outcome.rules if rule.severity != "info"), key=lambda rule: rule.unexpected)
        raise DataError(
            f"{study.name}: {outcome.n_quarantined:,} of {outcome.n_rows:,} line items ({share:.1%}) broke a rule; quarantine_limit is "
            f"{study.quarantine_limit:.1%}. Most broke {worst.rule_id} ({worst.unexpected:,}). The rows are in {outcome.quarantine}."
        )
    if outcome.n_left == 0:
        raise DataError(
            f"{study.name}: no line items are left of {outcome.n_rows:,}: {outcome.n_quarantined:,} quarantined, "
            f"{outcome.n_excluded_where:,} excluded by where, {outcome.n_excluded_missing:,} by missing: exclude."
        )
