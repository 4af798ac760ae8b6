"""Rules in a study are a suite's rules; of rows that are alike one is kept, whichever order the rows have."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from groupwise.run_folder import RunFolder
from groupwise.source.describe import extract
from groupwise.study.row_rule import CHECKS, SEVERAL, RowRule
from groupwise.study.study import Study
from groupwise.validation.expectation_record import record
from groupwise.validation.suite import ROW_RULES, study_rules
from groupwise.validation.validate import Validated, validate
from multilevel.errors import DataError, RecordError, StudyError

ROWS = (
    "select id, line, amount, category, (1000 - line)::integer as loaded from (select i // 2 as id, i as line, (i % 7)::double as amount, "
    "['a', 'b', 'c'][1 + i % 3] as category from range(200) r(i))"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[Study, Validated, list[tuple[Any, ...]]]]:
    """The study's rows after its rules; the rows of the source in the order that is asked for."""

    def made(
        *rules: dict[str, Any], order: str = "line", change: str = "", **fields: Any
    ) -> tuple[Study, Validated, list[tuple[Any, ...]]]:
        with duckdb.connect() as connection:
            connection.execute(f"create table rows as {ROWS}; {change}; copy (from rows order by {order}) to 'rows.parquet'")
        study = Study(
            **{"name": "small", "formula": "amount ~ 1 + (1 | category)", "source": {"parquet": "rows.parquet"}, "rules": rules, **fields}
        )
        run = RunFolder(tmp_path / "run")
        run.path.mkdir(exist_ok=True)
        run.write_study(study, "small.yaml")
        relation = extract(study, None, run.path, today=date(2026, 1, 1))
        found = validate(study, relation, run.path)
        with duckdb.connect() as connection:
            left = connection.sql(f"select id, line, amount from ({found.study_sql}) order by all").fetchall()
        return study, found, left

    return made


def test_every_type_of_rule_can_be_written_in_a_study() -> None:
    assert {kind for kind, _ in CHECKS.values()} | {SEVERAL} == set(ROW_RULES)


def test_rules_of_a_study_are_entries_of_a_suite() -> None:
    rule = RowRule.model_validate({"check": "between", "column": "amount", "above": 0, "max": 5, "when": "id > 3", "mostly": 0.9})
    assert rule.entry() == {
        "type": "expect_column_values_to_be_between",
        "kwargs": {
            "column": "amount", "min_value": 0, "strict_min": True, "max_value": 5, "row_condition": "id > 3",
            "condition_parser": "pandas", "mostly": 0.9,
        },
        "severity": "warning",
        "meta": {"rule_id": "amount_between", "why": "amount is above 0 and at most 5"},
    }  # fmt: skip


def test_a_studys_rules_stand_beside_those_of_its_suite(run: Callable[..., Any]) -> None:
    Path("expectations").mkdir()
    entry = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}, "severity": "info"}
    Path("expectations/mine.json").write_text(json.dumps({"expectations": [{**entry, "meta": {"rule_id": "there", "why": "because"}}]}))
    study, found, _ = run({"check": "between", "column": "amount", "max": 5}, expectations="mine", quarantine_limit=1)
    assert [rule.rule_id for rule in found.rules] == ["there", "amount_between"]
    assert (found.n_quarantined, found.n_left) == (28, 172)
    with pytest.raises(StudyError, match="small: rules: rule_id there is used twice"):
        study_rules(study.model_copy(update={"rules": (RowRule(check="present", column="id", id="there"),)}))


KEEP_ONE = {"check": "unique", "column": "id", "keep": "one"}


@pytest.mark.parametrize(
    "rule",
    [
        KEEP_ONE,
        {**KEEP_ONE, "keep": "first", "order_by": "loaded"},
        {**KEEP_ONE, "keep": "last", "order_by": "loaded"},
        {"check": "unique", "column": ["id", "category"], "keep": "one", "when": "amount > 2"},
    ],
)
def test_the_row_that_is_kept_does_not_follow_from_the_order_of_rows(run: Callable[..., Any], rule: dict[str, Any]) -> None:
    change = "insert into rows select * from rows where line < 20"
    found = [run(rule, order=order, change=change) for order in ("line", "line desc", "hash(line)")]
    assert found[0][1].n_duplicates > 0
    assert len({(one.n_duplicates, one.n_left) for _, one, _ in found}) == 1
    assert found[0][2] == found[1][2] == found[2][2]


