"""Report, changes and answers use a level's headline: of new members where the study says that members are a sample."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from groupwise.report import write_report
from groupwise.report.changes import Published, changes_between
from multilevel.catalogue.headline import TOLD, with_headline


def of_population(table: pa.Table, factor: str, shift: float) -> pa.Table:
    """The rows of one factor told of new members, ``shift`` from their members' numbers."""
    own = pc.and_(pc.equal(table["grouping_factor"], pa.scalar(factor)), pc.invert(table["is_new"]))
    for members, population in TOLD.items():
        moved = pc.add(table[members], pa.scalar(0.0 if "error" in members else shift))
        place = table.column_names.index(population)
        table = table.set_column(place, table.schema.field(population), pc.if_else(own, moved, pa.scalar(None, pa.float64())))
    place = table.column_names.index("headline")
    told = pc.if_else(own, pa.scalar("population"), pa.scalar("members"))
    table = table.set_column(place, table.schema.field("headline"), told)
    counts = pc.if_else(own, pa.scalar(5, pa.int64()), pa.scalar(None, pa.int64()))
    return table.set_column(table.column_names.index("n_sampled"), table.schema.field("n_sampled"), counts)


def test_the_headline_takes_the_place_of_the_members(make_tables) -> None:
    plain = make_tables(20)["group_estimates"]
    told = with_headline(of_population(plain, "income_group", 0.25))
    difference = pc.subtract(told["estimate"], plain["estimate"]).to_pylist()
    moved = [
        factor == "income_group" and not new
        for factor, new in zip(plain["grouping_factor"].to_pylist(), plain["is_new"].to_pylist(), strict=True)
    ]
    assert [abs(value - 0.25) < 1e-12 if own else value == 0.0 for value, own in zip(difference, moved, strict=True)] == [True] * len(moved)
    assert with_headline(plain.drop_columns(["headline"])).equals(plain.drop_columns(["headline"]))


def test_the_report_says_of_whom_it_speaks_and_how_many_stand_behind(make_tables, study, tmp_path) -> None:
    tables = make_tables(20)
    tables["group_estimates"] = of_population(tables["group_estimates"], "income_group", 0.25)
    sampled = {**study, "sampled": ["customer_id"]}
    text = write_report(tables, {}, {}, tmp_path / "r.html", study=sampled).read_text(encoding="utf-8")
    assert "The intervals speak of what to expect of a new customer in one of these income groups" in text
    assert "5 customers; 95\N{NO-BREAK SPACE}% interval" in text and "for a new customer of each" in text
    plain = write_report(make_tables(20), {}, {}, tmp_path / "s.html", study=study).read_text(encoding="utf-8")
    assert "The intervals speak of these income groups as they are" in plain


def test_headlines_that_differ_are_said_and_members_compared(make_tables) -> None:
    tables = make_tables(20)
    later = {**tables, "group_estimates": of_population(tables["group_estimates"], "income_group", 10.0)}
    found = changes_between(Published(tables), Published(later))
    assert found.n_moved == 0
    assert found.notes[0].startswith("income_group: one of the versions speaks of new members")
    both = changes_between(Published(later), Published(later))
    assert both.n_moved == 0 and not any("new members" in note for note in both.notes)


def test_what_tables_of_version_1_lack_is_said_and_members_compared(make_tables) -> None:
    tables = make_tables(20)
    later = {**tables, "group_estimates": of_population(tables["group_estimates"], "income_group", 10.0)}
    older = {**tables, "group_estimates": tables["group_estimates"].drop_columns(["headline", *TOLD.values(), "n_sampled"])}
    found = changes_between(Published(older), Published(later))
    assert found.n_moved == 0
    first, second = found.notes
    assert "has tables of version 1: no plain means and no estimates of new members to compare" in first
    assert second.startswith("Changes are not split into range, mix and behaviour: run ")
