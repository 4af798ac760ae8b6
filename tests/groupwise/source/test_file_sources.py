"""CSV, JSON and Arrow files, and a query on files: read as what all of their values are, or refused with what to write."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from groupwise.source.describe import extract
from groupwise.source.relation import Relation, connect
from groupwise.study.study import Study
from multilevel.errors import DataError, GroupwiseError, SourceError

type Describe = Callable[..., Relation]
FORMATS = {"csv": "x.csv", "parquet": "x.parquet", "json": "x.json", "arrow": "x.arrow"}


@pytest.fixture
def describe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Describe:
    """``extract`` of a study of ``y`` by ``g`` over ``x.csv``, fields overridden; ``text`` is written into the file first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()

    def run(text: str | bytes | None = None, **fields: Any) -> Relation:
        if text is not None:
            Path("x.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        plain = {"name": "s", "formula": "y ~ 1 + (1 | g)", "source": "x.csv", "engine": "likelihood"}
        return extract(Study.model_validate(plain | fields), None, tmp_path / "run", today=date(2026, 1, 1))

    return run


def rows(relation: Relation, tmp_path: Path) -> list[tuple[Any, ...]]:
    with connect(relation, tmp_path / "run") as connection:
        return connection.sql(f"select g, y from ({relation.sql})").fetchall()


def csv(**options: object) -> dict[str, object]:
    return {"csv": "x.csv", "options": options}


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("g;y\na;1,5\nb;2\n", "x.csv", [("a", 1.5), ("b", 2.0)]),
        ("g;y\na;1.234,5\nb;2,25\n", "x.csv", [("a", 1234.5), ("b", 2.25)]),
        ('g,y\na,"1,234.5"\nb,2\n', "x.csv", [("a", 1234.5), ("b", 2.0)]),
        ("g;y\na;1,234\n", csv(decimal=","), [("a", 1.234)]),
        ('g,y\na,"1,234"\n', csv(decimal="."), [("a", 1234.0)]),
        ("g\ty\na\t1e3\n", "x.csv", [("a", 1000.0)]),
        ("g|y\na|-0.5\n", "x.csv", [("a", -0.5)]),
        ("g,y\n007,1\n7,2\n", "x.csv", [("007", 1), ("7", 2)]),
        ("g,y\nyes,1\nno,2\n", "x.csv", [("yes", 1), ("no", 2)]),
        ("g,y\n12345678901234567890,1\n12345678901234567891,2\n", "x.csv", [(12345678901234567890, 1), (12345678901234567891, 2)]),
        ("g,y\n1_000,1\n0x1A,2\n", "x.csv", [("1_000", 1), ("0x1A", 2)]),
        ("g,y\na,NA\nb,2\n", csv(nulls=["NA"]), [("a", None), ("b", 2)]),
        ('g,y\r\n"a, b",1\r\n"c ""d""",2\r\n', "x.csv", [("a, b", 1), ('c "d"', 2)]),
        ("\ufeffg,y\na,1\n", "x.csv", [("a", 1)]),
        (" g , y \na,1\n", "x.csv", [("a", 1)]),
        ("g,y\nMünchen/Nord,1\n".encode("latin-1"), csv(encoding="latin-1"), [("München/Nord", 1)]),
        ("g,y\nCafé – 5 €,1\n".encode("cp1252"), csv(encoding="windows-1252"), [("Café – 5 €", 1)]),
        ("g,y\né,1\n".encode("utf-16"), csv(encoding="utf-16"), [("é", 1)]),
    ],
)
def test_text_is_read_as_it_was_meant(
    describe: Describe, tmp_path: Path, text: str | bytes, source: object, expected: list[tuple[object, ...]]
) -> None:
    assert rows(describe(text, source=source), tmp_path) == expected


@pytest.mark.parametrize(
    ("days", "kind", "first"),
    [
        (("31/01/2024", "01/02/2024"), "DATE", "2024-01-31"),
        (("01/31/2024", "02/01/2024"), "DATE", "2024-01-31"),
        (("31.01.2024", "01.02.2024"), "DATE", "2024-01-31"),
        (("01.02.2024", "02.02.2024"), "DATE", "2024-02-01"),
        (("31/01/24", "01/02/24"), "DATE", "2024-01-31"),
        (("31/01/2024 10:30", "01/02/2024 9:05"), "TIMESTAMP", "2024-01-31 10:30:00"),
        (("2024-01-31", "2024-02-01"), "DATE", "2024-01-31"),
        (("2024-01-31", "2024-02-01 12:00"), "TIMESTAMP", "2024-01-31 00:00:00"),
        (("2024-01-31T10:00:00Z", "2024-02-01T10:00:00+02:00"), "TIMESTAMP WITH TIME ZONE", "2024-01-31 10:00:00+00"),
    ],
)
def test_days_are_read_in_the_one_form_that_all_of_them_have(describe: Describe, days: tuple[str, str], kind: str, first: str) -> None:
    found = describe(f"g,y,day\na,1,{days[0]}\nb,2,{days[1]}\n", window={"column": "day", "days": 400}, as_of="2024-06-01")
    with connect(found) as connection:
        assert connection.sql(f"select cast(min(day) as varchar) from ({found.sql})").fetchall() == [(first,)]
    assert (found.columns["day"], found.rows) == (kind, 2)


