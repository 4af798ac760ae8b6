"""A run that knows most of its line items from before has the statistics of a run that reads them all."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groupwise.commands.partition_list import show_partitions
from groupwise.pipeline.fill import fill, over_all_days
from groupwise.run_folder import RunFolder
from groupwise.source import relation
from groupwise.statistics import gather
from groupwise.statistics.keep import Folder, Keep
from multilevel.errors import GroupwiseError, SourceError
from tests.changing_shop import Compressed, Shop, assert_same, study_of

CHANGES = {
    "a new day": "insert into lines by name select * replace (day + interval 100 day as day, id + 1000 as id) from lines where id < 9",
    "a late row": "insert into lines by name select * replace (date '2024-02-10' as day, id + 2000 as id) from lines where id % 97 = 3",
    "a row twice": "insert into lines select * from lines where id = 11",
    "a correction": "update lines set amount = amount + 0.5 where id % 101 = 7",
    "a deletion": "delete from lines where id % 89 = 5",
    "another day": "update lines set day = timestamp '2024-03-09' where id = 60",
    "an empty month": "delete from lines where month(day) = 2",
    "an unused column": "alter table lines add column if not exists note varchar default 'n'",
    "another type": "alter table lines alter items type bigint",
    "a new level": "update lines set category = 'C9' where id % 53 = 2",
    "no value": "update lines set region = null where id % 71 = 1",
    "a time zone": "alter table lines alter day type timestamptz",
    "many values": "update lines set price = id % 90 where id % 2 = 0",
}
STUDIES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "day": {"statistics": {"partition": "day", "keep": "kept"}, "window": {"column": "day", "days": 15}, "missing": {}},
    "without a window": {"window": None, "statistics": {"partition": "month", "column": "day", "keep": "kept"}},
    "where": {"where": "x > -0.5"},
    "weights": {"formula": "amount ~ 1 + price + (1 | category)", "where": "price > 0"},
    "log": {"formula": "log(amount) ~ 1 + x * price + C(items) + (1 | category/region)"},
    "poisson": {"formula": "items ~ 1 + price + offset(log(tries)) + (1 | category)", "family": "poisson"},
    "negative binomial": {"formula": "items ~ 1 + is_sold + (1 | category)", "family": "negative_binomial"},
    "binomial": {"formula": "p(hits, tries) ~ 1 + is_sold + (1 | category)", "family": "binomial"},
    "gamma": {"formula": "amount ~ 1 + is_sold + (1 | category)", "family": "gamma"},
    "hurdle": {"formula": "items ~ 1 + (1 | category)", "family": "hurdle_lognormal"},
    "months of a zone": {"timezone": "America/New_York"},
    "days of a zone": {
        "timezone": "Pacific/Auckland",
        "statistics": {"partition": "day", "keep": "kept"},
        "window": {"column": "day", "days": 15},
    },
    "rules": {"rules": [{"check": "between", "column": "customer", "max": 8, "when": "price > 1"}], "quarantine_limit": 1},
}
REGION = {"missing": {"region": "level"}}


def compare(shop: Shop, as_of: date | None = None, **fields: Any) -> Compressed:
    kept = shop.run(as_of=as_of, **{**REGION, **fields})
    whole = shop.run(keeps=False, as_of=as_of, **{**REGION, **fields})
    # one of the two read everything, and the other did not
    assert (bool(whole.noted), "recipe" in kept.noted) == (False, True)
    assert_same(kept, whole)
    return kept


def in_operations(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.operations) for name in names]


@pytest.mark.parametrize("study", ["negative binomial", *in_operations("day", "hurdle")])
def test_statistics_that_are_kept_add_to_those_of_all_line_items(shop: Shop, study: str) -> None:
    compare(shop, **STUDIES[study])
    shop.write(CHANGES["a late row"], CHANGES["a deletion"])
    compare(shop, **STUDIES[study])


def test_only_partitions_that_changed_are_read_again(shop: Shop) -> None:
    fields = STUDIES["without a window"]
    assert compare(shop, **fields).noted["fresh"] == ["2024-01", "2024-02", "2024-03", "2024-04"]
    again = shop.run(**REGION, **fields).noted
    assert (again["fresh"], again["n_read"]) == ([], 0)
    shop.write(CHANGES["a correction"].replace("id %", "month(day) = 2 and id %"))
    assert compare(shop, **fields).noted["fresh"] == ["2024-02"]
    # as the clock goes nothing has happened to the old month, and its file's time is what it would be anyway
    shop.write("delete from lines where id = (select min(id) from lines where month(day) = 1)")
    assert compare(shop, **fields).noted["fresh"] == ["2024-01"]
    shop.write(CHANGES["an unused column"])
    assert compare(shop, **fields).noted["fresh"] == []


def test_months_and_years_are_kept_of_their_days_together(shop: Shop) -> None:
    fields = {**STUDIES["without a window"], "statistics": {"partition": "day", "column": "day", "keep": "kept"}}
    compare(shop, **fields)
    months = {f"2024-{month:02}" for month in range(1, 5)}

    def looked_at(place: int) -> set[str]:
        return {path.parent.name for path in Path(f"runs/r{place}").rglob("facts.parquet")}

    assert compare(shop, **fields).noted["fresh"] == []
    assert looked_at(2) == {"2024"}
    shop.write("update lines set amount = amount + 1e7 where day::date = date '2024-02-05'")
    assert compare(shop, **fields).noted["fresh"] == ["2024-02-05"]
    days = {f"2024-02-{day:02}" for day in range(1, 30)}
    assert looked_at(4) == {"2024", *months, *days}
    # months that the window cuts are read by day
    kept = compare(shop, date(2024, 3, 20), **{**fields, "window": {"column": "day", "days": 60}})
    assert kept.noted["fresh"] == []
    assert {"2024-02", "2024-03-19", "2024-01-31"} <= looked_at(6) and "2024-02-01" not in looked_at(6)


def test_a_window_reads_the_partitions_that_it_cuts_and_no_others(shop: Shop) -> None:
    first = compare(shop, date(2024, 3, 31)).noted
    assert [(one["name"], one["is_whole"]) for one in first["segments"]] == [("2024-01", False), ("2024-02", True), ("2024-03", False)]
    moved = compare(shop, date(2024, 3, 29)).noted
    assert moved["fresh"] == ["2024-01", "2024-03"]
    n_of_cut = sum(one["fingerprint"]["rows"] for one in moved["segments"] if not one["is_whole"])
    assert moved["n_read"] == n_of_cut


def test_what_is_no_longer_in_the_source_is_not_kept(shop: Shop) -> None:
    suite = {"expectations": "own", "quarantine_limit": 0.5}
    Path("expectations").mkdir()
    Path("expectations/own.json").write_text(
        '{"expectations": [{"type": "expect_column_values_to_be_between", "kwargs": {"column": "customer", "max_value": 8}, '
        '"severity": "warning", "meta": {"rule_id": "few", "why": "there are few."}}]}'
    )
    whole = {**STUDIES["without a window"], **suite}
    compare(shop, **whole)
    before = {path.name for path in Path("kept").rglob("*.parquet")}
    assert any(name.startswith("quarantine") for name in before)
    shop.write("delete from lines where customer in (3, 9)")
    compare(shop, **whole)
    assert not before & {path.name for path in Path("kept").rglob("*.parquet")}


@pytest.mark.parametrize("damage", ["cut", *in_operations("gone", "another")])
def test_a_damaged_file_counts_as_missing(shop: Shop, damage: str) -> None:
    fields = STUDIES["without a window"]
    compare(shop, **fields)
    for path in Path("kept").rglob("units-*.parquet"):
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:100] if damage == "cut" else b"")
    assert compare(shop, **fields).noted["fresh"] == ["2024-01", "2024-02", "2024-03", "2024-04"]


def test_what_runs_at_the_same_time_have_written_goes_together(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    runs = [Keep(place), Keep(place)]
    # neither has seen what the other wrote
    assert [run.folders() for run in runs] == [[], []]
    for run, data in zip(runs, (b"one order of rows", b"another"), strict=True):
        run.write("recipe/2024-02/9-ab", "cells", data)
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    Keep(place).remove(["recipe/2024-02/9-ab"])
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"formula": "amount ~ center(x) + (1 | category)"}, "center() or scale() of x"),
        ({"formula": "amount ~ within(x, category) + between(x, category) + (1 | category)"}, "within(x, category)"),
        ({"missing": {"x": "mean_and_indicator"}}, "missing: x"),
        ({"privacy": {"of": "customer", "k": 2}}, "privacy counts distinct customer"),
        ({"rules": [{"check": "unique", "column": ["day", "x"]}]}, "rule day_x_unique compares line items of different partitions"),
        ({"rules": [{"check": "unique", "column": "customer", "keep": "one"}]}, "and keeps one of those alike"),
    ],
)
def test_what_does_not_add_is_read_whole_and_named(shop: Shop, fields: dict[str, Any], reason: str) -> None:
    kept = shop.run(**fields)
    assert reason in str(kept.noted["whole"])
    assert_same(kept, shop.run(keeps=False, **fields))
    assert not Path("kept").exists()


@pytest.mark.parametrize("study", ["days of a zone", *in_operations("months of a zone")])
def test_days_and_months_are_those_of_the_studys_time_zone(shop: Shop, study: str) -> None:
    shop.write(CHANGES["a time zone"], "update lines set day = day + interval 20 hour")
    of_utc = shop.run(**{**REGION, **STUDIES[study], "timezone": "UTC"}).noted
    there = compare(shop, **STUDIES[study]).noted
    of_utc_rows, rows = ({one["name"]: one["fingerprint"]["rows"] for one in noted["segments"]} for noted in (of_utc, there))
    assert any(rows[name] != of_utc_rows.get(name) for name in rows)
    assert there["fresh"] == [one["name"] for one in there["segments"]]


def test_rules_of_the_study_are_part_of_what_is_kept(shop: Shop) -> None:
    fields = {**STUDIES["without a window"], **STUDIES["rules"]}
    first = compare(shop, **fields)
    assert first.counts["quarantined"] > 0
    assert shop.run(**REGION, **fields).noted["fresh"] == []
    other = [{**rule, "max": 7} for rule in fields["rules"]]
    second = compare(shop, **{**fields, "rules": other})
    assert second.noted["fresh"] == [one["name"] for one in second.noted["segments"]]
    assert second.counts["quarantined"] > first.counts["quarantined"]


@pytest.mark.parametrize(("few", "scattered"), [(1, ["price"]), (100, [])])
def test_whether_a_predictor_makes_many_cells_is_asked_of_the_whole_window(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, few: int, scattered: list[str]
) -> None:
    monkeypatch.setattr("groupwise.compression.column_scan.FEW_CELLS", few)
    fields = {**STUDIES["without a window"], "formula": "amount ~ 1 + price + (1 | category)", "sampled": None}
    # in a month all prices are one, so that no partition alone has many cells
    shop.write("update lines set price = month(day)")
    found = compare(shop, **fields)
    assert found.noted["scattered"] == scattered
    assert ("price" in found.plan["features"]) is bool(scattered)


def lake(folder: str = "lake") -> None:
    Path(folder).mkdir(exist_ok=True)
    with duckdb.connect("shop.duckdb") as connection:
        for month, days in ((1, "< 31"), (2, "between 31 and 59"), (3, "> 59")):
            where = f"date_diff('day', timestamp '2024-01-01', day) {days}"
            connection.execute(f"copy (select * from lines where {where} order by day) to '{folder}/m{month}.parquet'")


def test_files_of_any_name_are_told_apart(shop: Shop) -> None:
    names = ["a[1].parquet", "a1.parquet", "b b'.parquet", "c=2/part.parquet"]
    with duckdb.connect("shop.duckdb") as connection:
        for place, name in enumerate(names):
            path = Path("lake") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            connection.execute(f"copy (select * from lines where id % 4 = {place}) to 'own.parquet'")
            Path("own.parquet").replace(path)
    fields = {"source": {"parquet": "lake/**/*.parquet"}, "window": None, "statistics": {"partition": "file", "keep": "kept"}}
    kept = compare(shop, **fields)
    assert sorted(Path(one["name"]).name for one in kept.noted["segments"]) == sorted(Path(name).name for name in names)


def test_a_partition_that_is_written_to_meanwhile_is_kept_by_no_run(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are looked at before they are read; what came between is found by the fingerprint of what was read."""
    fields = STUDIES["without a window"]
    with monkeypatch.context() as own:
        own.setattr(relation, "_check_state", lambda described: None)
        own.setattr(gather, "survey", surveyed_then(lambda: shop.write(CHANGES["a correction"]), gather.survey))
        with pytest.raises(SourceError, match="was written to after this run had begun to read it"):
            shop.run(**REGION, **fields)
    assert not list(Path("kept").rglob("facts*"))
    compare(shop, **fields)