def test_one_row_of_each_id_stays_and_the_others_are_counted_and_kept_apart(run: Callable[..., Any]) -> None:
    _, found, left = run(KEEP_ONE)
    assert (found.n_rows, found.n_quarantined, found.n_duplicates, found.n_left) == (200, 0, 100, 100)
    assert [row[0] for row in left] == list(range(100))
    assert found.rules[0].success, "copies that are dropped are no failure"
    with duckdb.connect() as connection:
        assert connection.sql(f"select distinct broken_rules, count(*) from '{found.quarantine}' group by all").fetchall() == [
            ("id_unique", 100)
        ]


def test_first_and_last_are_by_the_column_that_is_named(run: Callable[..., Any]) -> None:
    """``loaded`` falls as ``line`` rises."""
    _, _, first = run({**KEEP_ONE, "keep": "first", "order_by": "loaded"})
    _, _, last = run({**KEEP_ONE, "keep": "last", "order_by": "loaded"})
    assert {row[1] % 2 for row in first} == {1}
    assert {row[1] % 2 for row in last} == {0}


def test_the_row_that_stays_is_one_that_keeps_the_other_rules(run: Callable[..., Any]) -> None:
    present = {"check": "present", "column": "amount"}
    _, found, left = run(KEEP_ONE, present, change="update rows set amount = null where line < 6 and line % 2 = 0", quarantine_limit=1)
    assert (found.n_quarantined, found.n_duplicates, found.n_left) == (3, 97, 100)
    assert [row[:2] for row in left[:3]] == [(0, 1), (1, 3), (2, 5)]


def test_more_copies_than_a_rule_allows_stop_the_run(run: Callable[..., Any]) -> None:
    with pytest.raises(
        DataError, match=r"the critical rule id_unique failed: 100 of 200 .* of which 10.00% may .*\n.*the rule in the study"
    ):
        run({**KEEP_ONE, "severity": "critical", "mostly": 0.9})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sample_rows", [20, 1_000])
def test_great_expectations_finds_no_copies_among_the_rows_that_are_left(run: Callable[..., Any], tmp_path: Path, sample_rows: int) -> None:
    rules = (KEEP_ONE, {"check": "unique", "column": ["id", "category"], "when": "amount < 4", "id": "pairs"})
    run(*rules, change="update rows set category = 'a' where line < 10", quarantine_limit=1)
    folder = RunFolder(tmp_path / "run")
    results = record(folder, sample_rows)["results"]
    assert results["id_unique"]["unexpected"] == 0
    content = folder.read_json("validation")
    content["rules"][0]["unexpected"] = 99
    folder.write_json("validation", content)
    if sample_rows == 1_000:
        assert results["id_unique"]["checked"] == 100
        with pytest.raises(RecordError, match="rule id_unique: the scan of this run counted 0"):
            record(folder, sample_rows)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"check": "between", "column": "amount"}, "check: between needs above or below or max or min"),
        (
            {"check": "present", "column": "amount", "min": 3},
            "min belongs to check: between; this one is present, with no fields of its own",
        ),
        ({"check": "present", "column": ["id", "line"]}, "write a rule for each of id, line"),
        ({"check": "between", "column": "amount", "min": 1, "above": 0}, "write min or above, not both"),
        ({"check": "unique", "column": "id", "keep": "first"}, "need order_by"),
        ({"check": "unique", "column": "id", "keep": "one", "severity": "info"}, "write warning or critical"),
        ({"check": "one_of", "column": "category"}, "check: one_of needs values"),
        ({"check": "unique", "colum": "id"}, "no such field; did you mean column"),
        ({"check": "is_unique", "column": "id"}, "rules no. 1, check: 'is_unique'"),
    ],
)
def test_a_rule_that_says_too_little_or_too_much_is_refused(run: Callable[..., Any], rule: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        run(rule)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"check": "present", "column": "amont"}, "small: rules: rule amont_present reads amont, which the line items do not have"),
        ({"check": "between", "column": "category", "min": 1}, "category is VARCHAR, which has no order"),
        ({"check": "matches", "column": "id", "regex": "^1"}, "a regex is for text columns"),
        ({"check": "present", "column": "id", "when": "category = 'a'"}, "rule id_present: row_condition"),
    ],
)
def test_a_rule_that_does_not_fit_the_columns_is_refused(run: Callable[..., Any], rule: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        run(rule)
    assert message in str(caught.value)


def test_a_suite_keeps_one_in_its_meta(run: Callable[..., Any]) -> None:
    Path("expectations").mkdir()
    entry = RowRule.model_validate(KEEP_ONE).entry()
    Path("expectations/mine.json").write_text(json.dumps({"expectations": [entry]}))
    _, found, _ = run(expectations="mine")
    assert found.n_duplicates == 100
    entry["meta"]["keep"] = "some"
    Path("expectations/mine.json").write_text(json.dumps({"expectations": [entry]}))
    with pytest.raises(StudyError, match="keep 'some': write one, first or last"):
        run(expectations="mine")
