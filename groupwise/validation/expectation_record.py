"""The record: Great Expectations itself on a sample, held against the scan's counts on the same rows.

Runs as a child process (``record_in_child``), because importing Great Expectations takes seconds that can pass while the model is fitted.
An exception inside Great Expectations is an error of its own, never a failed expectation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from groupwise.faults import as_ours
from groupwise.run_folder import RunFolder
from groupwise.source.parquet_statistics import CAN_HAVE_NAN
from groupwise.source.relation import Relation, connect, literal, quote, rows_of
from groupwise.source.source_files import exactly
from groupwise.source.time_limit import HOUR, close, time_limit
from groupwise.statistics.gather import rows_read
from groupwise.study.study import Study
from groupwise.validation.regex import python_regex
from groupwise.validation.row_scan import BROKEN_RULES, RowScan, flag
from groupwise.validation.scan_sql import applies, broken, with_duplicates
from groupwise.validation.suite import Rule, load_rules, value_kind
from groupwise.validation.validation_page import write_validation_page
from multilevel.errors import RecordError

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_ROWS = 100_000
RECORD = "expectation_record"
SAMPLE_TABLE = "memory.main.sampled"
MESSAGE_LENGTH = 300
WIDE = ("BIGINT", "UBIGINT", "HUGEINT")
"""Whole numbers that a double does not hold, which is what pandas makes of them beside nulls."""
ZONED = "TIMESTAMP WITH TIME ZONE"
WITH_PARENT = "--with-parent"


@dataclass(frozen=True)
class Found:
    """What one executor says of one rule: rows looked at, rows that break it, whether it is kept."""

    checked: int
    unexpected: int
    success: bool


def record(run: RunFolder, sample_rows: int = SAMPLE_ROWS) -> dict[str, Any]:
    """Validate a hash sample of ``sample_rows`` line items plus every quarantined one; write ``expectation_record.json`` and the page.

    Raises
    ------
    RecordError : Great Expectations raised an exception, or found otherwise than the scan on the same rows.
    """
    study, relation = run.study(), run.relation()
    rules = load_rules(study, relation.columns)
    if not rules:
        return {}
    recorded = [_of_rows_left(rule, index) for index, rule in enumerate(rules)]
    connection = connect(relation, run.path)
    try:
        validation = run.read_json("validation")
        sample(connection, study, rows_read(run), rules, validation.get("quarantine"), sample_rows)
        types = {name: kind for name, kind in relation.columns.items() if any(name in rule.columns for rule in rules)}
        types |= {left_name(index): "BOOLEAN" for index, rule in enumerate(rules) if rule.keep}
        scanned = scan_sample(connection, study.name, recorded, types) | scan_source(connection, study.name, rules)
        frame = sample_frame(connection, types)
    finally:
        close(connection)
    found = run_great_expectations(study.name, recorded, types, frame)
    for rule in rules:
        if found[rule.rule_id] != scanned[rule.rule_id]:
            raise RecordError(
                f"{study.name}: {rule.place} does not mean the same to its two executors: "
                f"of the same {len(frame):,} rows Great Expectations says {found[rule.rule_id]}, the scan {scanned[rule.rule_id]}. "
                "Rewrite the rule."
            )
    compare_with_run(study, rules, found, validation, is_everything=len(frame) == validation["rows"])
    content = {
        "suite": study.expectations,
        "rows": len(frame),
        "rules": len(rules),
        "results": {rule.rule_id: asdict(found[rule.rule_id]) for rule in rules},
    }
    run.write_json(RECORD, content)
    write_validation_page(run)
    return content


def record_in_child(folder: str | Path, seconds: float) -> None:
    """``record`` in a process of its own, for the run folder ``folder``; raises RecordError with its message where it fails.

    ``seconds`` is how long it may take.
    """
    command = [sys.executable, "-m", "groupwise.validation.expectation_record", str(folder), WITH_PARENT]
    alive, held = os.pipe()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=alive, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise RecordError(
            f"Great Expectations did not end within {seconds:,.0f} seconds on the sampled rows; write fewer rules."
        ) from error
    finally:
        os.close(alive)
        os.close(held)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
        raise RecordError(lines[-1])


def compare_with_run(
    study: Study, rules: Sequence[Rule], found: Mapping[str, Found], validation: Mapping[str, Any], *, is_everything: bool
) -> None:
    """Raise RecordError unless Great Expectations found the rows that this run's own scan of all line items counted.

    Every row that broke a quarantining rule is in the sample, so those counts must be the same whatever else was sampled; where the sample
    ``is_everything``, so must all others. Of rows of which one is kept, Great Expectations finds none alike among those that are left.
    """
    counted = {entry["rule_id"]: (int(entry["checked"]), int(entry["unexpected"])) for entry in validation["rules"]}
    for rule in rules:
        own, (checked, unexpected) = found[rule.rule_id], counted[rule.rule_id]
        if rule.keep:
            checked, unexpected = checked - unexpected, 0
        same = own.unexpected == unexpected or not (rule.quarantines or is_everything)
        if not same or (is_everything and own.checked != checked):
            raise RecordError(
                f"{study.name}: {rule.place}: the scan of this run counted {unexpected:,} "
                f"line items that break it ({checked:,} checked), Great Expectations {own.unexpected:,} ({own.checked:,} checked) of the "
                "same rows. Nothing is published: write the source's files anew (copy (from 'old.parquet') to 'new.parquet' in DuckDB), "
                "and report this."
            )


def sample(
    connection: duckdb.DuckDBPyConnection, study: Study, relation: Relation, rules: Sequence[Rule], quarantine: str | None, sample_rows: int
) -> None:
    """Make the table of sampled rows: all that broke a rule, and the first ``sample_rows`` by hash (the same every time) of the others."""
    picks = ", ".join(quote(name) for name in relation.columns if any(name in rule.columns for rule in rules))
    places = [(index, rule) for index, rule in enumerate(rules) if not rule.is_unique]
    kept = [(index, rule) for index, rule in enumerate(rules) if rule.keep]
    flags = "".join(f", {flag('applies', index)}, {flag('broken', index)}" for index, _ in places)
    flags += "".join(f", not {flag('broken', index)} as {quote(left_name(index))}" for index, _ in kept)
    scan = RowScan(study, relation, tuple(rules), {})
    sampled = f"select {picks}{flags} from ({scan.kept_by_rules_sql()}) order by hash({picks}) limit {sample_rows}"
    if quarantine is not None:
        types = relation.columns
        again = "".join(
            f", {applies(rule, types)} as {flag('applies', index)}, {broken(rule, types)} as {flag('broken', index)}"
            for index, rule in places
        )
        ids = f"concat(';', {BROKEN_RULES}, ';')"
        again += "".join(f", not contains({ids}, {literal(f';{rule.rule_id};')}) as {quote(left_name(index))}" for index, rule in kept)
        sampled = f"({sampled}) union all select {picks}{again} from read_parquet({literal(exactly(quarantine))}, {CAN_HAVE_NAN})"
    rows_of(connection, f"create or replace table {SAMPLE_TABLE} as {sampled}", study.name, "rows for the record cannot be sampled")


def left_name(index: int) -> str:
    """The sample's column that says whether a row is left by the rule at ``index``, which keeps one of several."""
    return f"groupwise_left_by_rule_{index}"


