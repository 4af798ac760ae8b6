"""Parquet files that are not alike: read as one table by column name where nothing is lost, or refused with both files and both types."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groupwise.source.describe import extract
from groupwise.source.relation import Relation, connect
from groupwise.study.study import Study
from groupwise.validation.validate import validate
from multilevel.errors import DataError, SourceError

type Describe = Callable[..., Relation]


@pytest.fixture
def describe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Describe:
    """``extract`` of a study over ``*.parquet`` in the working directory, fields overridden."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()

    def run(**fields: Any) -> Relation:
        plain = {"name": "s", "formula": "y ~ 1 + (1 | g)", "source": {"parquet": "*.parquet"}, "engine": "likelihood"}
        return extract(Study.model_validate(plain | fields), None, tmp_path / "run", today=date(2026, 1, 1))

    return run


def write(file: str, **columns: object) -> None:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)


def fetched(relation: Relation, picks: str) -> list[tuple[Any, ...]]:
    with connect(relation) as connection:
        return connection.sql(f"select {picks} from ({relation.sql})").fetchall()


def test_whole_numbers_beside_fractions_keep_the_fractions(describe: Describe) -> None:
    """The mean of 10, 11, 12 and the same plus 0.4: 11.175, and not the 10.975 of fractions cut off."""
    duckdb.sql("copy (select (10 + i % 3)::bigint as y, 'g' || (i % 4) as g from range(40) as r(i)) to 'a.parquet'")
    duckdb.sql("copy (select (10 + i % 3 + 0.4)::double as y, 'g' || (i % 4) as g from range(40) as r(i)) to 'b.parquet'")
    found = describe()
    assert fetched(found, "round(avg(y), 9)") == [(11.175,)]
    assert "y is read as DOUBLE: it is BIGINT in " in found.notes[0]


@pytest.mark.parametrize(
    ("first", "second", "kind", "values"),
    [
        (pa.array([1], pa.int32()), pa.array([2**40], pa.int64()), "BIGINT", [1, 2**40]),
        (pa.array([0.1], pa.float32()), pa.array([0.1], pa.float64()), "DOUBLE", [0.10000000149011612, 0.1]),
        (pa.array([Decimal("1.5")]), pa.array([Decimal("2.25")]), "DECIMAL(3,2)", [Decimal("1.50"), Decimal("2.25")]),
        (pa.array([None, None], pa.null()), pa.array([2.5]), "DOUBLE", [None, None, 2.5]),
        (pa.array([None], pa.int32()), pa.array([2.5]), "DOUBLE", [None, 2.5]),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_numbers_are_widened_whichever_file_comes_first(
    describe: Describe, first: pa.Array, second: pa.Array, kind: str, values: list[object], turned: bool
) -> None:
    names = ("b.parquet", "a.parquet") if turned else ("a.parquet", "b.parquet")
    for file, array in zip(names, (first, second), strict=True):
        write(file, y=array, g=["x"] * len(array))
    found = describe()
    assert found.columns["y"] == kind
    key = lambda row: (row[0] is None, row[0])  # noqa: E731
    assert sorted(fetched(found, "y"), key=key) == sorted([(value,) for value in values], key=key)


def test_days_beside_timestamps_are_midnights_and_the_window_takes_both(describe: Describe) -> None:
    write("a.parquet", y=[1.0, 2.0], g=["x", "y"], day=[date(2024, 1, 1), date(2024, 1, 9)])
    write("b.parquet", y=[3.0, 4.0], g=["x", "y"], day=[datetime(2024, 1, 9, 12), datetime(2024, 1, 2)])
    found = describe(window={"column": "day", "days": 2})
    assert found.columns["day"] == "TIMESTAMP"
    assert sorted(fetched(found, "y")) == [(2.0,), (3.0,)]


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        (pa.array([1.5]), pa.array(["1.5"]), ("DOUBLE", "VARCHAR")),
        (pa.array([True]), pa.array([1]), ("BOOLEAN", "BIGINT")),
        (pa.array([2**53 + 1]), pa.array([0.5]), ("BIGINT", "DOUBLE")),
        (pa.array([datetime(2024, 1, 1)]), pa.array(["2024-01-01"]), ("TIMESTAMP", "VARCHAR")),
        (pa.array([datetime(2024, 1, 1)], pa.timestamp("us", "UTC")), pa.array([datetime(2024, 1, 1)]), ("TIME ZONE", "TIMESTAMP")),
    ],
)
def test_types_that_do_not_meet_are_refused_with_both_files(
    describe: Describe, first: pa.Array, second: pa.Array, named: tuple[str, str]
) -> None:
    write("a.parquet", x=first, y=[1.0], g=["x"])
    write("b.parquet", x=second, y=[1.0], g=["x"])
    with pytest.raises(SourceError) as refused:
        describe(formula="y ~ x + (1 | g)")
    assert all(part in str(refused.value) for part in ("a.parquet", "b.parquet", *named, "types: {x: DOUBLE}"))


