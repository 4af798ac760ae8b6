"""A small shop with real dirt in it, and studies over it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import pytest

from groupwise.source.describe import extract
from groupwise.source.relation import Relation
from groupwise.study.study import Study

TODAY = date(2026, 1, 1)
LINES = "select id, day, category, region, amount, n, k, is_sold, price from lines"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory with ``shop.duckdb``: 400 clean lines of 40 days, two regions and four categories, and ``lines.sql``."""
    monkeypatch.chdir(tmp_path)
    with duckdb.connect("shop.duckdb") as connection:
        connection.execute(
            """
            create table lines as
            select
                i as id,
                timestamp '2024-01-01' + interval (i % 40) day + interval (i) minute as day,
                'C' || (i % 4) as category,
                'R' || (i % 2) as region,
                (1 + i % 7)::double as amount,
                5 as n,
                i % 6 as k,
                i % 3 = 0 as is_sold,
                (1 + i % 5)::decimal(10, 2) as price
            from range(400) as r(i)
            """
        )
    Path("lines.sql").write_text(LINES)
    (tmp_path / "run").mkdir()
    return tmp_path


def write(statement: str) -> None:
    with duckdb.connect("shop.duckdb") as connection:
        connection.execute(statement)


@pytest.fixture
def change(shop: Path) -> Callable[[str], None]:
    """Run a statement on the shop's database."""
    return write


def make_study(**fields: object) -> Study:
    plain: dict[str, object] = {
        "name": "small",
        "formula": "amount ~ 1 + price + (1 | category)",
        "source": {"database": "shop.duckdb", "line_items": "lines.sql"},
    }
    return Study.model_validate(plain | fields)


@pytest.fixture
def study() -> Callable[..., Study]:
    """A study over the shop, fields overridden."""
    return make_study


@pytest.fixture
def described(shop: Path) -> Callable[..., Relation]:
    """``extract`` on the shop, with the study's fields overridden."""

    def run(*, as_of: date | None = None, **fields: object) -> Relation:
        return extract(make_study(**fields), as_of, shop / "run", today=TODAY)

    return run