def test_days_that_could_be_two_are_refused_until_the_study_says_which(describe: Describe) -> None:
    text = "g,y,day\na,1,03/04/2024\nb,2,05/04/2024\n"
    with pytest.raises(SourceError, match=r"day or the month first, .* write options: \{date_format: \"%d/%m/%Y\"\}"):
        describe(text, window={"column": "day", "days": 30})
    found = describe(text, window={"column": "day", "days": 30}, source=csv(date_format="%d/%m/%Y"))
    assert found.as_of == date(2024, 4, 6)


def test_a_late_value_decides_as_much_as_an_early_one(describe: Describe) -> None:
    many = "g,y\n" + "7,1\n" * 6000
    assert describe(many + "7,1.5\n").columns == {"g": "BIGINT", "y": "DOUBLE"}
    assert describe(many + "x,1\n").columns == {"g": "VARCHAR", "y": "BIGINT"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("g;y\na;1,234\nb;2,456\n", r"decimal sign or stand between thousands; write options: \{decimal: "),
        ("g,y\n" + "a,1\n" * 9 + "a,NA\n", r"y has numbers, and 'NA' \(1 row\); if that means missing, write options: \{nulls: \[NA\]\}"),
        ("g,y\n1,2\n3,4,5\n", r"line 3 of .*x.csv has more values where the first line names 2 columns"),
        ('g,y\na,"2\n', r"line 2 of .*x.csv has a quotation mark that is not closed"),
        ("g,y\né,1\n".encode("latin-1"), r"is no utf-8 text; save it as UTF-8, or write options: \{encoding: \.\.\.\}"),
        ("g,y\né,1\n".encode("utf-16"), r"is no utf-8 text; .*utf-16"),
        ("g,y,y\na,1,2\n", r"has more than one column y; rename all but one"),
        ("", r"x.csv is empty: its first line must hold the names"),
    ],
)
def test_text_that_cannot_be_read_is_refused_with_what_to_write(describe: Describe, text: str | bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words) as refused:
        describe(text)
    assert "Error:" not in str(refused.value)


def test_several_files_are_one_table_whatever_their_columns_and_compression(describe: Describe, tmp_path: Path) -> None:
    Path("a.csv").write_text("g,y\na,1\n")
    Path("b.csv.gz").write_bytes(gzip.compress(b"y;extra;G\n2,5;x;b\n"))
    found = describe(source=["a.csv", "b.csv.gz"], formula="y ~ extra + (1 | g)")
    assert sorted(rows(found, tmp_path)) == [("a", 1.0), ("b", 2.5)]
    assert "extra is null in the rows of" in found.notes[0]


def test_numbers_as_text_keep_their_digits_where_the_study_casts_them(describe: Describe) -> None:
    assert describe("g,y\na,1.10\n", types={"y": "DECIMAL(9,2)"}).columns["y"] == "DECIMAL(9,2)"
    with pytest.raises(DataError, match="types: y: 1 values are no BIGINT"):
        describe("g,y\na,1.5\n", types={"y": "BIGINT"})


def table() -> pa.Table:
    return pa.table({"g": pa.array(["a", "b", "a"]), "y": [1.5, 2.5, 4.0], "k": [1, 2, None]})


def write(kind: str) -> str:
    file = FORMATS[kind]
    match kind:
        case "csv":
            Path(file).write_text("g,y,k\na,1.5,1\nb,2.5,2\na,4.0,\n")
        case "parquet":
            pq.write_table(table(), file)
        case "json":
            Path(file).write_text('{"g": "a", "y": 1.5, "k": 1}\n{"g": "b", "y": 2.5, "k": 2}\n{"g": "a", "y": 4.0}\n')
        case _:
            pyarrow.feather.write_feather(table(), file)
    return file


@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_gives_the_same_rows_types_and_checksum(describe: Describe, tmp_path: Path, kind: str) -> None:
    pq.write_table(table(), "reference.parquet")
    formula = "y ~ k + (1 | g)"
    reference = describe(source="reference.parquet", formula=formula)
    found = describe(source=write(kind), formula=formula)
    assert found.columns == {"g": "VARCHAR", "y": "DOUBLE", "k": "BIGINT"}
    assert (found.rows, found.checksum) == (3, reference.checksum)
    assert Relation.from_json((tmp_path / "run" / "relation.json").read_text()) == found