@pytest.mark.parametrize(("first", "second"), [(pa.array([1]), pa.array([1.0])), (pa.array([1]), pa.array(["1"]))])
def test_a_grouping_column_keeps_one_spelling_or_is_refused(describe: Describe, first: pa.Array, second: pa.Array) -> None:
    write("a.parquet", y=[1.0], g=first)
    write("b.parquet", y=[1.0], g=second)
    with pytest.raises(SourceError, match=r"the files do not agree on g: .*a\.parquet.*b\.parquet; it names levels"):
        describe()
    assert fetched(describe(types={"g": "BIGINT"}), "distinct cast(g as varchar)") == [("1",)]


def test_a_column_that_the_study_does_not_use_stops_nothing(describe: Describe) -> None:
    write("a.parquet", y=[1.0], g=["x"], note=[1])
    write("b.parquet", y=[2.0], g=["x"], note=["n"], extra=[3])
    found = describe()
    assert "note" not in found.columns
    assert found.rows == 2
    assert found.notes == (f"note is left out: it is BIGINT in {Path('a.parquet').absolute()} and VARCHAR in "
                           f"{Path('b.parquet').absolute()}, and the study does not use it.",)  # fmt: skip


def test_a_column_that_a_file_lacks_is_null_there_and_said_to_be(describe: Describe) -> None:
    write("a.parquet", y=[1.0], g=["x"])
    write("b.parquet", Y=[2.0], x=[3.0], g=["x"])
    found = describe(formula="y ~ x + (1 | g)")
    assert sorted(fetched(found, "y, x")) == [(1.0, None), (2.0, 3.0)]
    assert found.notes == (f"x is null in the rows of {Path('a.parquet').absolute()}: 1 of 2 files have no such column.",)
    assert Relation.from_json(found.to_json()) == found


def test_the_order_of_columns_does_not_matter(describe: Describe) -> None:
    write("a.parquet", y=[1.0], g=["x"])
    write("b.parquet", g=["z"], y=[2.0])
    found = describe()
    assert sorted(fetched(found, "y, g")) == [(1.0, "x"), (2.0, "z")]
    assert found.notes == ()


def lake(own: Callable[[int], dict[str, object]]) -> None:
    for i in range(30):
        write(f"lake/dt=2024-01-{i + 1:02}/part.parquet", y=[float(i)], g=["x"], **own(i))


def scanned(relation: Relation) -> str:
    with connect(relation) as connection:
        return "".join(str(row[1]) for row in connection.sql(f"explain analyze select sum(y) from ({relation.sql})").fetchall())


@pytest.mark.parametrize(
    "own",
    [lambda _: {}, lambda i: {"dt": [date(2024, 1, i + 1)]}, lambda i: {"x": pa.array([i], pa.int64() if i % 2 else pa.float64())}],
)
def test_a_window_reads_the_folders_of_its_days_only(describe: Describe, own: Callable[[int], dict[str, object]]) -> None:
    """The second lake repeats the folder's day in the files; the third has files of two types."""
    lake(own)
    found = describe(source={"parquet": "lake/*/*.parquet", "hive": True}, window={"column": "dt", "days": 8})
    assert (found.columns["dt"], found.rows) == ("DATE", 8)
    read = scanned(found)
    assert "Scanning Files: 8/30" in read or read.count("Scanning Files: 4/15") == 2


def test_a_folder_never_replaces_a_files_own_column(describe: Describe) -> None:
    for i, folder in enumerate(("N", "S")):
        write(f"lake/g={folder}/part.parquet", y=[1.0, 2.0], g=[f"own{i}", "other"])
    found = describe(source={"parquet": "lake/*/*.parquet"})
    assert sorted(fetched(found, "distinct g")) == [("other",), ("own0",), ("own1",)]
    assert found.notes == ()
    found = describe(source={"parquet": "lake/*/*.parquet", "hive": True})
    assert sorted(fetched(found, "distinct g")) == [("other",), ("own0",), ("own1",)]
    assert found.notes == (
        f"g is taken from the files, not from the folders' names: {Path('lake/g=N/part.parquet').absolute()} has other values.",
    )


