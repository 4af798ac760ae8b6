"""The record: Great Expectations itself on a sample, held against the scan's counts on the same rows.

Runs as a child process (``python -m tasks.expectation_record RUN_FOLDER``), because importing Great Expectations takes seconds that can
pass while the model is fitted. An exception inside Great Expectations is an error of its own, never a failed expectation.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from multilevel.errors import DataError, GroupwiseError
from tasks.expectation_rules import Rule, broken, load_rules, with_duplicates
from tasks.relation import connect, literal, quote
from tasks.run_folder import RunFolder

SAMPLE_ROWS = 100_000


def record(run: RunFolder, sample_rows: int = SAMPLE_ROWS) -> dict[str, Any]:
    """Validate a hash sample of at least ``sample_rows`` line items plus every quarantined one; write ``expectation_record.json``.

    Raises DataError where Great Expectations raised an exception or counted otherwise than the scan.
    """
    study, relation = run.study(), run.relation()
    if study.expectations is None:
        return {}
    rules = load_rules(study.expectations, relation.columns)
    quarantine = run.read_json("validation").get("quarantine")
    columns = sorted({name for rule in rules for name in rule.columns})
    connection = connect(relation, run.path)
    try:
        connection.execute(f"create table memory.main.sampled as {_sample_sql(run, columns, quarantine, sample_rows)}")
        types = {row[0]: row[1] for row in connection.sql("describe memory.main.sampled").fetchall()}
        scanned = _scan(connection, rules, types)
        frame = _frame(connection, types)
    finally:
        connection.close()
    results = great_expectations_counts(study.expectations, rules, frame)
    disagree = [rule.rule_id for rule in rules if results[rule.rule_id]["unexpected"] != scanned[rule.rule_id]]
    if disagree:
        first = disagree[0]
        raise DataError(
            f"{study.name}: Great Expectations finds {results[first]['unexpected']} rows breaking {first}, the scan {scanned[first]}, on "
            f"the same {len(frame):,} rows: the rule does not mean the same to both. Rewrite it in expectations/{study.expectations}.json."
        )
    content = {"suite": study.expectations, "rows": len(frame), "rules": len(rules), "results": results}
    run.write_json("expectation_record", content)
    return content


def _sample_sql(run: RunFolder, columns: Sequence[str], quarantine: str | None, sample_rows: int) -> str:
    """A hash sample (the same rows in every run) and the quarantined rows that it does not hold."""
    relation = run.relation()
    picks = ", ".join(quote(name) for name in columns)
    share = min(1.0, 1.1 * sample_rows / max(relation.rows, 1))
    drawn = "true" if share >= 1.0 else f"hash({picks}) % 1000000 < {int(share * 1_000_000) + 1}"
    sample = f"select {picks} from ({relation.sql}) where {drawn}"
    if quarantine is None or drawn == "true":
        return sample
    return f"{sample} union all select {picks} from read_parquet({literal(quarantine)}) where not ({drawn})"


def _scan(connection: Any, rules: Sequence[Rule], types: Mapping[str, str]) -> dict[str, int]:
    source = with_duplicates("select * from memory.main.sampled", rules, types)
    counts = ", ".join(f"count(*) filter ({broken(rule, types)})" for rule in rules)
    values = connection.sql(f"select {counts} from ({source})").fetchall()[0]
    return {rule.rule_id: int(value) for rule, value in zip(rules, values, strict=True)}


def _frame(connection: Any, types: Mapping[str, str]) -> pd.DataFrame:
    """The sample with NumPy types: Great Expectations is slow on Arrow decimals and wrong on some Arrow types."""
    frame: pd.DataFrame = connection.sql("select * from memory.main.sampled").df()
    for name, kind in types.items():
        if kind == "BOOLEAN" and frame[name].dtype != bool:
            frame[name] = frame[name].astype(object)
    return frame


def great_expectations_counts(suite: str, rules: Sequence[Rule], frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Per rule id: ``success`` and ``unexpected`` as Great Expectations finds them on a pandas batch."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = context.data_sources.add_pandas("sample").add_dataframe_asset("sample").add_batch_definition_whole_dataframe("all")
    expectations = [
        {"type": rule.type, "kwargs": dict(rule.kwargs), "severity": rule.severity, "meta": {"rule_id": rule.rule_id}} for rule in rules
    ]
    checked = gx.ExpectationSuite(name=suite, expectations=expectations)
    result = batch.get_batch({"dataframe": frame}).validate(checked, result_format="SUMMARY")
    found: dict[str, dict[str, Any]] = {}
    for entry in result.results:
        rule_id = entry.expectation_config.meta["rule_id"]
        raised = _exception(entry.exception_info)
        if raised is not None:
            raise DataError(f"expectations: {suite}: Great Expectations could not evaluate {rule_id}: {raised[:200]}")
        found[rule_id] = {"success": bool(entry.success), "unexpected": int(entry.result.get("unexpected_count", 0))}
    return found


def _exception(info: Mapping[str, Any] | None) -> str | None:
    """The message of an exception, which lies flat or one level down under a metric's id."""
    if not info:
        return None
    nested = info.values() if "raised_exception" not in info else [info]
    for entry in nested:
        if isinstance(entry, Mapping) and entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return None


def main(arguments: Sequence[str]) -> int:
    """Run the record for a run folder; one line on stderr and exit 1 where it fails."""
    try:
        content = record(RunFolder(Path(arguments[0])))
    except GroupwiseError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({key: value for key, value in content.items() if key != "results"}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
