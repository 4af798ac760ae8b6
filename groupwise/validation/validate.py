"""Validate: row rules quarantine first, then deliberate exclusions and missing values, then the study's own needs on what is left.

The rules live once, in the study or in ``expectations/*.json``. Here they are part of one DuckDB scan over all rows;
``expectation_record.py`` runs the same rules through Great Expectations on a sample, as the record.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb

from groupwise.compression.sql_expressions import TABLE
from groupwise.faults import told
from groupwise.source.relation import Relation, connect, literal, quote, rows_of
from groupwise.source.source_files import exactly
from groupwise.source.time_limit import close
from groupwise.study.study import Study
from groupwise.validation.row_scan import BROKEN_RULES, Counts, RowScan, scan_of
from groupwise.validation.suite import Rule, Severity, load_rules
from groupwise.whole_files import write_whole
from multilevel.errors import DataError, GroupwiseError
from multilevel.formula.columns import formula_columns

QUARANTINE_FOLDER = "quarantine"
VALIDATION_FILE = "validation.json"
EXAMPLE_ROWS = 10
SHOWN_ROWS = 3
SHOWN_COLUMNS = 6
SHOWN_LENGTH = 200


@dataclass(frozen=True)
class RuleResult:
    """What the scan found for one rule: ``checked`` rows that it looks at, ``unexpected`` rows that break it."""

    rule_id: str
    type: str
    severity: Severity
    why: str
    columns: tuple[str, ...]
    mostly: float
    keep: str | None
    checked: int
    unexpected: int

    @property
    def success(self) -> bool:
        """Whether at least ``mostly`` of the rows keep the rule (a rule that looks at no row is kept)."""
        return self.checked == 0 or (self.checked - self.unexpected) / self.checked >= self.mostly


@dataclass(frozen=True)
class Validated:
    """The study's rows after quarantine, exclusions and missing values, and how many went where.

    ``study_sql`` is one complete SELECT for ``relation.connect``; ``quarantine`` the Parquet file of rows that broke a rule, dropped
    duplicates among them; None if there is none.
    """

    study_sql: str
    n_rows: int
    n_quarantined: int
    n_duplicates: int
    n_excluded_where: int
    n_excluded_missing: int
    n_left: int
    rules: tuple[RuleResult, ...]
    quarantine: Path | None
    record: Path

    @property
    def n_excluded(self) -> int:
        """Deliberately left out: by ``where``, by ``missing: exclude``, and as copies of rows of which a rule keeps one."""
        return self.n_excluded_where + self.n_excluded_missing + self.n_duplicates


class Counted(Protocol):
    """Who knows what a scan of the window would count."""

    def counts(self) -> Counts:
        """The counts; DataError where the scan would refuse."""

    def means(self) -> dict[str, float]:
        """Of columns that are filled in."""

    def write_quarantine(self, scan: RowScan, connection: duckdb.DuckDBPyConnection, folder: Path) -> Path:
        """Write the quarantined rows into ``folder``; their file."""


@told("the line items cannot be checked")
def validate(study: Study, relation: Relation, folder: Path, *, stays: bool = True, counted: Counted | None = None) -> Validated:
    """Scan the line items; write ``quarantine/`` and ``validation.json`` into ``folder``, the latter also where the run stops here.

    ``stays``: whether the folder is there after the command; where not, a refusal shows rows instead of where they are.
    ``counted``: who knows the counts already, so that no line item need be read.

    Raises
    ------
    DataError : a critical rule failed, too many rows are quarantined, nothing is left, or what is left breaks the study's needs.
    StudyError : the suite or ``where`` cannot be read, or a column's type does not fit the formula.
    SourceError : the source was written to since it was described.
    """
    rules = load_rules(study, relation.columns)
    shutil.rmtree(folder / QUARANTINE_FOLDER, ignore_errors=True)
    connection = connect(relation, folder)
    try:
        scan = scan_of(connection, study, relation, rules) if counted is None else RowScan(study, relation, rules, counted.means())
        counts = scan.count(connection) if counted is None else counted.counts()
        ruled_out = counts.quarantined + counts.duplicates
        place = folder / QUARANTINE_FOLDER
        quarantine = None
        if ruled_out:
            quarantine = scan.write_quarantine(connection, place) if counted is None else counted.write_quarantine(scan, connection, place)
        outcome = Validated(
            study_sql=scan.study_sql(ruled_out=ruled_out),
            n_rows=counts.total,
            n_quarantined=counts.quarantined,
            n_duplicates=counts.duplicates,
            n_excluded_where=counts.excluded_where,
            n_excluded_missing=counts.excluded_missing,
            n_left=counts.left,
            rules=_results(rules, counts),
            quarantine=quarantine,
            record=folder / VALIDATION_FILE,
        )
        examples = _examples(connection, study, quarantine)
        shown = None if stays else _rows_shown(study, rules, examples)
        stopped = _failure(study, outcome, shown) or _unmet(connection, scan, counts, outcome)
        _write_record(outcome, study, relation, examples, scan.means, stopped)
    finally:
        close(connection)
    if stopped is not None:
        raise stopped
    return outcome


def _results(rules: Sequence[Rule], counts: Counts) -> tuple[RuleResult, ...]:
    return tuple(
        RuleResult(rule.rule_id, rule.type, rule.severity, rule.why, rule.columns, rule.mostly, rule.keep, checked, unexpected)
        for rule, checked, unexpected in zip(rules, counts.checked, counts.unexpected, strict=True)
    )


def _rows_shown(study: Study, rules: Sequence[Rule], examples: Sequence[Mapping[str, Any]]) -> str:
    """Some quarantined rows, what the rules read first."""
    names = [*(name for rule in rules for name in rule.columns), *formula_columns(study.parsed_formula)]
    shown = list(dict.fromkeys([BROKEN_RULES, *names]))[:SHOWN_COLUMNS]
    lines = ["  " + ", ".join(f"{name} = {_shown(row[name])}" for name in shown if name in row)[:SHOWN_LENGTH] for row in examples]
    return "\n".join(["Some of the rows (groupwise estimate keeps all of them in a file):", *lines[:SHOWN_ROWS]])


def _advice(study: Study, outcome: Validated, shown: str | None, advice: str) -> str:
    """Where the rows are, or some of them, and what to do; under privacy they go with the run."""
    if study.privacy is not None and shown is None:
        return f"{advice.capitalize()}. The study has privacy: no row of it is kept."
    return f"The rows are in {outcome.quarantine}; {advice}." if shown is None else f"{advice.capitalize()}. {shown}"


def _failure(study: Study, outcome: Validated, shown: str | None) -> DataError | None:
    """Why the rules stop the run, if they do; ``shown``: rows to show where their file will be gone."""
    failed = [rule for rule in outcome.rules if rule.severity == "critical" and not rule.success]
    if failed:
        worst = max(failed, key=lambda rule: rule.unexpected)
        more = f" So did {', '.join(rule.rule_id for rule in failed if rule is not worst)}." if len(failed) > 1 else ""
        allowed = f", of which {1 - worst.mostly:.2%} may" if worst.mostly < 1 else ""
        return DataError(
            f"{study.name}: the critical rule {worst.rule_id} failed: {worst.unexpected:,} of {worst.checked:,} line items break it"
            f"{allowed} ({worst.why}){more}\n"
            + _advice(study, outcome, shown, f"mend the source, or the rule in {_rules_file(study, worst.rule_id)}")
        )
    if outcome.n_quarantined > study.quarantine_limit * outcome.n_rows:
        worst = max((rule for rule in outcome.rules if rule.severity != "info" and not rule.keep), key=lambda rule: rule.unexpected)
        share = outcome.n_quarantined / outcome.n_rows
        return DataError(
            f"{study.name}: {outcome.n_quarantined:,} of {outcome.n_rows:,} line items ({share:.2%}) broke a rule; quarantine_limit "
            f"is {study.quarantine_limit:.2%}. Most broke {worst.rule_id} ({worst.unexpected:,}: {worst.why})\n"
            + _advice(study, outcome, shown, "mend the source, or raise quarantine_limit")
        )
    if outcome.n_left == 0:
        return DataError(
            f"{study.name}: no line items are left of {outcome.n_rows:,}: {outcome.n_quarantined:,} quarantined, "
            + (f"{outcome.n_duplicates:,} dropped as duplicates, " if outcome.n_duplicates else "")
            + f"{outcome.n_excluded_where:,} excluded by where, {outcome.n_excluded_missing:,} by missing: exclude."
        )
    return None


def _rules_file(study: Study, rule_id: str) -> str:
    own = {rule.rule_id for rule in study.rules}
    return "the study" if rule_id in own else f"expectations/{study.expectations}.json"


def _unmet(connection: duckdb.DuckDBPyConnection, scan: RowScan, counts: Counts, outcome: Validated) -> DataError | None:
    """The first need that the rows which are left do not meet: how many break it and the first of them, or that nothing varies."""
    study = scan.study
    for need, count in zip(scan.needs, counts.breaking, strict=True):
        if count:
            shown = list(dict.fromkeys([*need.columns, *formula_columns(study.parsed_formula)]))[:SHOWN_COLUMNS]
            picks = ", ".join(f"{TABLE}.{quote(name)}" for name in shown)
            query = f"select {picks} from ({outcome.study_sql}) as {TABLE} where coalesce({need.breaks}, false) limit {SHOWN_ROWS}"
            rows = rows_of(connection, query, study.name, "rows that break a need cannot be shown")
            lines = ["  " + ", ".join(f"{name} = {_shown(value)}" for name, value in row.items())[:SHOWN_LENGTH] for row in rows]
            some = f"{count:,} of {outcome.n_left:,} rows {'break' if count > 1 else 'breaks'} what the study needs"
            return DataError("\n".join([f"{study.name}: {some}: {need.message}. The first:", *lines]))
    for varied, is_varied in zip(scan.varied, counts.varied, strict=True):
        if not is_varied:
            picks = ", ".join(f"{TABLE}.{quote(name)}" for name in varied.columns)
            row = rows_of(connection, f"select {picks} from ({outcome.study_sql}) as {TABLE} limit 1", study.name, "a row cannot be shown")[
                0
            ]
            only = ", ".join(f"{name} = {_shown(value)}" for name, value in row.items())[:SHOWN_LENGTH]
            return DataError(f"{study.name}: {varied.message} (all rows have {only}).")
    return None


def _shown(value: object) -> str:
    return "null" if value is None else str(value)


def _examples(connection: duckdb.DuckDBPyConnection, study: Study, quarantine: Path | None) -> list[dict[str, Any]]:
    """Some quarantined rows for the page, values as text."""
    if quarantine is None:
        return []
    # one row of every set of rules broken together, then others, so that no rule goes unseen behind a frequent one
    turn = f"row_number() over (partition by {BROKEN_RULES})"
    kept = f"select {BROKEN_RULES}, * exclude ({BROKEN_RULES}) from read_parquet({literal(exactly(str(quarantine)))})"
    query = f"{kept} qualify {turn} <= {EXAMPLE_ROWS} order by {turn}, {BROKEN_RULES} limit {EXAMPLE_ROWS}"
    rows = rows_of(connection, query, study.name, "the quarantined rows cannot be read back")
    return [{name: None if value is None else str(value) for name, value in row.items()} for row in rows]


def _write_record(
    outcome: Validated,
    study: Study,
    relation: Relation,
    examples: Sequence[Mapping[str, Any]],
    means: Mapping[str, float],
    stopped: GroupwiseError | None,
) -> None:
    content = {
        "study": study.name,
        "suite": study.expectations,
        "has_own_rules": bool(study.rules),
        "as_of": str(relation.as_of),
        "rows": outcome.n_rows,
        "quarantined": outcome.n_quarantined,
        "duplicates": outcome.n_duplicates,
        "excluded_where": outcome.n_excluded_where,
        "excluded_missing": outcome.n_excluded_missing,
        "left": outcome.n_left,
        "filled_in": dict(means),
        "quarantine_limit": study.quarantine_limit,
        "rules": [{**asdict(rule), "success": rule.success} for rule in outcome.rules],
        "examples": examples,
        "quarantine": None if outcome.quarantine is None else str(outcome.quarantine),
        "stopped": None if stopped is None else str(stopped),
        "study_sql": outcome.study_sql,
    }
    write_whole(outcome.record, json.dumps(content, indent=1))
