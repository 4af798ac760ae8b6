"""The window's column is not read of files that are inside the window, and every line item of the window is still there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from groupwise.source.describe import extract
from groupwise.source.relation import Relation, connect
from groupwise.source.shards.inside_window import without_condition
from groupwise.source.time_limit import close
from groupwise.study.study import Study

AS_OF = date(2025, 4, 1)


def study_of(**fields: Any) -> Study:
    plain: dict[str, Any] = {
        "name": "months",
        "formula": "amount ~ 1 + (1 | shop)",
        "source": {"parquet": "lake/*.parquet"},
        "window": {"column": "ts", "days": 60},
        "engine": "likelihood",
    }
    return Study.model_validate(plain | fields)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """January to March of 2025; the window begins in January's last days."""
    monkeypatch.chdir(tmp_path)
    Path("lake").mkdir()
    with duckdb.connect() as connection:
        for month in (1, 2, 3):
            connection.execute(
                f"copy (select timestamp '2025-0{month}-01' + interval (i * 9) hour as ts, 's' || (i % 3) as shop, i + 0.5 as amount "
                f"from range(74) as r(i)) to 'lake/{month}.parquet' (format parquet)"
            )
        yield Path("lake")


def rewrite(file: Path, query: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"copy ({query.format(file=file)}) to 'new.parquet' (format parquet)")
    Path("new.parquet").replace(file)


def looked_at(study: Study) -> tuple[Relation, Relation, bool]:
    """The relation, the one without condition, and whether both give the same line items."""
    relation = extract(study, AS_OF, Path(), today=AS_OF)
    connection = connect(relation)
    try:
        found = without_condition(connection, study, relation)
        queries = [f"select shop, amount, ts from ({one.sql})" for one in (relation, found)]
        differ = f"({queries[0]} except all {queries[1]}) union all ({queries[1]} except all {queries[0]})"
        return relation, found, connection.execute(differ).fetchall() == []
    finally:
        close(connection)


def test_only_files_that_the_window_cuts_are_asked(lake: Path) -> None:
    _, found, is_same = looked_at(study_of())
    inside, others = found.line_items.split("union all")
    assert is_same and found.window_column is None
    assert "2.parquet" in inside and "3.parquet" in inside and "ts" not in inside
    assert "1.parquet" in others and "ts" in others


@pytest.mark.parametrize(
    ("file", "query"),
    [
        ("2.parquet", "select * replace (case when amount > 3 then ts end as ts) from '{file}'"),
        ("2.parquet", "select * replace (case when amount > 70 then timestamp '2025-05-05' else ts end as ts) from '{file}'"),
        ("3.parquet", "select * from '{file}' where false"),
        # a date, a time with a zone: what no two files have in common is read as it always was
        ("1.parquet", "select * replace (ts::date as ts) from '{file}'"),
    ],
)
def test_line_items_without_a_day_or_of_other_days_are_left_out(lake: Path, file: str, query: str) -> None:
    rewrite(lake / file, query)
    _, _, is_same = looked_at(study_of())
    assert is_same


@pytest.mark.parametrize("kind", ["date", "timestamptz", "timestamp_ns"])
def test_the_windows_column_may_be_of_any_type_of_days(lake: Path, kind: str) -> None:
    for file in sorted(lake.glob("*.parquet")):
        rewrite(file, f"select * replace (ts::{kind} as ts) from '{{file}}'")
    study = study_of(timezone="America/New_York")
    _, found, is_same = looked_at(study)
    assert is_same
    assert found.window_column is None


@pytest.mark.parametrize(
    "fields",
    [
        {"window": None},
        {"types": {"ts": "TIMESTAMP"}},
        {"source": {"parquet": ["lake/*.parquet", "lake/2.parquet"]}},
        {"source": {"parquet": "lake/*.parquet", "line_items": "query.sql"}},
        {"window": {"column": "ts", "days": 10}},
    ],
)
def test_what_does_not_read_files_as_they_are_is_left_as_it_is(lake: Path, fields: dict[str, Any]) -> None:
    Path("query.sql").write_text("select * from source")
    relation, found, is_same = looked_at(study_of(**fields))
    assert is_same
    assert found == replace(relation)
