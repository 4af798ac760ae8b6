"""Steps of the chart and sentences of the answer, of fits of every kind of outcome, with and without a sample behind the levels."""

from __future__ import annotations

import datetime
import html
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import vl_convert

from groupwise.report import write_picture, write_report
from groupwise.report.answer import answer
from groupwise.report.compared import compared
from groupwise.report.datasets import level_datasets
from groupwise.report.dependence import dependence_sentence
from groupwise.report.failed_words import effects_of
from groupwise.report.label_words import column_words, counted, plural
from groupwise.report.part_labels import told_apart
from groupwise.report.sections import sections
from groupwise.report.steps_chart import STEPS_LIMIT, steps_figure, steps_of
from groupwise.report.subject import Subject
from multilevel.catalogue.headline import TOLD
from multilevel.cells.from_rows import cells_from_frame
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import fit_options

NESTED, FLAT = "(1 | region/customer_id)", "(1 | region) + (1 | category_key)"


@cache
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    n, customers = 700, rng.integers(0, 60, 700)
    frame = pd.DataFrame({"customer_id": customers, "region": np.array(["NORTH", "SOUTH", "EAST", "WEST"])[customers % 4]})
    frame["category_key"] = rng.choice(list("abc"), n)
    frame["is_web"], frame["income"] = rng.random(n) < 0.5, 1_000.0 * rng.integers(20, 90, n)
    frame["on_sale"] = rng.random(n) < 0.4
    eta = 0.4 * (frame.region == "NORTH") - 0.3 * frame.on_sale + rng.normal(0, 0.3, 60)[customers]
    frame["amount"] = np.exp(1 + eta + rng.normal(0, 0.4, n))
    frame["kept"] = rng.random(n) < 1 / (1 + np.exp(-2 * eta))
    frame["spend"] = frame.amount * frame.kept
    return frame


@cache
def subject_of(formula: str, family: str, *sampled: str) -> Subject:
    tree = parse_formula(formula)
    options = fit_options("spend", datetime.date(2026, 11, 1), "run", "likelihood", sampled=sampled)
    found = fit_study(tree, cells_from_frame(tree, rows(), family), options)
    study = {"name": "spend", "formula": formula, "family": family, "sampled": list(sampled), "unit": "per line item"}
    study |= {} if family == "binomial" else {"currency": "USD"}
    return Subject(told_apart(dict(found.tables)), study, found.report, {})


def said(subject: Subject) -> str:
    return " ".join(words for found in answer(subject) for words in (found.text, *found.points))


def test_members_as_they_are_have_three_steps() -> None:
    subject = subject_of(f"amount ~ 1 + on_sale + {FLAT}", "gaussian")
    steps = steps_of(subject, "region", level_datasets(subject)["region"])
    assert [(step.column, step.words) for step in steps] == [
        ("observed", "plain average of line items"),
        ("none", "same mix for all"),
        ("estimate", "pooled: the estimate, with its interval"),
    ]


def test_of_a_sample_every_member_counts_once_before_pooling() -> None:
    subject = subject_of(f"amount ~ 1 + on_sale + {NESTED}", "gaussian", "customer_id")
    columns = level_datasets(subject)["region"]
    steps = steps_of(subject, "region", columns)
    assert [step.column for step in steps] == ["observed", "mix", "none", "estimate"]
    assert steps[2].words == "same mix, and every customer counts once"
    published = [row for row in subject.tables["group_estimates"].to_pylist() if row["grouping_factor"] == "region" and not row["is_new"]]
    named = ("observed_mean", "no_pooling_estimate", "population_no_pooling_estimate", "population_estimate")
    for step, name in zip(steps, named, strict=True):
        assert columns[step.column] == pytest.approx([row[name] for row in published], rel=1e-4)
    figure = steps_figure(subject, "region", columns)
    assert figure.members == ("customer", "customers")
    assert "what to expect of a new customer" in figure.speaks_of
    customers = level_datasets(subject)["region:customer_id"]
    assert [step.column for step in steps_of(subject, "region:customer_id", customers)] == ["observed", "none", "estimate"]