def _of_rows_left(rule: Rule, index: int) -> Rule:
    """A rule that keeps one of several rows, as it must hold of the rows that are left: no two of them alike. Other rules as they are."""
    if not rule.keep:
        return rule
    condition, left = rule.kwargs.get("row_condition"), f"{left_name(index)} == True"
    kwargs = {**rule.kwargs, "row_condition": left if condition is None else f"({condition}) and {left}", "condition_parser": "pandas"}
    return replace(rule, kwargs={name: value for name, value in kwargs.items() if name != "mostly"}, keep=None, order_by=None)


def scan_source(connection: duckdb.DuckDBPyConnection, study: str, rules: Sequence[Rule]) -> dict[str, Found]:
    """What the scan said of the sampled rows when it read them from the source, per id of a rule that looks at one row at a time."""
    places = [(index, rule) for index, rule in enumerate(rules) if not rule.is_unique]
    counts = [f"count_if({flag('applies', index)}) as c{index}, count_if({flag('broken', index)}) as u{index}" for index, _ in places]
    if not counts:
        return {}
    row = rows_of(connection, f"select {', '.join(counts)} from {SAMPLE_TABLE}", study, "the sampled rows cannot be counted")[0]
    return {rule.rule_id: _found(int(row[f"c{index}"]), int(row[f"u{index}"]), rule.mostly) for index, rule in places}


def scan_sample(connection: duckdb.DuckDBPyConnection, study: str, rules: Sequence[Rule], types: Mapping[str, str]) -> dict[str, Found]:
    """The scan's answer on the sampled rows, per rule id."""
    source = with_duplicates(f"select * from {SAMPLE_TABLE}", rules, types)
    counts = [f"count_if({applies(rule, types)}) as c{i}, count_if({broken(rule, types)}) as u{i}" for i, rule in enumerate(rules)]
    row = rows_of(connection, f"select {', '.join(counts)} from ({source})", study, "the sampled rows cannot be checked")[0]
    return {rule.rule_id: _found(int(row[f"c{i}"]), int(row[f"u{i}"]), rule.mostly) for i, rule in enumerate(rules)}