@pytest.mark.parametrize("kind", FORMATS)
def test_a_query_reads_the_files_as_source(describe: Describe, tmp_path: Path, kind: str) -> None:
    Path("q.sql").write_text("-- doubled\nwith twice as (select g, 2 * y as y from source where k is not null) select * from twice;")
    found = describe(source={kind: write(kind), "line_items": "q.sql"})
    assert sorted(rows(found, tmp_path)) == [("a", 3.0), ("b", 5.0)]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('/etc/passwd')",
        "select * from 'x.csv'",
        "select g, y from source, read_text('other.csv')",
        'select * from "other.csv"',
        "select * from information_schema.tables",
        "select * from duckdb_settings()",
        "select g, y from nothing",
        "select g, y from main.source",
        "copy source to 'made.csv'",
        "select g, random() as y from source",
    ],
)
def test_a_query_on_files_reads_nothing_else(describe: Describe, kind: str, query: str) -> None:
    Path("other.csv").write_text("g,y\na,1\n")
    Path("q.sql").write_text(query)
    with pytest.raises(GroupwiseError):
        describe(source={kind: write(kind), "line_items": "q.sql"})
    assert not Path("made.csv").exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_the_connection_of_a_file_source_reaches_nothing_else(describe: Describe, tmp_path: Path, kind: str) -> None:
    (tmp_path / "other.csv").write_text("a\n1\n")
    with connect(describe(source=write(kind)), tmp_path / "run") as connection:
        with pytest.raises(duckdb.Error, match="disabled"):
            connection.sql("select * from read_csv('other.csv')").fetchall()
        with pytest.raises(duckdb.Error):
            connection.execute("set enable_external_access = true")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_changes_during_the_run_is_noticed(describe: Describe, kind: str) -> None:
    found = describe(source=write(kind))
    connect(found).close()
    with Path(FORMATS[kind]).open("ab") as opened:
        opened.write(b"\n")
    with pytest.raises(SourceError, match="was written to after this run had begun to read it"):
        connect(found)


def test_nan_is_above_every_number_in_arrow_files_too(describe: Describe) -> None:
    """Arrow's own comparisons leave NaN out; DuckDB's do not."""
    pyarrow.feather.write_feather(pa.table({"g": ["a", "b", "c"], "y": [1.0, np.nan, 7.0]}), "x.arrow")
    with connect(describe(source="x.arrow")) as connection:
        view = '"arrow files of the source"'
        assert connection.sql(f"select g from {view} where y > 5").fetchall() == [("b",), ("c",)]
        assert connection.sql(f"select g from {view} where not y > 5").fetchall() == [("a",)]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("x.arrow", b"no arrow", r"source.arrow .*x.arrow is no Arrow IPC file"),
        ("x.json", b"[1, 2]", r"holds no objects with names"),
        ("x.json", b'{"g', r"source.json .*x.json cannot be read"),
    ],
)
def test_files_of_another_kind_are_refused(describe: Describe, file: str, content: bytes, words: str) -> None:
    Path(file).write_bytes(content)
    with pytest.raises(SourceError, match=words):
        describe(source=file)


def test_arrow_files_of_two_types_are_refused_with_both(describe: Describe) -> None:
    pyarrow.feather.write_feather(pa.table({"g": ["a"], "y": [1.0]}), "a.arrow")
    pyarrow.feather.write_feather(pa.table({"g": ["a"], "y": [1]}), "b.arrow")
    with pytest.raises(SourceError, match=r"do not agree on y: it is double in .*a.arrow and int64 in .*b.arrow"):
        describe(source=["a.arrow", "b.arrow"])


def test_a_database_of_one_table_needs_no_query(describe: Describe, tmp_path: Path) -> None:
    with duckdb.connect("x.duckdb") as connection:
        connection.execute("create table lines as select 'a' as g, 1.5::double as y")
    assert rows(describe(source="x.duckdb"), tmp_path) == [("a", 1.5)]
    with duckdb.connect("x.duckdb") as connection:
        connection.execute("create view other as select * from lines")
    with pytest.raises(SourceError, match=r"x.duckdb has 2 tables and views \(lines, other\); write line_items"):
        describe(source="x.duckdb")


def test_a_folder_or_an_address_is_refused_with_what_to_write(describe: Describe) -> None:
    Path("lake.csv").mkdir()
    with pytest.raises(SourceError, match=r"lake.csv is a folder; name its files"):
        describe(source="lake.csv")
    with pytest.raises(SourceError, match=r"files of this machine only"):
        describe(source="https://example.org/x.csv")