def surveyed_then(change: Callable[[], None], survey: Callable[..., Any]) -> Callable[..., Any]:
    def changed(connection: Any, *arguments: Any, **named: Any) -> Any:
        found = survey(connection, *arguments, **named)
        connection.close()
        change()
        return found

    return changed


@pytest.mark.parametrize("partition", ["file", *in_operations("day")])
def test_of_parquet_files_those_that_changed_are_read(shop: Shop, partition: str) -> None:
    lake()
    fields = {"source": {"parquet": "lake/*.parquet"}, "statistics": {"partition": partition, "keep": "kept"}, "as_of": "2024-04-09"}
    compare(shop, **fields)
    with duckdb.connect() as connection:
        connection.execute("copy (select * replace (amount + 1 as amount) from 'lake/m2.parquet') to 'changed.parquet'")
        n_changed = connection.execute("select count(*) from read_parquet('changed.parquet')").fetchone()
    Path("changed.parquet").replace("lake/m2.parquet")
    kept = compare(shop, **fields)
    n_cut = sum(one["fingerprint"]["rows"] for one in kept.noted["segments"] if not one["is_whole"])
    assert n_changed is not None
    # a window by days cuts files, which are read in every run; of a file that it does not cut only the changed one is
    assert kept.noted["n_read"] <= n_changed[0] + n_cut
    assert kept.noted["n_read"] < kept.relation[0]