def test_the_picture_says_how_many_units_stand_behind_a_level(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[dict[str, Any]] = []
    monkeypatch.setattr(vl_convert, "vegalite_to_png", lambda spec, scale: drawn.append(spec) or b"")
    subject = subject_of(f"amount ~ 1 + on_sale + {NESTED} + (1 | category_key)", "gaussian", "customer_id")
    write_picture(dict(subject.tables), {**subject.study, "cells": ["region", "category_key"]}, tmp_path / "p.png")
    left, right = drawn[0]["hconcat"]
    ticks = {row["tick"].partition("\x01")[2] for layer in left["layer"] for row in layer["data"].get("values", []) if "tick" in row}
    assert ticks == {"15 customers"}
    assert right["title"].startswith("Regions")  # of the customers, who are more, no single one is of interest


def test_the_table_has_a_column_for_the_units_and_for_every_step() -> None:
    subject = subject_of(f"amount ~ 1 + on_sale + {NESTED}", "gaussian", "customer_id")
    made = sections(subject, level_datasets(subject), {}, None)
    [table] = [table for section in made if section.id == "groups" for table in section.big_tables if table.dataset == "levels/region"]
    titles = [column.title for column in table.columns]
    assert titles[1:8] == ["estimate", "from", "to", "customers", "plain average", "same mix for all", "every customer once"]


def test_tables_before_there_were_headlines_still_have_a_report(make_tables, study, tmp_path: Path) -> None:
    tables = make_tables(20)
    younger = ["headline", "n_sampled", "observed_mean", "observed_std_error", *TOLD.values()]
    tables["group_estimates"] = tables["group_estimates"].drop_columns(younger)
    text = write_report(tables, {}, {}, tmp_path / "r.html", study=study).read_text(encoding="utf-8")
    assert "as tables before 2.0 had it" in text
    assert "plain average of line items" not in text


@pytest.mark.parametrize(("categories", "many"), [(2, False), (300, True)])
def test_of_many_groups_the_chart_shows_some_and_says_where_the_others_are(make_tables, study, categories: int, many: bool) -> None:
    subject = Subject(make_tables(categories), study, {}, {})
    figure = steps_figure(subject, "department:category_key", level_datasets(subject)["department:category_key"])
    assert figure.limit == STEPS_LIMIT
    assert figure.sorts[0][0] == ("pooled_by" if many else "estimate")
    assert ("the table of groups has all" in figure.caption) == many
    assert figure.title.startswith("Categories in department, ")


def test_a_logarithm_changes_by_per_cent_of_the_amount() -> None:
    subject = subject_of(f"log(amount) ~ 1 + on_sale + {NESTED}", "gaussian", "customer_id")
    words = said(subject)
    assert "a higher or lower outcome (per line item)" in words
    assert re.search(
        r"On sale \(yes, against no\): −\d+\.\d % \(95 % interval −\d+\.\d % to −\d+\.\d %\), all else the same; of \$\d\.\d\d that", words
    )
    assert "15 customers; 95 % interval $" in words
    assert "for a new customer of each" in words
    assert re.search(r"with the mix that all groups share, \$\d\.\d\d once every customer counts the same, and", words)


def test_a_gaussian_outcome_changes_by_dollars() -> None:
    words = said(subject_of(f"amount ~ 1 + on_sale + {FLAT}", "gaussian"))
    assert re.search(r"On sale \(yes, against no\): −\$\d\.\d\d \(95 % interval −\$\d\.\d\d to −\$\d\.\d\d\), all else the same", words)
    assert "customer" not in words


@pytest.mark.parametrize(("groups", "sampled"), [(FLAT, ()), (NESTED, ("customer_id",))])
def test_a_share_changes_by_percentage_points_never_by_odds(groups: str, sampled: tuple[str, ...]) -> None:
    words = said(subject_of(f"kept ~ 1 + on_sale + {groups}", "binomial", *sampled))
    assert re.search(r"\): −\d+\.\d percentage points \(95 % interval −\d+\.\d to −\d+\.\d\), averaged over all line items", words)
    assert "odds" not in words and "log" not in words
    assert ("15 customers" in words) == bool(sampled)


def test_a_two_part_outcome_changes_by_dollars_of_both_parts_together() -> None:
    words = said(subject_of(f"spend ~ 1 + on_sale + {FLAT}", "hurdle_gamma"))
    assert words.count("On sale (yes, against no)") == 1
    assert re.search(r"\): −\$\d\.\d\d \(95 % interval −\$\d\.\d\d to −\$\d\.\d\d\), averaged over all line items", words)
    assert "odds" not in words


def test_a_two_part_outcome_whose_mean_needs_a_sigma_is_told_part_by_part() -> None:
    words = said(subject_of(f"spend ~ 1 + on_sale + {FLAT}", "hurdle_lognormal"))
    assert "the outcome is above zero less often; by how much depends on the group" in words
    assert "On sale (yes, against no), where the outcome is above zero: −" in words
    assert "odds" not in words


def test_a_failed_check_of_dependence_stands_beside_every_interval() -> None:
    subject = subject_of(f"amount ~ 1 + on_sale + {FLAT}", "gaussian", "customer_id")
    words = said(subject)
    assert "but line items of one customer are alike, and the formula leaves customers out" in words
    assert "As the intervals stand, of 3 categories" in words
    assert "highest is settled" not in words
    figure = steps_figure(subject, "region", level_datasets(subject)["region"])
    assert figure.speaks_of.endswith("too narrow: line items of one customer are alike, and the formula leaves customers out.")
    assert dependence_sentence(subject_of(f"amount ~ 1 + on_sale + {NESTED}", "gaussian", "customer_id"), "region") == ""


def levels(*rows: tuple[str, float, float, int, int]) -> Subject:
    """A subject of one factor: level, estimate, half of the interval, bounds of the rank."""
    columns = [dict(zip(("level", "estimate", "half", "rank_lower", "rank_upper"), row, strict=True)) for row in rows]
    for row in columns:
        half = float(row.pop("half"))
        row |= {"lower": row["estimate"] - half, "upper": row["estimate"] + half, "grouping_factor": "shop_id", "is_new": False, "n": 10}
        row |= {"no_pooling_estimate": None, "complete_pooling_estimate": 2.0, "parent_level": None}
    empty = pa.table({name: [] for name in ("pooling", "term", "std_error", "lower")})
    nothing = pa.table({"grouping_factor": [], "term": pa.array([], pa.string())})
    tables = {"group_estimates": pa.Table.from_pylist(columns), "population_coefficients": empty}
    return Subject(tables | {"variance_components": nothing, "group_coefficients": nothing}, {}, {}, {})


def test_what_is_settled_is_told_and_what_is_not() -> None:
    words = answer(levels(("A", 3.0, 0.5, 1, 1), ("B", 2.0, 0.5, 2, 3), ("C", 1.0, 0.5, 2, 3)))[1].text
    assert words.startswith("Of 3 shops, 1 is clearly above their average of 2 (A), 1 is clearly below it (C).")
    assert "The other one cannot be told from it." in words
    assert "That A is highest is settled" in words


def test_levels_that_cannot_be_told_apart_are_not_ranked() -> None:
    words = answer(levels(("A", 2.1, 1.0, 1, 3), ("B", 2.0, 1.0, 1, 3), ("C", 1.9, 1.0, 1, 3)))[1].text
    assert words.startswith("Of 3 shops none can be told from their average of 2.")
    assert "Which is highest is not settled: 3 have rank 1 in their 95 % interval (A, B, C)." in words


def test_the_first_line_says_what_failed_checks_do_to_the_numbers() -> None:
    found = effects_of([{"check": "sampled[customer_id]"}, {"check": "dispersion_ratio"}, {"check": "max_r_hat"}])
    assert found.startswith("Intervals can be several times too narrow, and ranks look more settled than they are; the sampler")
    assert found.count("narrow") == 1
    assert effects_of([{"check": "something_else"}]) == "Read the numbers that it names with care."
    assert effects_of([]) == ""
    assert effects_of([{"check": "predictive_dispersion", "value": 0.4}]).startswith("Intervals are wider than they need be")
    assert effects_of([{"check": "predictive_dispersion", "value": 2.1}]).startswith("Intervals are too narrow")


@pytest.mark.parametrize(
    ("coded", "words", "step"),
    [
        ({"predictor": "on_sale", "level": "true", "reference": "false"}, "On sale (yes, against no)", 1.0),
        ({"predictor": "has_coupon", "level": "true", "reference": "false"}, "Coupon (yes, against no)", 1.0),
        ({"predictor": "is_weekend", "level": "false", "reference": "true"}, "Weekend (no, against yes)", 1.0),
        ({"predictor": "channel", "level": "web", "reference": "shop"}, "Channel (web, against shop)", 1.0),
        ({"predictor": "own", "step": 1.0, "is_flag": True}, "Own (yes, against no)", 1.0),
        ({"predictor": "unit_price", "step": 1.0}, "Unit price higher by 1", 1.0),
        ({"predictor": "income", "step": 10_000.0}, "Income higher by 10,000", 10_000.0),
        ({"predictor": "income", "step": 0.7, "is_log": True}, "Income twice as high", 0.7),
        ({"predictor": "income", "step": 1.0, "is_standard": True}, "Income higher by one standard deviation", 1.0),
        ({"predictor": "income_missing", "step": 1.0}, "Income not known, against the average income", 1.0),
        ({"predictor": "n_missing", "step": 1.0}, "N missing higher by 1", 1.0),
        (
            {"predictor": "own", "means": "within", "group": "category_key", "step": 1.0, "is_flag": True},
            "Own (yes, against no) in the same category",
            1.0,
        ),
        (
            {"predictor": "own", "means": "between", "group": "a:category_key", "step": 1.0, "is_flag": True},
            "A category with a share of own higher by 10 percentage points",
            0.1,
        ),
        (
            {"predictor": "price", "means": "within", "group": "category_key", "step": 10.0, "is_log": False},
            "Price higher by 10 in the same category",
            10.0,
        ),
        (
            {"predictor": "price", "means": "between", "group": "category_key", "step": 0.7, "is_log": True},
            "A category whose price is typically twice as high",
            0.7,
        ),
    ],
)
def test_a_predictor_names_what_it_is_compared_with(coded: dict[str, object], words: str, step: float) -> None:
    study = {"missing": {"income": "mean_and_indicator"}}
    found = compared(Subject({}, study, {}, {}), "t", coded)
    assert found is not None and (found.words, found.step) == (words, step)


def test_terms_of_which_no_single_comparison_speaks_are_counted_only() -> None:
    """Interactions and arithmetic: their names are columns, which say nothing to who reads the answer."""
    words = said(subject_of(f"amount ~ 1 + on_sale * is_web + {FLAT}", "gaussian"))
    assert "3 effects are under “Complete, no and partial pooling”." in words
    assert "is_web" not in words and "on_sale" not in words
    words = said(subject_of(f"log(amount) ~ 1 + on_sale + log(income) + income:is_web + {FLAT}", "gaussian"))
    assert "On sale (yes, against no)" in words and "income" not in words.lower()


def test_group_level_predictors_are_told_in_words() -> None:
    words = said(subject_of(f"log(amount) ~ 1 + within(on_sale, category_key) + log(income) + is_web + {FLAT}", "gaussian"))
    assert "Income twice as high: " in words
    assert "in the same category: −" in words
    assert "Web (yes, against no): " in words
    assert not re.search(r"log\(|within\(|_", words)


def test_columns_are_said_as_people_say_them() -> None:
    assert [column_words(name) for name in ("customer_id", "income_group", "category_key", "_id", "x")] == [
        "customer",
        "income group",
        "category",
        "_id",
        "x",
    ]
    assert [plural(words) for words in ("category", "day", "branch", "income group", "person")] == [
        "categories",
        "days",
        "branches",
        "income groups",
        "people",
    ]
    assert (counted(1, "household"), counted(1_200, "household")) == ("1 household", "1,200 households")


def test_names_of_columns_and_levels_cannot_act_on_the_page(make_tables, study, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    tables = make_tables(20)
    check = tables["diagnostics"].to_pylist()[0] | {"check": f"sampled[{hostile}]", "passed": False, "message": hostile}
    tables["diagnostics"] = pa.Table.from_pylist([*tables["diagnostics"].to_pylist(), check], schema=tables["diagnostics"].schema)
    facts = {"coded_terms": [{"term": "on_sale", "predictor": hostile, "level": hostile, "reference": hostile}]}
    text = write_report(tables, facts, {}, tmp_path / "r.html", study=study | {"unit": hostile}).read_text(encoding="utf-8")
    assert hostile not in text
    assert hostile in html.unescape(text)
