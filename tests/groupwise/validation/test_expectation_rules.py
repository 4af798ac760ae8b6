"""A suite that the two executors could read differently, or that one cannot check, is refused at load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from groupwise.validation.scan_sql import check_expressible
from groupwise.validation.suite import fitting_rules, read_rules, value_kind
from multilevel.errors import StudyError

TYPES = {
    "amount": "DECIMAL(18,2)",
    "n": "INTEGER",
    "name": "VARCHAR",
    "is_fuel": "BOOLEAN",
    "ts": "TIMESTAMP",
    "day": "DATE",
    "tags": "VARCHAR[]",
    "size": "ENUM('S', 'L')",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "expectations").mkdir()
    return tmp_path / "expectations"


def entry(kind: str = "not_be_null", /, severity: str = "critical", rule_id: str = "r", **kwargs: Any) -> dict[str, Any]:
    full = "expect_compound_columns_to_be_unique" if kind == "compound" else f"expect_column_values_to_{kind}"
    return {"type": full, "kwargs": kwargs, "severity": severity, "meta": {"rule_id": rule_id, "why": "because"}}


def load(*entries: Any) -> None:
    Path("expectations/mine.json").write_text(json.dumps({"expectations": list(entries)}))
    check_expressible(fitting_rules(read_rules("mine"), TYPES), TYPES)


@pytest.mark.parametrize(
    "good",
    [
        entry("not_be_null", column="n"),
        entry("not_be_null", column="tags", mostly=0.5, severity="info"),
        entry("be_between", column="amount", min_value=0, max_value=0.1, strict_min=True),
        entry("be_between", column="ts", min_value="2024-01-01"),
        entry("be_between", column="day", max_value="2024-01-01T00:00:00"),
        entry("be_in_set", column="size", value_set=["S", "it's"]),
        entry("be_in_set", column="is_fuel", value_set=[True]),
        entry("match_regex", column="name", regex="^[a-z'\"]+$"),
        entry("be_unique", column="n", row_condition='is_fuel == False and (name == "x" or n >= 3)', condition_parser="pandas"),
        entry("compound", column_list=["n", "name"]),
    ],
)
def test_a_rule_that_both_executors_know_is_loaded(good: dict[str, Any]) -> None:
    load(good)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry("have_a_soul", column="n"), "expect_column_values_to_have_a_soul cannot be checked by the scan"),
        ({**entry(column="n"), "type": "expect_table_row_count_to_be_between"}, "cannot be checked by the scan"),
        (entry(column="nn"), "reads nn, which the line items do not have"),
        (entry(column="n", severity="fatal"), "severity 'fatal'; write critical, warning or info"),
        (entry(column="n", mostly=0), "mostly 0"),
        (entry(column="n", mostly=1.5), "mostly 1.5"),
        (entry(column="n", mostly="all"), "mostly 'all'"),
        (entry(), "needs a column"),
        (entry(column=3), "needs a column"),
        (entry("compound", column_list=[]), "needs a column"),
        (entry("be_between", column="n"), "needs min_value or max_value"),
        (entry("be_between", column="n", min_valu=0), "is checked without min_valu"),
        (entry("be_between", column="n", min_value="0"), "min_value '0' does not fit n"),
        (entry("be_between", column="n", min_value=True), "min_value True does not fit n"),
        (entry("be_between", column="n", min_value=float("nan")), "min_value nan does not fit n"),
        (entry("be_between", column="n", max_value=float("inf")), "max_value inf does not fit n"),
        (entry("be_between", column="name", min_value="a"), "no order that both executors share"),
        (entry("be_between", column="ts", min_value="2024-13-01"), "does not fit ts"),
        (entry("be_between", column="ts", min_value="2024-01-01T00:00:00+02:00"), "does not fit ts"),
        (entry("be_between", column="ts", min_value=20240101), "does not fit ts"),
        (entry("be_in_set", column="n", value_set=[]), "value_set"),
        (entry("be_in_set", column="n", value_set=["1"]), "value_set"),
        (entry("be_in_set", column="name", value_set=["a", None]), "value_set"),
        (entry("be_in_set", column="ts", value_set=["2024-01-01"]), "value_set"),
        (entry("match_regex", column="n", regex="1"), "a regex is for text columns"),
        (entry("match_regex", column="name", regex="(?=a)"), "cannot be checked by the scan"),
        (entry("match_regex", column="name", regex="[[:alpha:]]"), "unknown to Python"),
        (entry("match_regex", column="name", regex="("), "Python cannot read it"),
        (entry("match_regex", column="name"), "a regex is for text columns"),
        (entry(column="n", row_condition="n > 1"), "row_condition needs condition_parser pandas"),
        (entry(column="n", row_condition="n >", condition_parser="pandas"), "not readable"),
        (entry(column="n", row_condition="n != 1", condition_parser="pandas"), "cannot be checked by the scan"),
        (entry(column="n", row_condition="abs(n) > 1", condition_parser="pandas"), "cannot be checked by the scan"),
        (entry(column="n", row_condition="1 < n < 3", condition_parser="pandas"), "cannot be checked by the scan"),
        (entry(column="n", row_condition="__import__('os').system('x')", condition_parser="pandas"), "cannot be checked by the scan"),
        (entry(column="n", row_condition='n == "1"', condition_parser="pandas"), "compares n"),
        (entry(column="n", row_condition="m > 1", condition_parser="pandas"), "reads m"),
        ({"type": "expect_column_values_to_not_be_null"}, "needs type, kwargs, severity, meta.rule_id and meta.why"),
        ("not_be_null", "needs type, kwargs, severity"),
    ],
)
def test_any_other_rule_is_refused_with_its_name(bad: Any, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        load(bad)
    assert message in str(caught.value)
    assert str(caught.value).startswith("expectations: mine")


def test_a_rule_id_is_used_once() -> None:
    with pytest.raises(StudyError, match="rule_id r is used twice"):
        load(entry(column="n"), entry(column="name"))


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not readable as JSON"), ("[]", "needs a list"), ('{"expectations": {}}', "needs a list")]
)
def test_a_file_that_is_no_suite_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "mine.json").write_text(text)
    with pytest.raises(StudyError, match=message):
        fitting_rules(read_rules("mine"), TYPES)


def test_a_suite_that_does_not_exist_is_named() -> None:
    with pytest.raises(StudyError, match=r"there is no suite expectations/other.json"):
        fitting_rules(read_rules("other"), TYPES)


def test_the_working_directorys_suite_comes_before_the_projects_own(folder: Path) -> None:
    (folder / "baskets.json").write_text(json.dumps({"expectations": [entry(column="n")]}))
    assert [rule.rule_id for rule in fitting_rules(read_rules("baskets"), TYPES)] == ["r"]


@pytest.mark.parametrize(
    ("duckdb_type", "kind"),
    [
        ("DECIMAL(18,2)", "number"),
        ("UHUGEINT", "number"),
        ("INTEGER", "number"),
        ("FLOAT", "number"),
        ("TIMESTAMP WITH TIME ZONE", "time"),
        ("DATE", "time"),
        ("TIME", "other"),
        ("DECIMAL(18,2)[]", "other"),
        ("STRUCT(a INTEGER)", "other"),
        ("ENUM('a', 'b')", "text"),
        ("ENUM('a', 'b')[]", "other"),
        ("INTERVAL", "other"),
        ("BLOB", "other"),
    ],
)
def test_a_columns_values_are_of_a_kind(duckdb_type: str, kind: str) -> None:
    assert value_kind(duckdb_type) == kind