def check_random_changes(new_shop: Callable[[], Shop], steps: list[tuple[str, str]]) -> None:
    shop = new_shop()
    shop.run(**REGION)
    for change, study in steps:
        shop.write(CHANGES[change])
        refused = refusal(shop, keeps=False, **{**REGION, **STUDIES[study]})
        if refused is None:
            compare(shop, **STUDIES[study])
        else:
            assert refusal(shop, **{**REGION, **STUDIES[study]}) == refused


def refusal(shop: Shop, **fields: Any) -> str | None:
    """What a run says that refuses the line items; None where it does not."""
    try:
        shop.run(**fields)
    except GroupwiseError as error:
        return str(error)
    return None


STEP = st.tuples(st.sampled_from(sorted(CHANGES)), st.sampled_from(sorted(STUDIES)))


@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(sorted(CHANGES)), st.sampled_from(["as it is", "poisson"])), min_size=1, max_size=2))
def test_any_changes_of_source_and_study_leave_the_statistics_of_all_line_items(
    new_shop: Callable[[], Shop], steps: list[tuple[str, str]]
) -> None:
    check_random_changes(new_shop, steps)


@pytest.mark.fuzz
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=1, max_size=6))
def test_many_changes_of_source_and_study_leave_the_statistics_of_all_line_items(
    new_shop: Callable[[], Shop], steps: list[tuple[str, str]]
) -> None:
    check_random_changes(new_shop, steps)


