"""Queries without an end are interrupted in DuckDB, in every step that reads the source, and told in one error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import pytest

from groupwise.commands.compare import show_comparison
from groupwise.commands.plan import show_plan
from groupwise.pipeline import steps
from groupwise.pipeline.run_start import begin
from groupwise.source.time_limit import close, time_limit, watched
from multilevel.errors import ResourceError

ENDLESS = {
    "a range": "select 'C' || i % 4 as category, sin(i) as amount, i as price from range(1000000000000) as r(i)",
    "a cross join": "select a.category, a.amount, b.price from lines a, lines b, lines c, lines d, lines e, lines f",
    "a recursion in a view": "select category, amount, price from without_end",
}
VIEW = """
create view without_end as
with recursive t(x) as (select 1 union all select x + 1 from t)
select x::double as amount, x as price, 'C' || x % 4 as category from t
"""
ENDS_SECONDS = 5.0
STUDY = """
name: small
formula: amount ~ 1 + price + (1 | category)
source: {database: shop.duckdb, line_items: endless.sql}
engine: likelihood
"""


@pytest.fixture
def endless(shop: Path, change: Callable[[str], None]) -> Callable[..., str]:
    """Write a study whose line items have no end; gives its file."""
    change(VIEW)

    def write(query: str, more: str = "") -> str:
        Path("endless.sql").write_text(query)
        Path("study.yaml").write_text(STUDY + more)
        return "study.yaml"

    return write


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_plan_of_line_items_without_an_end_stops_at_its_limit(endless: Callable[..., str], kind: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ResourceError, match=r"small: the queries on the source did not end within 0\.3 seconds.*--time-limit SECONDS"):
        show_plan(endless(ENDLESS[kind]), as_of=None, settings=[], seconds=0.3)
    assert time.monotonic() - begun < ENDS_SECONDS


def test_a_comparison_stops_at_its_limit(endless: Callable[..., str]) -> None:
    file = endless(ENDLESS["a range"])
    with pytest.raises(ResourceError, match=r"within 0\.3 seconds"):
        show_comparison(file, None, as_of=None, factor=None, folds=0, seed=None, settings=[], seconds=0.3)


def test_a_mix_without_an_end_stops_at_the_limit(endless: Callable[..., str]) -> None:
    Path("mix.sql").write_text("select 1 as weight, max(i)::varchar as category from range(1000000000000) as r(i)")
    more = "standardise_to: {database: shop.duckdb, query: mix.sql}\n"
    file = endless("select category, amount, price from lines", more)
    with pytest.raises(ResourceError, match="did not end within"):
        show_plan(file, as_of=None, settings=[], seconds=0.3)


def test_a_step_of_a_run_stops_at_its_limit(endless: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "HOUR", 0.3)
    folder = begin(endless(ENDLESS["a range"]), engine=None, publish_to=None, settings=[], run_id="r1")
    with pytest.raises(ResourceError, match="make a table of the rows in the database first"):
        steps.extract(folder, None, date(2026, 1, 1))


def test_a_query_that_begins_after_the_limit_is_interrupted_too() -> None:
    with pytest.raises(ResourceError, match="did not end"), time_limit(0.1, "small", "wait"):
        time.sleep(0.3)
        connection = watched(duckdb.connect())
        try:
            connection.execute("select max(sin(i)) from range(1000000000000) as r(i)")
        finally:
            close(connection)


def test_errors_of_other_kinds_pass_a_limit_and_no_thread_stays() -> None:
    with pytest.raises(duckdb.ParserException), time_limit(60, "small", "wait"):
        duckdb.connect().execute("selec")
    assert not [thread for thread in threading.enumerate() if thread.name == "time-limit"]
