"""Files and folders whose own names hold ``*``, ``?`` or ``[``: each file is read once, and no other in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from groupwise.compression.compress import compress
from groupwise.source.describe import extract
from groupwise.source.relation import Relation, connect
from groupwise.study.study import Study
from groupwise.validation.validate import validate

type Describe = Callable[..., Relation]

LINES = "select (1 + i % 7 + {shift})::{kind} as amount, 2.0 as price, 'C' || i % 4 as category from range(40) as t(i)"


def write_lines(path: Path, shift: int, kind: str = "double") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    name = str(path).replace("'", "''")
    duckdb.sql(f"copy ({LINES.format(shift=shift, kind=kind)}) to '{name}' (format parquet)")


@pytest.mark.parametrize("kind", ["double", "integer"])
def test_each_file_is_read_once(described: Describe, shop: Path, kind: str) -> None:
    names = ["a1.parquet", "a[1].parquet", "b?.parquet", "bx.parquet", "c*.parquet", "[d].parquet"]
    for shift, name in enumerate(names):
        write_lines(shop / "lines" / name, 100 * shift, kind if shift % 2 else "double")
    found = described(source={"parquet": "lines/*.parquet"}, formula="amount ~ 1 + (1 | category)")
    with connect(found) as connection:
        rows = connection.execute(f"select floor(amount / 100)::integer, count(*) from ({found.sql}) group by all order by all").fetchall()
    assert rows == [(shift, 40) for shift in range(len(names))]


@pytest.mark.parametrize("name", ["a[1].parquet", "b?.parquet", "c*.parquet", "**.parquet"])
def test_a_file_that_is_named_is_not_taken_for_a_pattern(described: Describe, shop: Path, name: str) -> None:
    for other in ("a1.parquet", "bx.parquet", "cz.parquet"):
        write_lines(shop / other, 500)
    write_lines(shop / name, 0)
    found = described(source={"parquet": name}, formula="amount ~ 1 + (1 | category)")
    with connect(found) as connection:
        assert connection.execute(f"select count(*), max(amount) < 100 from ({found.sql})").fetchall() == [(40, True)]


def test_a_study_runs_in_a_folder_with_brackets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: Callable[..., Study]) -> None:
    from datetime import date

    home = tmp_path / "copy [1]" / "w?"
    write_lines(home / "t.parquet", 0)
    write_lines(tmp_path / "copy 1" / "wx" / "t.parquet", 500)
    monkeypatch.chdir(home)
    asked = study(source={"parquet": "t.parquet"}, formula="amount ~ 1 + (1 | category)")
    run = home / "run"
    run.mkdir()
    found = extract(asked, None, run, today=date(2026, 1, 1))
    rows = validate(asked, found, run).study_sql
    made = compress(found, rows, asked.parsed_formula, asked.family, run)
    assert (made.n_rows, made.n_cells) == (40, 4)


def test_folders_of_different_keys_are_no_columns(described: Describe, shop: Path) -> None:
    write_lines(shop / "lake" / "price=2" / "a.parquet", 0)
    write_lines(shop / "lake" / "other=1" / "a.parquet", 100, "integer")
    found = described(source={"parquet": "lake/*/*.parquet"}, formula="amount ~ 1 + (1 | category)")
    assert found.rows == 80
    assert set(found.columns) == {"amount", "price", "category"}
