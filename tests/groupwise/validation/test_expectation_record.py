"""Great Expectations and the scan agree, rule by rule, on rows with every kind of dirt; what it raises is never a finding about rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groupwise.run_folder import RunFolder
from groupwise.source.describe import extract
from groupwise.source.relation import Relation
from groupwise.study.study import Study
from groupwise.validation import expectation_record
from groupwise.validation.expectation_record import (
    Found,
    exception_message,
    main,
    record,
    record_in_child,
    run_great_expectations,
    sample_frame,
    scan_sample,
)
from groupwise.validation.scan_sql import check_expressible
from groupwise.validation.suite import Rule, fitting_rules, read_rules
from groupwise.validation.validate import validate
from multilevel.errors import RecordError

pytestmark = pytest.mark.filterwarnings("ignore")

type MakeStudy = Callable[..., Study]
type Describe = Callable[..., Relation]
type Change = Callable[[str], None]

DIRTY = """
create table memory.main.sampled as
select
    i as id,
    case when h % 11 = 0 then null when h % 13 = 0 then (i - 1) else i end as key,
    case when h % 7 = 0 then null else (h % 40 / 10 - 1)::decimal(10, 2) end as amount,
    case when h % 7 = 0 then null when h % 17 = 0 then 'nan'::double when h % 19 = 0 then 'inf'::double
        when h % 23 = 0 then '-inf'::double else (h % 50) / 10 end as share,
    (case when h % 9 = 0 then null else (h % 30) / 10 end)::float as single,
    case when h % 5 = 0 then null else h % 12 end as quantity,
    (h % 6)::bigint as whole,
    case when h % 11 = 0 then null else 9007199254740992 + i end as wide,
    case when h % 11 = 0 then null else (9007199254740992 + i)::hugeint end as huge,
    (case when h % 8 = 0 then null else h % 3 = 0 end) as is_fuel,
    h % 2 = 0 as is_new,
    case when h % 10 = 0 then null
        else ['A', 'A', 'B', 'c', '', 'GROC / X', 'GROC / X' || chr(10), 'é', '٣', '3', ' '][1 + h % 11] end
        as name,
    (case when h % 6 = 0 then null else ['S', 'M', 'L'][1 + h % 3] end)::enum ('S', 'M', 'L') as size,
    case when h % 12 = 0 then null else timestamp '2024-01-01' + interval (h % 96 - 48) hour end as ts,
    case when h % 12 = 0 then null else date '2024-01-01' + (h % 5 - 2) end as day,
    case when h % 14 = 0 then null else timestamptz '2024-01-01 00:00:00+00' + interval (h % 96 - 48) hour end as zoned