def sample_frame(connection: duckdb.DuckDBPyConnection, types: Mapping[str, str]) -> pd.DataFrame:
    """The sampled rows with NumPy types: Great Expectations is slow on Arrow decimals and fails on dates beside datetimes."""
    # not before: the run itself, which only starts this process, has no use for pandas
    import pandas as pd

    # times with a zone as a clock there reads, which is how rules compare them
    picks = [f"cast({quote(name)} as timestamp) as {quote(name)}" if kind == ZONED else quote(name) for name, kind in types.items()]
    frame: pd.DataFrame = connection.sql(f"select {', '.join(picks)} from {SAMPLE_TABLE}").df()
    for name, kind in types.items():
        if kind in WIDE and frame[name].dtype.kind == "f":
            # a float would take neighbouring ids for one
            values = connection.sql(f"select {quote(name)} from {SAMPLE_TABLE}").fetchall()
            frame[name] = pd.Series([value for (value,) in values], dtype=object)
        elif kind == "BOOLEAN" and frame[name].dtype != bool:
            frame[name] = frame[name].astype(object)
        elif kind == "FLOAT":
            frame[name] = frame[name].astype("float64")
    return frame


def run_great_expectations(suite: str, rules: Sequence[Rule], types: Mapping[str, str], frame: pd.DataFrame) -> dict[str, Found]:
    """Great Expectations' answer on a pandas batch, per rule id; RecordError where it raised an exception."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = context.data_sources.add_pandas("sample").add_dataframe_asset("sample").add_batch_definition_whole_dataframe("all")
    expectations = [
        {"type": rule.type, "kwargs": _kwargs(rule, types), "severity": rule.severity, "meta": {"rule_id": rule.rule_id}} for rule in rules
    ]
    try:  # whatever it raises, it is not about the rows
        checked = gx.ExpectationSuite(name=suite, expectations=expectations)
        result = batch.get_batch({"dataframe": frame}).validate(checked, result_format="SUMMARY")
    except Exception as error:
        raise RecordError(f"{suite}: Great Expectations failed: {_one_line(str(error) or type(error).__name__)}") from error
    found: dict[str, Found] = {}
    for entry in result.results:
        rule_id = entry.expectation_config.meta["rule_id"]
        raised = exception_message(entry.exception_info)
        if raised is not None:
            raise RecordError(f"{suite}: Great Expectations could not evaluate {rule_id}: {_one_line(raised)}")
        counts = entry.result
        found[rule_id] = Found(
            counts["element_count"] - counts.get("missing_count", 0), int(counts.get("unexpected_count", 0)), bool(entry.success)
        )
    return found


def exception_message(info: Mapping[str, Any] | None) -> str | None:
    """The message of an exception, which lies flat or one level down under a metric's id."""
    for entry in (info or {}).values() if "raised_exception" not in (info or {}) else [info]:
        if isinstance(entry, Mapping) and entry.get("raised_exception"):
            return str(entry.get("exception_message") or "an exception without a message")
    return None


def _found(checked: int, unexpected: int, mostly: float) -> Found:
    return Found(checked, unexpected, checked == 0 or (checked - unexpected) / checked >= mostly)


def _kwargs(rule: Rule, types: Mapping[str, str]) -> dict[str, Any]:
    """The rule's arguments as Great Expectations reads them in the scan's sense: full timestamps, a regex of Python's."""
    kwargs = dict(rule.kwargs)
    if "regex" in kwargs:
        kwargs["regex"] = python_regex(kwargs["regex"])
    for bound in ("min_value", "max_value"):
        if isinstance(kwargs.get(bound), str) and value_kind(types[rule.own_columns[0]]) == "time":
            kwargs[bound] = datetime.fromisoformat(kwargs[bound]).isoformat()
    return kwargs


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MESSAGE_LENGTH]


def _end_with_parent() -> None:
    """End this process when the other end of its standard input closes, as it does when the parent is gone, however it went."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: Sequence[str]) -> int:
    """Run the record for a run folder; where it fails, one line ends stderr and the exit code is 1."""
    if WITH_PARENT in arguments:
        _end_with_parent()
    try:
        with time_limit(HOUR, "the record of Great Expectations", "make a table of the rows in the database first"):
            record(RunFolder(Path(arguments[0])))
    except Exception as error:  # noqa: BLE001  the parent shows the last line
        known = as_ours(error, "the record cannot be made")
        if known is None:
            traceback.print_exc()
        print(_one_line(f"the record failed: {type(error).__name__}: {error}" if known is None else str(known)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
