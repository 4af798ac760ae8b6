"""What a predictor changes on the outcome's scale: against the rows one by one, with the predictor set by hand."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.estimands import average_differences as module
from multilevel.estimands.average_differences import AverageDifference, average_differences
from multilevel.estimands.coded_terms import CodedTerm, coded_terms
from multilevel.estimands.fitted_part import expected_outcome
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 2_000
    frame = pd.DataFrame({"g": rng.integers(0, 8, n), "size": rng.choice(["S", "M", "L"], n), "x": rng.integers(0, 4, n).astype(float)})
    frame["eta"] = -0.7 + 0.5 * (frame["size"] == "M") - 0.3 * frame["x"] + np.linspace(-0.6, 0.6, 8)[frame.g]
    frame["kept"] = rng.random(n) < 1 / (1 + np.exp(-frame.eta))
    frame["spend"] = frame.kept * rng.gamma(3.0, np.exp(1.0 + 0.1 * frame["x"]) / 3.0)
    return frame


def fitted(formula: str, family: str) -> StudyFit:
    tree = parse_formula(formula)
    options = fit_options("s", datetime.date(2026, 11, 1), "run", "likelihood")
    return fit_study(tree, cells_from_frame(tree, rows(), family), options)


def differences_of(found: StudyFit) -> list[AverageDifference]:
    return average_differences(expected_outcome(found.parts), parse_formula(str(found.report["formula"])))


def logit(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


def test_a_share_changes_by_the_average_over_rows_of_the_difference_of_probabilities() -> None:
    found = fitted("kept ~ 1 + size + x + (1 + x | g)", "binomial")
    frame, design, mean = rows(), found.parts[0].design, found.parts[0].fit.joint.mean
    beta = {column.label: mean[place] for place, column in enumerate(design.population)}
    own = mean[len(design.population) :].reshape(8, 2)[frame.g]
    base = beta["Intercept"] + own[:, 0] + (beta["x"] + own[:, 1]) * frame["x"].to_numpy()
    differences = {each.of.term: each for each in differences_of(found)}
    size = logit(base + beta["size[M]"]) - logit(base)
    assert differences["size[M]"].summary.estimate[0] == pytest.approx(size.mean(), rel=1e-9)
    level = sum(beta.get(f"size[{label}]", 0.0) * (frame["size"] == label).to_numpy() for label in ("S", "M"))
    more = logit(base + level + beta["x"] + own[:, 1]) - logit(base + level)
    assert differences["x"].summary.estimate[0] == pytest.approx(more.mean(), rel=1e-9)
    true = logit(frame["eta"] - 0.3) - logit(frame["eta"])
    assert differences["x"].summary.lower[0] < true.mean() < differences["x"].summary.upper[0]
    assert differences["size[M]"].of.reference == "L"


@pytest.mark.parity
def test_of_two_parts_the_product_changes() -> None:
    found = fitted("spend ~ 1 + x + (1 | g)", "hurdle_gamma")
    frame = rows()
    expected = []
    for more in (1.0, 0.0):
        parts = []
        for part in found.parts:
            mean = part.fit.joint.mean
            parts.append(mean[0] + mean[1] * (frame["x"].to_numpy() + more) + mean[2:][frame.g])
        expected.append(logit(parts[0]) * np.exp(parts[1]))
    [difference] = differences_of(found)
    assert difference.summary.estimate[0] == pytest.approx(np.mean(expected[0] - expected[1]), rel=1e-9)
    assert found.report["average_differences"][0]["term"] == "x"


def test_a_predictor_in_an_interaction_has_no_difference_of_its_own() -> None:
    found = fitted("kept ~ 1 + size * x + (1 | g)", "binomial")
    assert found.report["coded_terms"] == []


def test_where_coefficients_say_it_nothing_is_averaged() -> None:
    found = fitted("spend ~ 1 + size + (1 | g)", "gaussian")
    assert differences_of(found) == []
    assert [term["reference"] for term in found.report["coded_terms"]] == ["L", "L"]


def coded(formula: str) -> dict[str, CodedTerm]:
    tree = parse_formula(formula)
    frame = rows().assign(
        income=lambda each: 40_000.0 + 9_000.0 * each["x"],
        share=lambda each: 0.1 * each["x"],
        flag=lambda each: each["x"] > 1,
        own=lambda each: 1.0 * (each["x"] > 1),
    )
    options = fit_options("s", datetime.date(2026, 11, 1), "run", "likelihood")
    found = fit_study(tree, cells_from_frame(tree, frame, "gaussian"), options)
    return {term.term: term for term in coded_terms(found.parts[0].design, tree)}


def test_a_step_of_a_number_is_one_or_a_power_of_ten_near_its_spread_and_of_a_logarithm_a_doubling() -> None:
    found = coded("spend ~ 1 + x + (1 | g)") | coded("spend ~ 1 + income + (1 | g)") | coded("spend ~ 1 + share + (1 | g)")
    assert {name: each.step for name, each in found.items()} == {"x": 1.0, "income": 10_000.0, "share": 0.1}
    [log] = coded("spend ~ 1 + log(income) + (1 | g)").values()
    assert (log.predictor, log.is_log, log.step) == ("income", True, pytest.approx(np.log(2)))
    [scaled] = coded("spend ~ 1 + scale(income) + (1 | g)").values()
    assert (scaled.is_standard, scaled.step) == (True, 1.0)


def test_the_distance_from_a_mean_and_the_mean_are_told_apart() -> None:
    found = coded("spend ~ 1 + within(x, g) + between(x, g) + (1 | g)")
    assert {name: (each.predictor, each.means, each.group) for name, each in found.items()} == {
        "within(x, g)": ("x", "within", "g"),
        "between(x, g)": ("x", "between", "g"),
    }


def test_numbers_that_are_zero_or_one_are_flags_also_about_their_means() -> None:
    found = coded("spend ~ 1 + within(own, g) + between(own, g) + (1 | g)") | coded("spend ~ 1 + own + (1 | g)")
    assert {name: each.is_flag for name, each in found.items()} == {"within(own, g)": True, "between(own, g)": True, "own": True}
    assert (found["within(own, g)"].step, found["own"].step) == (1.0, 1.0)
    assert not any(each.is_flag for each in coded("spend ~ 1 + within(x, g) + between(x, g) + (1 | g)").values())


@pytest.mark.parametrize("terms", ["x + I(x ** 2)", "x * flag", "x + (1 + log(income):x | g)", "x + within(x, g)", "x + between(x, g)"])
def test_of_a_predictor_in_two_terms_no_single_term_says_what_it_changes(terms: str) -> None:
    groups = "" if "|" in terms else " + (1 | g)"
    assert "x" not in {each.predictor for each in coded(f"spend ~ 1 + {terms}{groups}").values()}


def test_a_column_of_categories_is_named_as_the_rows_have_it() -> None:
    [*found] = coded("spend ~ 1 + C(x) + (1 | g)").values()
    assert {(each.predictor, each.categories, each.reference) for each in found} == {("x", "C(x)", "0.0")}


def test_a_doubling_changes_a_share_by_the_average_over_rows() -> None:
    tree = parse_formula("kept ~ 1 + log(income) + (1 | g)")
    frame = rows().assign(income=lambda each: 2.0 ** (1.0 + each["x"]))
    found = fit_study(tree, cells_from_frame(tree, frame, "binomial"), fit_options("s", datetime.date(2026, 11, 1), "run", "likelihood"))
    mean = found.parts[0].fit.joint.mean
    base = mean[0] + mean[1] * np.log(frame["income"].to_numpy()) + mean[2:][frame.g]
    [difference] = average_differences(expected_outcome(found.parts), tree)
    assert difference.summary.estimate[0] == pytest.approx((logit(base + mean[1] * np.log(2)) - logit(base)).mean(), rel=1e-9)


def test_many_cells_are_taken_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fitted("kept ~ 1 + x + (1 | g)", "binomial")
    [whole] = differences_of(found)
    monkeypatch.setattr(module, "MOST_CELLS", 20)
    [some] = differences_of(found)
    # 20 of 32 cells: within a tenth of the difference
    assert some.summary.estimate[0] == pytest.approx(whole.summary.estimate[0], rel=0.1)
    assert some.summary.estimate[0] != whole.summary.estimate[0]
