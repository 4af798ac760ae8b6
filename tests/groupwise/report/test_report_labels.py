"""Labels and orders of levels are words and places on the page and in the terminal: no number, table or key changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import groupwise as gw
from groupwise.commands.show import show_tables
from groupwise.report.compared import compared, effect_name
from groupwise.report.part_labels import told_apart
from groupwise.report.sections import contents
from groupwise.report.subject import Subject
from groupwise.study.study_labels import Labels
from groupwise.term_order import TermOrder
from multilevel.errors import StudyError
from multilevel.formula.parse import parse_formula

LABELS = {
    "sz": {"name": "portion", "levels": {"S": "small", "M": "medium", "L": "large"}},
    "dept": {"name": "department", "levels": {"D0": "bakery"}},
    "cat": {"levels": {"C1": "bread"}},
    "amount": "spend",
    "shop": {"levels": {"S0": "north"}},
}
ORDER = {"sz": ["S", "M", "L"], "dept": ["D2", "D0", "D1"]}
FORMULA = "amount ~ 1 + sz + (1 | dept/cat) + (1 | shop)"


@pytest.fixture(scope="module")
def sales() -> pd.DataFrame:
    rng = np.random.default_rng(12)
    i = np.arange(360)
    frame = pd.DataFrame({name: [f"{name[0].upper()}{k}" for k in codes] for name, codes in (("dept", i % 3), ("cat", i // 3 % 4))})
    frame["sz"], frame["shop"] = [list("SML")[k] for k in i // 12 % 3], [f"S{k}" for k in i // 36 % 5]
    frame["amount"] = 10 + i % 3 + i // 12 % 3 + 0.5 * (i // 36 % 5) + rng.normal(0, 1, 360)
    return frame


@pytest.fixture(scope="module")
def fits(sales: pd.DataFrame) -> tuple[gw.Fit, gw.Fit]:
    """Without labels, and with them; the reference is S in both."""
    plain = gw.fit(FORMULA, sales, engine="likelihood", name="spend", levels={"sz": ORDER["sz"]}, cells=("dept", "shop"))
    return plain, gw.fit(FORMULA, sales, engine="likelihood", name="spend", levels=ORDER, labels=LABELS, cells=("dept", "shop"), unit=None)


def test_labels_and_the_order_of_groups_change_no_number(fits: tuple[gw.Fit, gw.Fit]) -> None:
    plain, labelled = fits
    for name, table in plain.arrow_tables.items():
        assert labelled.arrow_tables[name].drop_columns(["run_id"]).equals(table.drop_columns(["run_id"])), name


def test_another_reference_leaves_the_groups_as_they_are(sales: pd.DataFrame, fits: tuple[gw.Fit, gw.Fit]) -> None:
    """The same model in another coding: tolerance of the optimiser."""
    other = gw.fit(FORMULA, sales, engine="likelihood", name="spend", levels={"sz": ["L", "M", "S"]}, cells=("dept", "shop"))
    assert list(other.summary().fixed_effects.index) == ["Intercept", "sz[M]", "sz[S]"]
    assert list(fits[0].summary().fixed_effects.index) == ["Intercept", "sz[M]", "sz[L]"]
    for name in ("estimate", "lower", "upper"):
        np.testing.assert_allclose(other.group_estimates[name], fits[0].group_estimates[name], rtol=1e-5)


def subject(fit: gw.Fit) -> Subject:
    report, validation = fit._facts()
    return Subject(told_apart(fit.arrow_tables), fit.study.model_dump(mode="json"), report, validation).with_labels()


def test_the_page_speaks_in_labels(fits: tuple[gw.Fit, gw.Fit]) -> None:
    about = subject(fits[1])
    made, datasets = contents(about)
    page = json.dumps([repr(made), datasets], default=str)
    for words in ("bakery", "bread", "against small", "department", "spend"):
        assert words in page
    assert set(datasets["levels/dept"]["level"]) == {"bakery", "D1", "D2"}
    assert set(datasets["levels/dept:cat"]["parent"]) == {"bakery", "D1", "D2"}
    assert set(datasets["cells"]["product"]) == {"north", "S1", "S2", "S3", "S4"}
    assert (about.unit, about.factor_words("dept:cat")) == ("spend", "cat in department")


def test_an_effect_names_the_reference_by_its_label(fits: tuple[gw.Fit, gw.Fit]) -> None:
    coded = {"predictor": "sz", "level": "L", "reference": "S"}
    found = compared(subject(fits[1]), "sz[L]", coded)
    assert found is not None
    assert found.words == "Portion (large, against small)"
    assert effect_name(subject(fits[1]), "sz[L]") == "portion[large]"


def test_labels_that_would_make_two_levels_one_are_not_used(fits: tuple[gw.Fit, gw.Fit]) -> None:
    about = subject(fits[0])
    study = {**about.study, "labels": {"dept": {"levels": {"D0": "D1"}}}}
    again = Subject(about.tables, study, about.report, about.validation).with_labels()
    assert again.tables["group_estimates"].equals(about.tables["group_estimates"])


def test_show_prints_terms_as_the_formula_has_them_under_their_labels(
    fits: tuple[gw.Fit, gw.Fit], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(fits[1].publish(str(tmp_path / "published")).folder)
    capsys.readouterr()
    show_tables(folder, 5)
    shown = capsys.readouterr().out
    read = ("Intercept", "portion[medium]", "portion[large]", "Variance components", "residual", "bakery")
    places = [shown.index(words) for words in read]
    assert places == sorted(places)
    assert "department, spend" in shown
    show_tables(folder, 5, "json")
    found = json.loads(capsys.readouterr().out)
    assert [row["term"] for row in found["population_coefficients"]][:3] == ["Intercept", "sz[M]", "sz[L]"], "programs get the data's words"
    assert {row["level"] for row in found["group_estimates"] if row["grouping_factor"] == "dept"} >= {"D0", "D1", "D2"}


def test_standard_deviations_come_before_correlations_and_the_residual_after_the_groups() -> None:
    order = TermOrder(parse_formula("y ~ 1 + b + a + (1 + b | g) + (1 | e)"), Labels())
    rows: list[dict[str, Any]] = [
        {"grouping_factor": factor, "term": term, "other_term": other, "quantity": "sd" if other is None else "correlation"}
        for factor, term, other in [
            ("residual", "sigma", None), ("g", "b", "Intercept"), ("e", "Intercept", None), ("g", "b", None), ("g", "Intercept", None)
        ]
    ]  # fmt: skip
    found = [(row["grouping_factor"], row["term"], row["other_term"]) for row in sorted(rows, key=order.component)]
    assert found == [
        ("g", "Intercept", None), ("g", "b", None), ("e", "Intercept", None), ("residual", "sigma", None), ("g", "b", "Intercept")
    ]  # fmt: skip
    assert sorted(["a", "b", "Intercept"], key=order.term) == ["Intercept", "b", "a"]


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("sz[L]", "portion[large]"),
        ("on:sz[L]", "on:portion[large]"),
        ("C(sz)[S]", "portion[small]"),
        ("log(sz)", "log(sz)"),
        ("dept", "department"),
    ],
)
def test_terms_under_their_labels(term: str, words: str) -> None:
    found = {name: label if isinstance(label, dict) else {"name": label} for name, label in LABELS.items()}
    assert Labels.of({"labels": found}).term(term) == words


def test_a_study_with_rules_labels_and_a_zone_is_written_and_read(tmp_path: Path) -> None:
    rules = (
        {"check": "unique", "column": "id", "keep": "one"},
        {"check": "between", "column": "day", "min": "2024-01-01", "when": "sz == 'S'"},
    )
    study = gw.Study(name="s", formula=FORMULA, source="x.csv", labels=LABELS, levels=ORDER, rules=rules, timezone="Europe/Berlin")
    assert gw.Study.read(study.write(tmp_path / "s.yaml")) == study


def test_two_levels_have_two_labels() -> None:
    with pytest.raises(StudyError, match="labels: sz: two levels have one label"):
        gw.Study(name="s", formula=FORMULA, source="x.csv", labels={"sz": {"levels": {"S": "x", "M": "x"}}})
