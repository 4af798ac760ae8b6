"""``init`` profiles data and writes a study that ``plan`` accepts; it asks nothing, and replaces nothing that is there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
import yaml

from groupwise.commands import command_line
from groupwise.starting.start import Started, start, study_name, write_started
from groupwise.study.study_file import load_study
from multilevel.errors import DataError, SourceError, StudyError
from tests.messy_sales import write_messy_sales


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(data: str, **options: Any) -> Started:
    work = Path("work")
    work.mkdir(exist_ok=True)
    (own := work / str(len(list(work.iterdir())))).mkdir()
    return start(data, name=None, output=Path("study.yaml"), folder=own, tell=lambda step: None, **options)


def command(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["groupwise", *arguments])
    return command_line._run()


@pytest.mark.operations
def test_a_messy_export_becomes_a_study_with_every_reason(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_messy_sales(Path("sales.csv"))
    assert command("init", "sales.csv", monkeypatch=monkeypatch) == 0
    told = capsys.readouterr().out
    for line in ("12,500 rows, 500 of them the same as another row", "600 below zero", "600 missing", "Artikel is nested in Waren/Gruppe"):
        assert line in told
    study = load_study("study.yaml")
    assert study.source.model_dump(mode="json")["options"]["delimiter"] == ";"
    assert study.source.options is not None
    assert (study.source.options.decimal, study.source.options.date_format) == (",", "%d/%m/%Y")
    assert not Path("line_items.sql").exists()
    assert study.formula == "log(Betrag) ~ 1 + Aktion + (1 | `Waren/Gruppe`/Artikel) + (1 | Filiale) + (1 | Kunde)"
    assert (study.where, study.sampled, dict(study.missing)) == ('"Betrag" > 0', ("Kunde",), {"Kunde": "exclude"})
    assert study.window is not None
    assert (study.window.column, study.window.days) == ("Datum", 366)
    text = Path("study.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=.groupwise/study.schema.json\n")
    assert Path(".groupwise/study.schema.json").exists()
    assert "600 rows at or below zero (600 below: returns?) are left out, and counted" in text
    assert [rule.column for rule in study.rules if rule.keep == "one"] == ["Bestell-Nr"]
    assert command("plan", "study.yaml", monkeypatch=monkeypatch) == 0
    assert "0 quarantined, 500 duplicates dropped, 1,170 excluded, 10,830 used" in capsys.readouterr().out


def test_excels_encoding_is_noticed() -> None:
    write_messy_sales(Path("sales.csv"), 400, returns=10, duplicates=0)
    text = Path("sales.csv").read_text().replace("Łódź", "Lodz")
    Path("sales.csv").write_text(text, encoding="cp1252")
    found = started("sales.csv")
    assert found.fields["source"]["options"]["encoding"] == "windows-1252"
    assert found.profile.columns["Filiale"].levels == 5


def test_days_that_could_be_two_and_words_for_missing_are_settled_in_the_study() -> None:
    random = np.random.default_rng(3)
    rows = [f"{random.integers(1, 13):02}/{random.integers(1, 13):02}/2024,{g},{random.normal(5, 1):.3f}" for g in "abcd" * 30]
    Path("x.csv").write_text("day,g,score\n" + "\n".join(rows).replace(",5.", ",NA", 0) + "\n04/05/2024,a,NA\n")
    found = started("x.csv")
    assert found.fields["source"]["options"] == {"date_format": "%d/%m/%Y", "nulls": ["NA"]}
    assert found.fields["missing"] == {"score": "exclude"}


def frame(n: int = 240) -> pd.DataFrame:
    random = np.random.default_rng(7)
    g = random.integers(0, 8, n)
    return pd.DataFrame(
        {
            "day": [f"{1 + i % 28:02}.{1 + i % 12:02}.2024" for i in range(n)],
            "price": [f"{value:.2f}".replace(".", ",") for value in np.exp(2 + 0.3 * g + random.normal(0, 0.5, n))],
            "shop": [f"shop {k}" for k in g],
        }
    )


@pytest.mark.parametrize("kind", ["parquet", "database", *(pytest.param(kind, marks=pytest.mark.operations) for kind in ("json", "arrow"))])
def test_text_that_holds_days_and_numbers_is_cast_by_a_query(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = frame()
    match kind:
        case "parquet":
            data.to_parquet(file := "x.parquet")
        case "json":
            data.to_json(file := "x.json", orient="records", lines=True)
        case "arrow":
            data.to_feather(file := "x.feather")
        case _:
            with duckdb.connect(file := "x.duckdb") as connection:
                connection.execute("create table lines as select * from data")
    found = started(file)
    write_started(found, force=False)
    assert found.fields["window"]["column"] == "day"
    assert "strptime(trim(\"day\"), '%d.%m.%Y')" in Path("line_items.sql").read_text()
    assert command("plan", "study.yaml", monkeypatch=monkeypatch) == 0


def test_a_database_of_several_tables_needs_one_or_a_query() -> None:
    frame().to_parquet("x.parquet")
    with duckdb.connect("x.duckdb") as connection:
        connection.execute("create table lines as select shop, random() as price from 'x.parquet'")
        connection.execute("create table shops as select distinct shop from 'x.parquet'")
    with pytest.raises(SourceError, match=r"x.duckdb has 2 tables and views: lines, shops\. Name one with --table"):
        started("x.duckdb")
    assert started("x.duckdb", table="lines").proposal.groups == ("shop",)
    Path("q.sql").write_text("select shop, price * 2 as price from lines")
    assert started("x.duckdb", line_items="q.sql").fields["source"]["line_items"] == "q.sql"


def test_nothing_is_replaced_silently() -> None:
    frame().to_parquet("x.parquet")
    found = started("x.parquet")
    Path("study.yaml").write_text("mine")
    with pytest.raises(StudyError, match=r"study.yaml: already there; move it away, choose --output, or write --force"):
        write_started(found, force=False)
    assert (Path("study.yaml").read_text(), Path("line_items.sql").exists()) == ("mine", False)
    write_started(found, force=True)
    assert yaml.safe_load(Path("study.yaml").read_text())["name"] == "x"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"g": ["a", "b"] * 10, "h": ["c", "d"] * 10}, "no column could be an outcome"),
        ({"y": np.linspace(0, 1, 20)}, "no column divides the rows into groups of at least two"),
        ({"y": [1.0] * 20, "g": ["a", "b"] * 10}, "no column could be an outcome"),
    ],
)
def test_data_without_an_outcome_or_groups_is_refused(columns: dict[str, Any], words: str) -> None:
    pd.DataFrame(columns).to_parquet("x.parquet")
    with pytest.raises(DataError, match=words):
        started("x.parquet")


@pytest.mark.parametrize(
    ("outcome", "family", "response"),
    [
        (lambda random, e: 3 + e + random.normal(0, 1, len(e)), "gaussian", "y"),
        (lambda random, e: np.exp(3 + e + random.normal(0, 0.8, len(e))), "gaussian", "log(y)"),
        (lambda random, e: random.random(len(e)) < 1 / (1 + np.exp(-e)), "binomial", "y"),
        (lambda random, e: (random.random(len(e)) < 1 / (1 + np.exp(-e))).astype(int), "binomial", "y"),
        (lambda random, e: random.poisson(np.exp(0.3 + 0.3 * e)), "poisson", "y"),
        (lambda random, e: random.poisson(np.exp(0.5 + 0.3 * e) * random.gamma(0.5, 2.0, len(e))), "negative_binomial", "y"),
        (lambda random, e: np.where(random.random(len(e)) < 0.3, 0.0, np.exp(2 + e + random.normal(0, 1, len(e)))), "hurdle_gamma", "y"),
    ],
)
def test_the_outcome_decides_the_family(outcome: Any, family: str, response: str) -> None:
    random = np.random.default_rng(11)
    g = random.integers(0, 12, 600)
    effect = random.normal(0, 0.5, 12)[g]
    pd.DataFrame({"row_id": range(600), "branch": [f"b{k}" for k in g], "y": outcome(random, effect)}).to_parquet("x.parquet")
    found = started("x.parquet").proposal
    assert (found.response, found.family, found.groups) == (response, family, ("branch",))


def test_what_was_paid_is_the_outcome_rather_than_what_one_piece_costs() -> None:
    random = np.random.default_rng(12)
    price, units = np.exp(random.normal(1, 0.4, 300)).round(2), random.poisson(2, 300)
    columns = {"price": price, "units": units, "spend": (price * units).round(2)}
    pd.DataFrame({"branch": [f"b{k}" for k in random.integers(0, 12, 300)], **columns}).to_parquet("x.parquet")
    assert ("outcome", "spend: its name says so") in started("x.parquet").proposal.reasons


@pytest.mark.parametrize(("form", "example"), [("${:,.2f}", "$"), ("{:.1f} %", "%")])
def test_numbers_with_a_sign_are_text_and_the_profile_says_what_reads_them(form: str, example: str, tmp_path: Path) -> None:
    random = np.random.default_rng(13)
    spend = np.exp(random.normal(6, 1, 200)).round(2)
    frame = pd.DataFrame({"branch": [f"b{k % 8}" for k in range(200)], "price": spend, "total": [form.format(value) for value in spend]})
    frame.to_csv("sales.csv", index=False)
    made = started("sales.csv")
    note = next(note for note in made.notes if note.startswith("total has numbers written as "))
    assert example in note
    Path("query.sql").write_text("select" + note.rstrip(".").split("with select")[1])
    assert started("sales.csv", line_items="query.sql").profile.columns["total"].kind == "number"


def test_a_file_without_names_is_refused_and_years_may_be_names() -> None:
    rows = [(k, f"b{k % 4}", 2.5 + k % 7 / 10, f"2025-01-{k % 28 + 1:02}") for k in range(60)]
    pd.DataFrame(rows).to_csv("bare.csv", index=False, header=False)
    with pytest.raises(
        SourceError, match=r"the first line of \S+bare.csv holds values \(0, b0, 2.5, 2025-01-01\) where names should stand"
    ):
        started("bare.csv")
    pd.DataFrame([(f"b{k % 4}", k % 7 + 0.5, k % 5 + 0.25) for k in range(60)], columns=["branch", "2019", "2020"]).to_csv(
        "y.csv", index=False
    )
    assert started("y.csv").proposal.outcome == "2019"


def test_repeated_rows_that_are_kept_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"branch": [f"b{k % 8}" for k in range(80)], "score": [k % 9 + 0.5 for k in range(80)]})
    pd.concat([frame, frame]).to_csv("sales.csv", index=False)
    assert command("init", "sales.csv", monkeypatch=monkeypatch) == 0
    assert "Repeated rows are kept: nothing says that they are copies." in capsys.readouterr().out


def test_a_name_is_made_of_any_path() -> None:
    assert [study_name(path) for path in ("a/b c.csv", "lake/*.parquet", "2024.csv", "Ümsätze.csv")] == [
        "b_c",
        "lake",
        "study_2024",
        "ms_tze",
    ]
