"""A posterior kept as points of theta, with too many coefficients for draws, as one normal distribution in arrow form."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array, eye_array

from multilevel.bayesian import conditionals, points_fit
from multilevel.cells.from_rows import cells_from_frame
from multilevel.estimands.fitted_part import expected_outcome
from multilevel.estimands.standardise import standardise
from multilevel.fit.theta_points import ThetaPoints
from multilevel.formula.parse import parse_formula
from multilevel.prediction import save_model as saving
from multilevel.prediction import saved_averages as averages_module
from multilevel.prediction.average_contrast import average_contrasts
from multilevel.prediction.points_as_arrow import points_as_arrow
from multilevel.prediction.prediction_rows import At
from multilevel.prediction.row_predictions import predict
from multilevel.prediction.save_model import save_model, unkept
from multilevel.prediction.saved_averages import saved_averages
from multilevel.prediction.saved_folder import SavedFolder
from multilevel.prediction.saved_joint import KeptArrow
from multilevel.prediction.write_joint import write_joint
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options

FORMULA = "y ~ 1 + x + (1 | region/customer) + (1 | category)"


@pytest.fixture(scope="module")
def study() -> StudyFit:
    rng = np.random.default_rng(5)
    n = 3_000
    customer, category, x = rng.integers(0, 200, n), rng.integers(0, 12, n), rng.normal(20.0, 1.0, n).round(1)
    eta = 0.5 * rng.normal(size=200)[customer] + 0.4 * rng.normal(size=12)[category] + 0.2 * (x - 20.0) + 0.5 * rng.normal(size=n)
    text = {"customer": customer, "region": customer % 8, "category": category}
    frame = pd.DataFrame({name: codes.astype(str) for name, codes in text.items()} | {"x": x, "y": eta})
    parsed = parse_formula(FORMULA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(points_fit, "ROOT_VALUES", 0)
        patch.setattr(points_fit, "DENSE_EFFECTS", 0)
        patch.setattr(conditionals, "KEPT_WHOLE", 10**9)
        options = fit_options("s", date(2026, 1, 31), "r", "bayesian", sampling={"form": "importance", "cores": 1})
        return fit_study(parsed, cells_from_frame(parsed, frame, "gaussian"), options)


@pytest.fixture
def few_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "MOST_DRAWN", 50)


def test_every_coefficient_varies_as_in_the_posterior(study: StudyFit) -> None:
    spread = study.parts[0].fit.theta
    assert isinstance(spread, ThetaPoints)
    inner = spread.unmapped()
    width = len(inner.variance)
    every = csr_array(eye_array(width, format="csr"))
    kept = points_as_arrow(inner, every)
    sd = np.sqrt(inner.variance + inner.weights @ (inner.means - inner.weights @ inner.means) ** 2)
    found = kept.moments(every, kept.location)
    np.testing.assert_allclose(np.sqrt(found.variance[:, 0]), sd, rtol=1e-6)
    np.testing.assert_allclose(found.mean[:, 0], inner.weights @ inner.means, rtol=1e-9)
    # what two coefficients have in common: differences of two levels, against those of the mixture
    rng = np.random.default_rng(1)
    pairs = rng.integers(2, width, (300, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    place = np.repeat(np.arange(len(pairs)), 2)
    rows = csr_array((np.tile([1.0, -1.0], len(pairs)), (place, pairs.ravel())), shape=(len(pairs), width))
    exact = inner.spread_about(rows, csr_array((1, width)))
    ratio = np.sqrt(kept.moments(rows, rows @ kept.location).variance[:, 0]) / exact
    assert abs(np.median(ratio) - 1.0) < 0.005
    assert np.all(np.abs(ratio - 1.0) < 0.1)


@pytest.mark.usefixtures("few_drawn")
def test_contrasts_and_predictions_agree_with_the_tables(study: StudyFit, tmp_path: Path) -> None:
    [part] = study.parts
    assert unkept(part.fit) is None
    model = save_model(part, FORMULA, moments={}, fills={})
    assert model is not None
    assert isinstance(model.joint, KeptArrow)
    # log sigma is known as from 3,000 rows less 210 effects
    assert model.log_scale_error == pytest.approx(1.0 / np.sqrt(2.0 * 2_790), rel=0.1)
    assert study.tree is not None
    table = study.tables["group_estimates"]
    averages = saved_averages(expected_outcome(study.parts), study.tree, part.variance, [model], table)
    write_joint([model], tmp_path, averages)
    folder = SavedFolder(tmp_path)
    published = {(row["grouping_factor"], row["level"]): row for row in table.to_pylist() if not row["is_new"]}
    [back] = [one for one in folder.averages("category", ["3", "7"]) if one.of == "members"]
    [pair] = average_contrasts(back, [0, 1], ["3", "7"])
    first, second = (published["category", level] for level in back.levels)
    assert pair.difference == pytest.approx(first["estimate"] - second["estimate"], rel=1e-6)
    assert pair.std_error < np.hypot(first["std_error"], second["std_error"]) * 1.2
    assert back.std_error == pytest.approx([first["std_error"], second["std_error"]])
    coefficients = {(row["grouping_factor"], row["level"], row["term"]): row for row in study.tables["group_coefficients"].to_pylist()}
    models = folder.at_labels(["3"])
    [own] = models
    where = own.factors["category"].levels.index("3")
    row = own.contrasts["category", "Intercept"][[where]]
    told = own.joint.moments(csr_array(row), np.asarray(row @ own.mean))
    expected = coefficients["category", "3", "Intercept"]
    assert float(np.asarray(row @ own.mean)[0]) == pytest.approx(expected["deviation"], rel=1e-6)
    width = expected["deviation_upper"] - expected["deviation_lower"]
    assert 2 * 1.96 * np.sqrt(told.total[0]) == pytest.approx(width, rel=0.05)
    texts = {"region": np.array(["4"], dtype=object), "customer": np.array(["4"], dtype=object), "category": np.array(["3"], dtype=object)}
    summary, _ = predict(folder.at_rows({name: list(values) for name, values in texts.items()}), At(1, texts, {"x": np.array([20.0])}))
    assert summary.lower[0] < summary.estimate[0] < summary.upper[0]


@pytest.mark.parametrize("factor", ["region", "region:customer", "category"])
def test_published_errors_of_a_linear_model_are_those_of_its_coefficients(study: StudyFit, factor: str) -> None:
    assert study.tree is not None
    standard = standardise(expected_outcome(study.parts), study.tree, factor, None)
    assert averages_module._is_of_coefficients_alone(standard)
    labels = averages_module._labels(study.tree, factor)
    _, published = averages_module._of_table(factor, *labels, study.tables["group_estimates"], "members")
    found = averages_module._linear_errors(standard, averages_module._rows(standard))
    np.testing.assert_allclose(found, published, rtol=1e-9)