def test_a_folder_that_differs_beside_one_that_is_needed_is_refused(describe: Describe) -> None:
    for folder in ("N", "S"):
        write(f"lake/year=2024/g={folder}/part.parquet", y=[1.0], g=["own"])
    with pytest.raises(SourceError, match=r"name g, which the file has as a column with other values, and year"):
        describe(source={"parquet": "lake/*/*/*.parquet", "hive": True}, where="year = 2024")


def test_a_column_of_the_folders_alone_is_read_where_the_study_says_so(describe: Describe) -> None:
    for folder in ("N", "S"):
        write(f"lake/g={folder}/part.parquet", y=[1.0])
    with pytest.raises(SourceError, match=r"no column g, only their folders' names do \(g=\.\.\.\); .*write source: .*hive: true"):
        describe(source={"parquet": "lake/*/*.parquet"})
    assert sorted(fetched(describe(source={"parquet": "lake/*/*.parquet", "hive": True}), "g")) == [("N",), ("S",)]
    write("lake/loose.parquet", y=[1.0])
    with pytest.raises(SourceError, match=r"hive: true, but the files are not all in folders of the same .*loose.parquet has no such"):
        describe(source={"parquet": "lake/**/*.parquet", "hive": True})


def test_text_is_cast_as_the_study_says(describe: Describe) -> None:
    write("a.parquet", y=["1.5", "2.5", None], g=["x", "y", "x"], day=["2024-01-01", "2024-01-02", "2024-01-02"])
    found = describe(types={"y": "double", "day": "date"}, window={"column": "day", "days": 1})
    assert (found.columns["y"], found.columns["day"]) == ("DOUBLE", "DATE")
    assert sorted(fetched(found, "y"), key=str) == [(2.5,), (None,)]


@pytest.mark.parametrize(
    ("values", "kind", "counted"),
    [
        (["1.5", "1,5", "n/a"], "DOUBLE", "2 values are no DOUBLE"),
        (["1", "1.7", "2.0"], "BIGINT", "1 values are no BIGINT"),
        (["0.25", "0.255"], "DECIMAL(4,2)", "1 values are no DECIMAL(4,2)"),
        (["2024-01-01", "2024-01-01 10:00:00"], "DATE", "1 values are no DATE"),
        ([1.0, 1.5], "INTEGER", "1 values are no INTEGER"),
        ([2**53 + 1, 4], "DOUBLE", "1 values are no DOUBLE"),
        ([datetime(2024, 1, 1), datetime(2024, 1, 1, 5)], "DATE", "1 values are no DATE"),
    ],
)
def test_a_cast_that_would_change_a_value_is_refused(describe: Describe, values: list[object], kind: str, counted: str) -> None:
    write("a.parquet", v=values, y=[1.0] * len(values), g=["x"] * len(values))
    with pytest.raises(DataError) as refused:
        describe(types={"v": kind})
    assert f"s: types: v: {counted}" in str(refused.value)


def test_hundreds_of_files_are_described_from_their_footers(describe: Describe) -> None:
    for i in range(300):
        write(f"lake/{i}.parquet", y=pa.array([1], pa.int64()) if i % 2 else pa.array([1.5]), g=["x"])
    found = describe(source={"parquet": "lake/*.parquet"})
    assert fetched(found, "sum(y)") == [(375.0,)]


def test_zeros_of_both_signs_are_one_level_and_nan_is_a_missing_one(describe: Describe) -> None:
    values = [-0.0, 0.0, 1.5, float("nan")] * 3
    write("a.parquet", y=[float(i) for i in range(12)], g=values)
    study = {"missing": {"g": "level"}}
    found = describe(**study)
    plain = {"name": "s", "formula": "y ~ 1 + (1 | g)", "source": {"parquet": "*.parquet"}, "engine": "likelihood"}
    rows = validate(Study.model_validate(plain | study), found, Path("run")).study_sql
    with connect(found) as connection:
        levels = connection.sql(f"select g, count(*) from ({rows}) group by g order by g").fetchall()
    assert levels == [("(missing)", 3), ("0.0", 6), ("1.5", 3)]