from (select i::int as i, (hash(i) % 1000003)::int as h from range(3000) as r(i))
"""

FULL = {"not_null": "not_be_null", "between": "be_between", "in_set": "be_in_set", "regex": "match_regex", "unique": "be_unique"}


def entry(rule_id: str, **kwargs: Any) -> dict[str, Any]:
    kind = rule_id.split(".", maxsplit=1)[0]
    full = "expect_compound_columns_to_be_unique" if kind == "compound" else f"expect_column_values_to_{FULL[kind]}"
    if "row_condition" in kwargs:
        kwargs["condition_parser"] = "pandas"
    return {"type": full, "kwargs": kwargs, "severity": "warning", "meta": {"rule_id": rule_id, "why": "parity"}}


SUITE = [
    *(entry(f"not_null.{name}", column=name) for name in ("id", "amount", "share", "single", "quantity", "is_fuel", "name", "size", "ts")),
    entry("not_null.zoned", column="zoned"),
    entry("not_null.mostly", column="name", mostly=0.89),
    entry("not_null.mostly_not", column="name", mostly=0.91),
    entry("between.decimal", column="amount", min_value=0, max_value=2.1),
    entry("between.decimal_strict", column="amount", min_value=0, max_value=2.1, strict_min=True, strict_max=True),
    entry("between.double", column="share", min_value=0.1, max_value=4.9),
    entry("between.double_strict", column="share", min_value=0.1, max_value=4.9, strict_min=True, strict_max=True),
    entry("between.above", column="share", min_value=0),
    entry("between.below", column="share", max_value=3),
    entry("between.float", column="single", min_value=0.1, max_value=2.7),
    entry("between.nullable_integer", column="quantity", min_value=1, max_value=10, mostly=0.5),
    entry("between.integer", column="whole", min_value=0.5, max_value=4),
    entry("between.timestamp", column="ts", min_value="2023-12-31T12:00:00", max_value="2024-01-02"),
    entry("between.timestamp_strict", column="ts", min_value="2024-01-01", strict_min=True),
    entry("between.date", column="day", min_value="2024-01-01", max_value="2024-01-02"),
    entry("between.date_strict", column="day", min_value="2023-12-31", max_value="2024-01-02", strict_max=True, strict_min=True),
    entry("between.zoned", column="zoned", min_value="2024-01-01"),
    entry("between.condition", column="quantity", min_value=3, row_condition="is_new == True"),
    entry("between.condition_null", column="quantity", min_value=3, row_condition="is_fuel == False"),
    entry("between.condition_text", column="amount", min_value=0, row_condition='name == "A" or name == "é"'),
    entry("between.condition_number", column="amount", min_value=0, row_condition="share > 0.1 and quantity <= 7"),
    entry("between.condition_decimal", column="share", min_value=0, row_condition="amount >= 0.1"),
    entry("between.condition_never", column="amount", min_value=0, row_condition="whole > 100"),
    entry("not_null.condition", column="name", row_condition="whole >= 2"),
    entry("in_set.text", column="name", value_set=["A", "B", "", "é"]),
    entry("in_set.enum", column="size", value_set=["S", "L"]),
    entry("in_set.integer", column="quantity", value_set=[1, 2, 3]),
    entry("in_set.decimal", column="amount", value_set=[0, 0.1, 1.5, 2]),
    entry("in_set.boolean", column="is_fuel", value_set=[True]),
    entry("regex.end", column="name", regex="^.+ / .+$"),
    entry("regex.digit", column="name", regex=r"^\d$"),
    entry("regex.word", column="name", regex=r"^\w*$"),
    entry("regex.enum", column="size", regex="^[SM]$"),
    entry("unique.key", column="key"),
    entry("unique.text", column="name"),
    entry("unique.wide", column="wide"),
    entry("unique.huge", column="huge"),
    entry("in_set.wide", column="wide", value_set=[9007199254740993, 9007199254740995]),
    entry("between.wide", column="wide", min_value=9007199254741000, row_condition="wide <= 9007199254742001"),
    entry("unique.condition", column="key", row_condition="is_new == True"),
    entry("unique.double", column="share"),
    entry("compound.two", column_list=["key", "whole"]),
    entry("compound.nulls", column_list=["name", "is_fuel"]),
    entry("compound.three", column_list=["name", "quantity", "whole"], row_condition="is_new == True"),
]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Found], dict[str, Found]]]:
    """Great Expectations' answers and the scan's, from one run of each over the dirty rows."""
    folder = tmp_path_factory.mktemp("parity")
    (folder / "expectations").mkdir()
    (folder / "expectations" / "dirty.json").write_text(json.dumps({"expectations": SUITE}))
    with duckdb.connect() as connection, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(DIRTY)
        types = {row[0]: row[1] for row in connection.sql("describe memory.main.sampled").fetchall()}
        rules = fitting_rules(read_rules("dirty"), types)
        check_expressible(rules, types)
        scanned = scan_sample(connection, "small", rules, types)
        yield run_great_expectations("dirty", rules, types, sample_frame(connection, types)), scanned


@pytest.mark.parametrize("rule_id", [rule["meta"]["rule_id"] for rule in SUITE])
def test_both_executors_count_the_same(both: tuple[dict[str, Found], dict[str, Found]], rule_id: str) -> None:
    from_great_expectations, from_scan = both
    assert from_great_expectations[rule_id] == from_scan[rule_id]


def test_the_dirt_breaks_nearly_every_rule(both: tuple[dict[str, Found], dict[str, Found]]) -> None:
    """Parity of zeros would prove nothing."""
    unbroken = {name for name, found in both[1].items() if found.unexpected == 0}
    assert unbroken == {"not_null.id", "between.condition_never", "unique.wide", "unique.huge"}


def test_success_is_decided_by_mostly(both: tuple[dict[str, Found], dict[str, Found]]) -> None:
    assert both[0]["not_null.mostly"].success
    assert not both[0]["not_null.mostly_not"].success


TYPES = {"n": "INTEGER", "tags": "VARCHAR[]"}


def rule(kind: str, **kwargs: Any) -> Rule:
    return Rule("r", kind, kwargs, "critical", "because")


def test_an_exception_inside_great_expectations_is_an_error_of_its_own() -> None:
    """Text cannot be compared with a number, which raises inside; the rows are not at fault."""
    between = rule("expect_column_values_to_be_between", column="n", min_value=0)
    with pytest.raises(RecordError, match=r"Great Expectations could not evaluate r: .+"):
        run_great_expectations("mine", [between], TYPES, pd.DataFrame({"n": ["a", "b"]}))


def test_an_expectation_that_it_does_not_take_is_an_error_of_its_own() -> None:
    with pytest.raises(RecordError, match="Great Expectations failed"):
        run_great_expectations("mine", [rule("expect_column_values_to_not_be_null", column=3)], TYPES, pd.DataFrame({"n": [1]}))


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (None, None),
        ({}, None),
        ({"raised_exception": False, "exception_message": None}, None),
        ({"raised_exception": True, "exception_message": "flat"}, "flat"),
        ({"('metric', 'id')": {"raised_exception": True, "exception_message": "nested"}}, "nested"),
        ({"a": {"raised_exception": False}, "b": {"raised_exception": True, "exception_message": "second"}}, "second"),
        ({"raised_exception": True, "exception_message": None}, "an exception without a message"),
    ],
)
def test_an_exception_is_found_flat_and_nested(info: dict[str, Any] | None, message: str | None) -> None:
    assert exception_message(info) == message


@pytest.fixture
def finished(study: MakeStudy, described: Describe, change: Change, shop: Path) -> RunFolder:
    """A run folder after extract and validate, two of 400 rows quarantined."""
    change("update lines set amount = -1 where id in (5, 9)")
    Path("expectations").mkdir()
    rules = [
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "amount", "min_value": 0, "mostly": 0.9},
            "rule_id": "amount_ok",
        },
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}, "rule_id": "id_unique"},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "category"}, "rule_id": "category_present"},
    ]
    entries = [{**one, "severity": "critical", "meta": {"rule_id": one.pop("rule_id"), "why": "because"}} for one in rules]
    Path("expectations/mine.json").write_text(json.dumps({"expectations": entries}))
    run = RunFolder(shop / "run")
    run.write_study(study(expectations="mine", quarantine_limit=0.05), "small.yaml")
    validate(run.study(), described(expectations="mine"), run.path)
    return run


def test_the_sample_holds_every_quarantined_row_and_as_many_others_as_asked(finished: RunFolder) -> None:
    content = record(finished, sample_rows=50)
    assert content["rows"] == 52
    assert content["results"]["amount_ok"] == {"checked": 52, "unexpected": 2, "success": True}
    assert json.loads((finished.path / "expectation_record.json").read_text()) == content
    assert "The same rules by Great Expectations" in (finished.path / "validation.html").read_text()


def test_a_sample_larger_than_the_source_is_the_source(finished: RunFolder) -> None:
    assert record(finished, sample_rows=100_000)["rows"] == 400


def test_executors_that_disagree_stop_the_run(finished: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*_: object) -> dict[str, Found]:
        return {name: Found(52, 0, True) for name in ("amount_ok", "id_unique", "category_present")}

    monkeypatch.setattr(expectation_record, "run_great_expectations", other)
    with pytest.raises(RecordError, match=r"expectations: mine: rule amount_ok does not mean the same to its two executors"):
        record(finished, sample_rows=50)
    assert not (finished.path / "expectation_record.json").exists()


def miscounted(run: RunFolder, rule_id: str, **counts: int) -> None:
    """The run's scan as it would be had its predicates been answered from a file's statistics."""
    content = run.read_json("validation")
    for entry in content["rules"]:
        entry.update(counts if entry["rule_id"] == rule_id else {})
    run.write_json("validation", content)


@pytest.mark.parametrize(("sample_rows", "rule_id"), [(50, "amount_ok"), (100_000, "amount_ok"), (50, "id_unique")])
def test_a_run_whose_scan_counted_otherwise_is_stopped(finished: RunFolder, sample_rows: int, rule_id: str) -> None:
    """Every row that broke a rule is in the sample, so that the counts of all rows can be compared."""
    miscounted(finished, rule_id, unexpected=7)
    with pytest.raises(RecordError, match=rf"rule {rule_id}: the scan of this run counted 7 line items"):
        record(finished, sample_rows=sample_rows)
    assert not (finished.path / "expectation_record.json").exists()


def test_rows_looked_at_are_compared_where_the_sample_is_everything(finished: RunFolder) -> None:
    miscounted(finished, "amount_ok", checked=399)
    with pytest.raises(RecordError, match=r"\(399 checked\), Great Expectations 2 \(400 checked\)"):
        record(finished)


def test_a_scan_answered_from_statistics_disagrees_on_a_sample_of_an_info_rule(
    study: MakeStudy, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the words that keep DuckDB from trusting pyarrow's minimum and maximum, the scan misses the NaN of rows that stay."""
    monkeypatch.setattr("groupwise.source.shards.shard_select.CAN_HAVE_NAN", "can_have_nan = false")
    share = pa.array([float("nan") if i % 8 == 0 else i / 100 for i in range(80)])
    pq.write_table(pa.table({"amount": [float(i) for i in range(80)], "category": ["a", "b"] * 40, "share": share}), "nan.parquet")
    Path("expectations").mkdir()
    present = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "share"}, "severity": "info"}
    Path("expectations/mine.json").write_text(json.dumps({"expectations": [{**present, "meta": {"rule_id": "there", "why": "because"}}]}))
    run = RunFolder(shop / "run")
    mine = study(expectations="mine", source={"parquet": "nan.parquet"}, formula="amount ~ 1 + (1 | category)")
    run.write_study(mine, "small.yaml")
    validate(mine, extract(mine, None, run.path, today=date(2026, 1, 1)), run.path)
    with pytest.raises(RecordError, match="rule there"):
        record(run, sample_rows=60)


def test_a_study_without_a_suite_has_no_record(study: MakeStudy, described: Describe, shop: Path) -> None:
    run = RunFolder(shop / "run")
    run.write_study(study(), "small.yaml")
    described()
    assert record(run) == {}


def test_a_suite_without_rules_has_no_record(finished: RunFolder) -> None:
    Path("expectations/mine.json").write_text('{"expectations": []}')
    assert record(finished) == {}


def test_a_failing_child_tells_its_reason(finished: RunFolder, change: Change) -> None:
    change("insert into lines select * from lines limit 1")
    with pytest.raises(RecordError, match="was written to after this run had begun to read it") as caught:
        record_in_child(finished.path, 60.0)
    assert "\n" not in str(caught.value)


def test_what_a_disk_refuses_ends_with_one_line_that_names_the_file(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(shop / "run")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"the record cannot be made: {shop}/run/study.json: No such file or directory; ")


def test_an_unforeseen_failure_ends_with_one_line_after_its_traceback(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunFolder, "study", lambda self: {}["unforeseen"])
    assert main([str(shop / "run")]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.strip().splitlines()[-1] == "the record failed: KeyError: 'unforeseen'"
