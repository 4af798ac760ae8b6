"""Differences of published averages against the joint distribution that they come from, for every kind of outcome and both engines."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from scipy.special import expit, ndtr

from multilevel.cells.from_rows import cells_from_frame
from multilevel.estimands.fitted_part import expected_outcome
from multilevel.fit.interval_estimates import combined, moments
from multilevel.formula.parse import parse_formula
from multilevel.prediction.average_contrast import average_contrasts, choices
from multilevel.prediction.save_model import save_model
from multilevel.prediction.saved_averages import SavedAverages, saved_averages
from multilevel.prediction.saved_folder import SavedFolder
from multilevel.prediction.write_joint import write_joint
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options


def rows(n: int = 1_500) -> pd.DataFrame:
    rng = np.random.default_rng(11)
    g, h, x = rng.integers(0, 6, n), rng.integers(0, 5, n), rng.normal(size=n)
    eta = 0.5 * rng.normal(size=6)[g] + 0.4 * rng.normal(size=5)[h] + 0.3 * x
    frame = pd.DataFrame({"g": [f"G{i}" for i in g], "h": h, "x": x.round(), "y": eta + rng.normal(size=n)})
    frame["paid"] = np.exp(eta + 0.6 * rng.normal(size=n))
    frame["bought"] = rng.random(n) < expit(eta)
    frame["spend"] = np.where(rng.random(n) < expit(1 + eta), frame.paid, 0.0)
    return frame


CASES = {
    "gaussian": ("y ~ x + (1 + x | g) + (1 | h)", "gaussian", "likelihood"),
    "log": ("log(paid) ~ x + (1 | g) + (1 | h)", "gaussian", "likelihood"),
    "share": ("bought ~ x + (1 | g) + (1 | h)", "binomial", "likelihood"),
    "two parts": ("spend ~ x + (1 | g) + (1 | h)", "hurdle_lognormal", "likelihood"),
    "posterior": ("y ~ x + (1 | g) + (1 | h)", "gaussian", "bayesian"),
}


@pytest.fixture(scope="module", params=CASES)
def kept(request: pytest.FixtureRequest) -> tuple[StudyFit, SavedAverages]:
    formula, family, engine = CASES[request.param]
    parsed = parse_formula(formula)
    study = fit_study(parsed, cells_from_frame(parsed, rows(), family), fit_options("s", date(2026, 1, 31), "r", engine))
    models = [save_model(part, formula, moments={}, fills={}) for part in study.parts]
    assert study.tree is not None
    found = saved_averages(
        expected_outcome(study.parts),
        study.tree,
        study.parts[-1].variance,
        [model for model in models if model is not None],
        study.tables["group_estimates"],
    )
    return study, next(each for each in found if each.factor == "g")


def test_differences_are_those_of_the_table_and_errors_those_of_its_rows(kept: tuple[StudyFit, SavedAverages]) -> None:
    study, averages = kept
    table = study.tables["group_estimates"].to_pandas().query("grouping_factor == 'g' and not is_new").set_index("level")
    names = list(averages.levels)
    for pair in average_contrasts(averages, range(6), names):
        assert pair.difference == table.estimate[pair.level_a] - table.estimate[pair.level_b]
        # correlation lies between -1 and 1, and what is shared makes the difference surer than independence would
        assert 0 < pair.std_error <= 1.02 * np.hypot(table.std_error[pair.level_a], table.std_error[pair.level_b])
        if pair.ratio is not None:
            assert pair.ratio[0] == table.estimate[pair.level_a] / table.estimate[pair.level_b]
            assert pair.ratio[1] < pair.ratio[0] < pair.ratio[2]
    np.testing.assert_allclose(
        np.hypot(np.linalg.norm(averages.spread, axis=1) / np.sqrt(averages.spread.shape[1] - 1), averages.own),
        table.std_error[names],
        rtol=1e-5,
    )


def test_intervals_of_few_groups_are_those_of_the_mixture_over_theta() -> None:
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(4), 8)
    frame = pd.DataFrame({"g": [f"G{i}" for i in g], "y": 10 + 0.5 * rng.normal(size=4)[g] + rng.normal(size=32)})
    parsed = parse_formula("y ~ 1 + (1 | g)")
    study = fit_study(parsed, cells_from_frame(parsed, frame, "gaussian"), fit_options("s", date(2026, 1, 31), "r", "likelihood"))
    model = save_model(study.parts[0], "y ~ 1 + (1 | g)", moments={}, fills={})
    assert model is not None
    assert study.tree is not None
    [kept] = saved_averages(expected_outcome(study.parts), study.tree, None, [model], study.tables["group_estimates"])
    [pair] = average_contrasts(kept, [0, 3], ["G0", "G3"])
    # the difference of two levels' averages is that of their effects
    row = csr_array(np.array([[0.0, 1.0, 0.0, 0.0, -1.0]]))
    expected = combined(study.parts[0].fit, row)
    np.testing.assert_allclose([pair.lower, pair.upper], [expected.lower[0], expected.upper[0]], rtol=1e-4)
    assert abs(pair.upper + pair.lower - 2 * pair.difference) > 0.01 * pair.std_error
    found = moments(study.parts[0].fit, row)
    above = float(ndtr(found.mean / np.sqrt(found.variance))[0] @ found.weights)
    assert pair.probability == pytest.approx(above, abs=1e-4)


def test_choices_add_up(kept: tuple[StudyFit, SavedAverages]) -> None:
    _, averages = kept
    found = choices(averages, range(6), averages.levels)
    assert sum(each.probability_best for each in found) == pytest.approx(1.0)
    best = max(found, key=lambda each: each.probability_best)
    assert best.expected_loss == min(each.expected_loss for each in found) >= 0.0


def test_the_file_gives_them_back(kept: tuple[StudyFit, SavedAverages], tmp_path: Path) -> None:
    study, averages = kept
    models = [model for part in study.parts if (model := save_model(part, "y ~ 1 + (1 | g)", moments={}, fills={})) is not None]
    write_joint(models, tmp_path, [averages])
    [back] = SavedFolder(tmp_path).averages("g", averages.levels)
    assert (back.factor, back.of, back.levels, back.parents, back.has_draws, back.is_positive, back.interval) == (
        averages.factor,
        averages.of,
        averages.levels,
        averages.parents,
        averages.has_draws,
        averages.is_positive,
        averages.interval,
    )
    for name in ("estimate", "std_error", "spread", "own"):
        np.testing.assert_array_equal(getattr(back, name), getattr(averages, name))
    assert (back.at_points is None) == (averages.at_points is None)
    if back.at_points is not None and averages.at_points is not None:
        for name in ("away", "roots", "weights"):
            np.testing.assert_array_equal(getattr(back.at_points, name), getattr(averages.at_points, name))


def test_new_members_are_compared_with_the_errors_of_their_population() -> None:
    frame = rows()
    frame["u"] = frame.g + "." + (np.arange(len(frame)) % 15).astype(str)
    formula = "y ~ x + (1 | g/u)"
    parsed = parse_formula(formula)
    options = fit_options("s", date(2026, 1, 31), "r", "likelihood", sampled=("u",))
    study = fit_study(parsed, cells_from_frame(parsed, frame, "gaussian"), options)
    model = save_model(study.parts[0], formula, moments={}, fills={})
    assert model is not None and study.tree is not None
    table = study.tables["group_estimates"]
    found = saved_averages(expected_outcome(study.parts), study.tree, None, [model], table, ("u",))
    assert [(each.factor, each.of) for each in found] == [("g", "population"), ("g", "members"), ("g:u", "members")]
    published = table.to_pandas().query("grouping_factor == 'g' and not is_new").set_index("level")
    new, members = (average_contrasts(each, (0, 3), ("G0", "G3"))[0] for each in found[:2])
    assert new.difference == published.population_estimate["G0"] - published.population_estimate["G3"]
    assert new.std_error > members.std_error
    # everything that is unknown of a new member's average comes from the coefficients
    assert (found[0].own < 1e-2 * found[0].std_error).all()
    errors = published.population_std_error[["G0", "G3"]]
    assert new.std_error == pytest.approx(float(np.hypot(*errors)), rel=0.2)


def test_a_linear_difference_has_the_error_of_its_combination() -> None:
    parsed = parse_formula("y ~ x + (1 | g)")
    study = fit_study(parsed, cells_from_frame(parsed, rows(), "gaussian"), fit_options("s", date(2026, 1, 31), "r", "likelihood"))
    assert study.fit is not None and study.tree is not None
    model = save_model(study.parts[0], "y ~ x + (1 | g)", moments={}, fills={})
    assert model is not None
    [averages] = saved_averages(expected_outcome(study.parts), study.tree, None, [model], study.tables["group_estimates"])
    difference = model.contrasts["g", "Intercept"][[0]] - model.contrasts["g", "Intercept"][[3]]
    expected = combined(study.fit, difference)
    [pair] = average_contrasts(averages, (0, 3), ("G0", "G3"))
    assert pair.difference == pytest.approx(float(expected.estimate[0]), abs=1e-9)
    assert pair.std_error == pytest.approx(float(expected.std_error[0]), rel=1e-5)
    assert (pair.lower, pair.upper) == pytest.approx((float(expected.lower[0]), float(expected.upper[0])), rel=1e-5)
