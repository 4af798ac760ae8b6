"""What a predictor changes on the outcome's scale: against the rows one by one, with the predictor set by hand."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.estimands import average_differences as module
from multilevel.estimands.average_differences import average_differences, coded_terms
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


def logit(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


def test_a_share_changes_by_the_average_over_rows_of_the_difference_of_probabilities() -> None:
    found = fitted("kept ~ 1 + size + x + (1 + x | g)", "binomial")
    frame, design, mean = rows(), found.parts[0].design, found.parts[0].fit.joint.mean
    beta = {column.label: mean[place] for place, column in enumerate(design.population)}
    own = mean[len(design.population) :].reshape(8, 2)[frame.g]
    base = beta["Intercept"] + own[:, 0] + (beta["x"] + own[:, 1]) * frame["x"].to_numpy()
    differences = {each.of.term: each for each in average_differences(expected_outcome(found.parts))}
    size = logit(base + beta["size[M]"]) - logit(base)
    assert differences["size[M]"].summary.estimate[0] == pytest.approx(size.mean(), rel=1e-9)
    level = sum(beta.get(f"size[{label}]", 0.0) * (frame["size"] == label).to_numpy() for label in ("S", "M"))
    more = logit(base + level + beta["x"] + own[:, 1]) - logit(base + level)
    assert differences["x"].summary.estimate[0] == pytest.approx(more.mean(), rel=1e-9)
    true = logit(frame["eta"] - 0.3) - logit(frame["eta"])
    assert differences["x"].summary.lower[0] < true.mean() < differences["x"].summary.upper[0]
    assert differences["size[M]"].of.reference == "L"


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
    [difference] = average_differences(expected_outcome(found.parts))
    assert difference.summary.estimate[0] == pytest.approx(np.mean(expected[0] - expected[1]), rel=1e-9)
    assert found.report["average_differences"][0]["term"] == "x"


def test_a_predictor_in_an_interaction_has_no_difference_of_its_own() -> None:
    found = fitted("kept ~ 1 + size * x + (1 | g)", "binomial")
    assert coded_terms(found.parts[0].design) == []


def test_where_coefficients_say_it_nothing_is_averaged() -> None:
    found = fitted("spend ~ 1 + size + (1 | g)", "gaussian")
    assert average_differences(expected_outcome(found.parts)) == []
    assert [term["reference"] for term in found.report["coded_terms"]] == ["L", "L"]


def test_many_cells_are_taken_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fitted("kept ~ 1 + x + (1 | g)", "binomial")
    [whole] = average_differences(expected_outcome(found.parts))
    monkeypatch.setattr(module, "MOST_CELLS", 20)
    [some] = average_differences(expected_outcome(found.parts))
    # 20 of 32 cells: within a tenth of the difference
    assert some.summary.estimate[0] == pytest.approx(whole.summary.estimate[0], rel=0.1)
    assert some.summary.estimate[0] != whole.summary.estimate[0]
