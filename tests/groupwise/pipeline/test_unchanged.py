"""A run whose inputs a published version has already ends at once; whatever its tables follow from makes it run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from groupwise.pipeline import inputs
from groupwise.pipeline.run_start import begin
from groupwise.pipeline.steps import extract, look
from groupwise.publishing.stage import Attachments
from groupwise.publishing.table_content import content_sha256
from groupwise.publishing.target import open_target
from groupwise.run_folder import RunFolder
from multilevel.catalogue.published_tables import TABLES, arrow_schema

TODAY = date(2026, 1, 1)
STUDY = """
name: small
formula: amount ~ 1 + price + (1 | category)
source: {database: shop.duckdb, line_items: lines.sql}
expectations: own
window: {column: day, days: 365}
engine: likelihood
"""
SUITE = {
    "expectations": [
        {
            "type": "expect_column_values_to_not_be_null",
            "kwargs": {"column": "k"},
            "severity": "warning",
            "meta": {"rule_id": "k", "why": "every line has a k."},
        }
    ]
}

type Attempt = Callable[..., tuple[str, str]]


@pytest.fixture
def attempt(shop: Path) -> Attempt:
    """Begin a run, look, extract, and publish: how it ended (``look``, ``extract`` or ``published``), and the version's folder."""
    Path("study.yaml").write_text(STUDY)
    Path("expectations").mkdir()
    Path("expectations/own.json").write_text(json.dumps(SUITE))

    def run(*settings: str, force: bool = False, as_of: date | None = None, today: date = TODAY) -> tuple[str, str]:
        folder = begin("study.yaml", engine=None, publish_to=None, settings=settings, run_id=None, force=force)
        for step in (look, extract):
            found = step(folder, as_of, today)
            if found is not None:
                return step.__name__, found
        return "published", publish(RunFolder(Path(folder)))

    return run


def publish(run: RunFolder) -> str:
    study, day = run.study(), run.relation().as_of
    common = {"study": study.name, "as_of": day, "run_id": run.run_id, "engine": "likelihood", "pooling": "partial"}
    rows = {"diagnostics": [{**common, "check": "singular", "value": 0.0, "passed": True, "message": ""}]}
    published = open_target(study.publish_to, study.name).publish(
        {name: pa.Table.from_pylist(rows.get(name, []), arrow_schema(name)) for name in TABLES},
        as_of=day,
        run_id=run.run_id,
        provenance={"inputs": run.read_json("inputs")},
        attachments=Attachments(),
        waiting=None,
    )
    return str(published.folder)


def test_nothing_changed(attempt: Attempt) -> None:
    ended, folder = attempt()
    assert ended == "published"
    assert attempt() == ("look", folder)
    assert attempt() == ("look", folder)


def test_a_file_that_was_only_touched_is_read_and_found_to_be_the_same(attempt: Attempt) -> None:
    _, folder = attempt()
    os.utime("shop.duckdb", ns=(1, 1))
    assert attempt() == ("extract", folder)


def test_a_row_that_comes_and_goes_again(attempt: Attempt, change: Callable[[str], None]) -> None:
    _, folder = attempt()
    change("insert into lines select * from lines where id = 3")
    change("delete from lines where id = 3")
    assert attempt()[0] == "published"
    change("insert into lines by name select * replace (3 as id) from lines where id = 31")
    change("update lines set (day, category, region, amount, price, k) = ('2024-01-04 00:03', 'C3', 'R1', 4, 4, 3) where id = 3")
    assert attempt()[0] == "published"  # the latest version is the one without the row
    assert attempt(force=True)[1] != folder


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("update lines set amount = amount + 1 where id = 7", marks=pytest.mark.operations),
        "update lines set k = 5 where id = 7",
        pytest.param("delete from lines where id = 7", marks=pytest.mark.operations),
        "insert into lines select * from lines where id = 7",
        "alter table lines alter amount type float",
    ],
    ids=["a value", "a value that only a rule reads", "a row less", "a row twice", "a column's type"],
)
def test_line_items_that_changed_make_it_run(statement: str, attempt: Attempt, change: Callable[[str], None]) -> None:
    attempt()
    change(statement)
    assert attempt()[0] == "published"


def test_a_column_that_nothing_names_does_not(attempt: Attempt, change: Callable[[str], None]) -> None:
    _, folder = attempt()
    change("update lines set n = 6")
    assert attempt() == ("extract", folder)