@pytest.mark.parametrize("place", [5, *(pytest.param(place, marks=pytest.mark.operations) for place in range(0, 21, 3))])
def test_a_run_that_dies_as_it_writes_leaves_what_the_next_one_reads(shop: Shop, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = STUDIES["without a window"]
    written: list[str] = []
    write = Folder.write

    def dies(self: Folder, name: str, data: bytes) -> None:
        if len(written) == place:
            # what a kill leaves of a file that is half-way
            (self._root / name).parent.mkdir(parents=True, exist_ok=True)
            (self._root / name).with_name(".partial-x").write_bytes(data[:9])
            raise KeyboardInterrupt
        written.append(name)
        write(self, name, data)

    with monkeypatch.context() as own:
        own.setattr(Folder, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            shop.run(**REGION, **fields)
    compare(shop, **fields)
    assert shop.run(**REGION, **fields).noted["fresh"] == []


def test_runs_at_the_same_time_share_what_is_kept(shop: Shop) -> None:
    fields = {**REGION, **STUDIES["without a window"]}
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda own: shop.run(**own), [fields, fields]))
    whole = shop.run(keeps=False, **fields)
    for one in found:
        assert_same(one, whole)
    assert shop.run(**fields).noted["fresh"] == []


def test_the_command_says_what_is_stale_and_why(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    Path("study.yaml").write_text(yaml.safe_dump(study_of(as_of="2024-04-10").model_dump(mode="json", exclude_defaults=True)))

    def states(*, rebuild: bool = False) -> dict[str, str]:
        show_partitions("study.yaml", as_of=None, rebuild=rebuild, style="json", seconds=60)
        return {row["partition"]: row["state"] for row in json.loads(capsys.readouterr().out)}

    cut = {"2024-01": "the window cuts it (2024-01-31 to 2024-02-01): read in every run"}
    cut |= {"2024-04": "the window cuts it (2024-04-01 to 2024-04-10): read in every run"}
    assert states() == {**cut, "2024-02": "not kept yet", "2024-03": "not kept yet"}
    assert not list(Path("kept").rglob("*"))
    assert states(rebuild=True) == {**cut, "2024-02": "kept", "2024-03": "kept"}
    shop.write("delete from lines where id = (select min(id) from lines where month(day) = 3)")
    n = duckdb.connect("shop.duckdb", read_only=True).execute("select count(*) from lines where month(day) = 3").fetchone()
    assert n is not None
    assert states()["2024-03"] == f"stale: its line items changed, of {n[0] + 1} statistics are kept"
    study = study_of(as_of="2024-04-10", where="x > 0")
    Path("study.yaml").write_text(yaml.safe_dump(study.model_dump(mode="json", exclude_defaults=True)))
    assert states()["2024-02"] == "stale: the study, its rules or the program changed"


def test_days_of_a_backfill_are_sums_of_what_was_read_once(shop: Shop) -> None:
    fields = {**REGION, **STUDIES["day"]}
    days = [date(2024, 3, 1), date(2024, 3, 8)]
    run = RunFolder(Path("fill").absolute())
    run.path.mkdir()
    run.write_study(over_all_days(study_of(**fields), days), "")
    fill(run, days[-1], date(2026, 1, 1), cut=False)
    for day in days:
        kept = compare(shop, day, **STUDIES["day"])
        assert (kept.noted["n_read"], kept.noted["fresh"]) == (0, [])