def test_study_query_and_rules_make_it_run(attempt: Attempt) -> None:
    attempt()
    assert attempt("interval=0.9")[0] == "published"
    Path("lines.sql").write_text(Path("lines.sql").read_text() + " where id < 390")
    assert attempt("interval=0.9")[0] == "published"
    Path("expectations/own.json").write_text(json.dumps(SUITE).replace("warning", "info"))
    assert attempt("interval=0.9")[0] == "published"
    assert attempt("interval=0.9")[0] == "look"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("code_digest", lambda: "of tomorrow"),
        pytest.param("library_versions", lambda: {"duckdb": "3.0.0"}, marks=pytest.mark.operations),
        pytest.param("CATALOGUE_VERSION", "1.999.0", marks=pytest.mark.operations),
    ],
)
def test_other_code_makes_it_run(name: str, value: object, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt()
    monkeypatch.setattr(inputs, name, value)
    assert attempt()[0] == "published"


def test_the_table_that_a_study_is_standardised_to_makes_it_run(attempt: Attempt) -> None:
    mix = "standardise_to={query: mix.sql, database: shop.duckdb}"
    Path("mix.sql").write_text("select category, 1 as weight from lines group by category")
    _, folder = attempt(mix)
    Path("mix.sql").write_text("select category, 1 + (category = 'C1')::int as weight from lines group by category")
    ended, other = attempt(mix)
    assert ended == "published"
    assert other != folder
    assert attempt(mix) == ("look", other)


def test_forced(attempt: Attempt) -> None:
    _, folder = attempt()
    ended, other = attempt(force=True)
    assert (ended, other == folder) == ("published", False)


@pytest.mark.parametrize("harm", [lambda path: path.write_bytes(b"PAR1" + path.read_bytes()[4:-1] + b"2"), Path.unlink])
def test_a_version_that_is_damaged_is_made_again(
    harm: Callable[[Path], object], attempt: Attempt, caplog: pytest.LogCaptureFixture
) -> None:
    _, folder = attempt()
    harm(Path(folder) / "diagnostics.parquet")
    assert attempt()[0] == "published"
    assert "diagnostics.parquet" in caplog.text
    assert "goes on as if nothing were published" in caplog.text


def test_a_study_changed_and_changed_back_becomes_the_latest_again(attempt: Attempt) -> None:
    _, first = attempt()
    attempt("interval=0.9")
    ended, third = attempt()
    assert ended == "published"
    assert third != first
    assert Path("published/small/current").resolve() == Path(third)


def test_an_earlier_day_is_compared_with_its_own_last_version(attempt: Attempt) -> None:
    _, latest = attempt()
    ended, earlier = attempt(as_of=date(2024, 1, 20))
    assert ended == "published"
    assert attempt(as_of=date(2024, 1, 20)) == ("look", earlier)
    assert attempt() == ("look", latest)
    assert Path("published/small/current").resolve() == Path(latest)


def test_a_scheduled_run_of_another_day_runs_where_there_is_a_window(attempt: Attempt) -> None:
    attempt("as_of=scheduled", "window.days=3650")
    assert attempt("as_of=scheduled", "window.days=3650", today=TODAY + timedelta(days=1))[0] == "published"
    assert attempt("as_of=scheduled", "window.days=3650", today=TODAY + timedelta(days=1))[0] == "look"


def test_without_a_window_the_day_is_a_label(attempt: Attempt) -> None:
    _, folder = attempt("window=null")
    assert attempt("window=null", today=TODAY + timedelta(days=1)) == ("look", folder)
    assert attempt("window=null", as_of=date(2027, 1, 1)) == ("look", folder)


def test_after_a_rollback_the_run_that_was_rolled_back_runs(attempt: Attempt) -> None:
    _, first = attempt()
    attempt("interval=0.9")
    open_target("published", "small").rollback(Path(first).name.removeprefix("rev="))
    assert attempt() == ("look", first)
    assert attempt("interval=0.9")[0] == "published"


def test_another_place_has_nothing_published(attempt: Attempt) -> None:
    attempt()
    assert attempt("publish_to=elsewhere")[0] == "published"
    assert attempt("publish_to=elsewhere")[0] == "look"


def test_content_is_what_a_table_says_without_the_run() -> None:
    columns = {"run_id": ["r1"] * 3, "level": ["a", None, "bc"], "n": [1, None, 0], "x": [1.5, 0.0, None], "b": [True, None, False]}
    table = pa.table(columns).append_column("as_of", pa.array([date(2026, 1, 1), None, date(1970, 1, 1)]))
    same = content_sha256(table)
    assert content_sha256(pa.concat_tables([table.slice(0, 1), table.slice(1)]).replace_schema_metadata({"by": "r1"})) == same
    assert content_sha256(table.set_column(0, "run_id", pa.array(["r2"] * 3))) == same
    others = [
        table.set_column(1, "level", pa.array(["a", "", "bc"])),
        table.set_column(1, "level", pa.array(["a", None, "cb"])),
        table.set_column(2, "n", pa.array([1, 0, 0])),
        table.set_column(2, "n", pa.array([1.0, None, 0.0])),
        table.set_column(3, "x", pa.array([1.5, 0.0, 0.0])),
        table.set_column(4, "b", pa.array([True, False, False])),
        table.set_column(5, "as_of", pa.array([date(2026, 1, 1), date(1970, 1, 1), date(1970, 1, 1)])),
        table.slice(0, 2),
        table.rename_columns(["run_id", "label", "n", "x", "b", "as_of"]),
    ]
    assert len({same, *map(content_sha256, others)}) == len(others) + 1
    assert content_sha256(table.slice(0, 0)) == content_sha256(table.slice(3))
