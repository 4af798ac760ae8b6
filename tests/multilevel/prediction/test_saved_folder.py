"""The joint distribution as tables: rows that are read give what the fit itself gives, with DuckDB alone too; older files stay readable."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_array
from scipy.special import expit

from multilevel.catalogue.joint_tables import JOINT_TABLES, joint_schema
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.effect_rows import deviation_rows
from multilevel.design.nesting import nesting
from multilevel.errors import DataError
from multilevel.estimands.fitted_part import expected_outcome
from multilevel.fit.interval_estimates import std_errors
from multilevel.formula.parse import parse_formula
from multilevel.linear.joint_arrow import arrow_form
from multilevel.linear.joint_normal import NormalJoint
from multilevel.prediction.average_contrast import average_contrasts
from multilevel.prediction.coefficient_contrast import level_contrasts
from multilevel.prediction.npz_file import NpzFile
from multilevel.prediction.prediction_rows import At
from multilevel.prediction.row_predictions import predict
from multilevel.prediction.save_model import save_model, unkept
from multilevel.prediction.saved_averages import saved_averages
from multilevel.prediction.saved_folder import SavedFolder
from multilevel.prediction.write_joint import write_joint
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options

EXACT = 1e-9
"""Both sides are the same numbers in another order of summing; a variance of 1e-9 of the largest loses six digits in the difference."""

EARLIER = Path(__file__).with_name("format_6")

CASES = {
    "chain": ("y ~ x + (1 + x | region/customer) + (1 | customer:category) + (1 | category)", "gaussian", "likelihood"),
    "points": ("y ~ x + (1 + x | region) + (1 | category)", "gaussian", "likelihood"),
    "log": ("log(paid) ~ x + (1 | region/customer) + (1 | category)", "gaussian", "likelihood"),
    "share": ("bought ~ x + (1 | region/customer) + (1 | category)", "binomial", "likelihood"),
    "two parts": ("spend ~ 1 + (1 | region/customer) + (1 | category)", "hurdle_lognormal", "likelihood"),
    "draws": ("y ~ x + (1 + x | region/customer)", "gaussian", "bayesian"),
}


def rows(n: int = 2_500) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    customer, category, x = rng.integers(0, 60, n), rng.integers(0, 9, n), rng.normal(40.0, 2.0, n).round()
    pair = rng.normal(size=(60, 9))[customer, category]
    eta = 0.6 * rng.normal(size=60)[customer] + 0.4 * rng.normal(size=9)[category] + 0.3 * pair + 0.1 * (x - 40.0)
    frame = pd.DataFrame({"customer": customer, "region": [f"r{c % 5}" for c in customer], "category": [f"c{c}" for c in category], "x": x})
    frame["y"] = eta + rng.normal(size=n)
    frame["paid"] = np.exp(eta + 0.5 * rng.normal(size=n))
    frame["bought"] = (rng.random(n) < expit(eta)).astype(int)
    frame["spend"] = np.where(rng.random(n) < expit(1.0 + eta), frame.paid, 0.0)
    return frame


class Kept:
    """A study fitted, its models and averages in memory, and the folder that they were written to."""

    def __init__(self, name: str, folder: Path) -> None:
        formula, family, engine = CASES[name]
        parsed = parse_formula(formula)
        self.study: StudyFit = fit_study(parsed, cells_from_frame(parsed, rows(), family), fit_options("s", date(2026, 1, 31), "r", engine))
        self.models = [model for part in self.study.parts if (model := save_model(part, formula, moments={}, fills={})) is not None]
        assert self.study.tree is not None
        self.averages = saved_averages(
            expected_outcome(self.study.parts),
            self.study.tree,
            self.study.parts[-1].variance,
            self.models,
            self.study.tables["group_estimates"],
        )
        self.path = folder
        write_joint(self.models, folder, self.averages)
        self.folder = SavedFolder(folder)


BY_DEFAULT = ("chain", "points")


@pytest.fixture(scope="module", params=[name if name in BY_DEFAULT else pytest.param(name, marks=pytest.mark.parity) for name in CASES])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    with pytest.MonkeyPatch.context() as patch:
        # so that small studies are kept as those of very many levels are
        patch.setattr("multilevel.prediction.saved_averages.DENSE_LEVELS", 10)
        return Kept(request.param, tmp_path_factory.mktemp("joint"))


def test_every_table_is_what_its_description_says(kept: Kept) -> None:
    for name in JOINT_TABLES:
        assert pq.read_schema(kept.path / f"{name}.parquet").equals(joint_schema(name), check_metadata=True)


def test_contrasts_of_a_few_rows_are_those_of_the_whole_model(kept: Kept) -> None:
    for labels in (("7", "r3:33"), ("r0", "r3")):
        few = kept.folder.at_labels(labels)
        for own, whole in zip(few, kept.models, strict=True):
            if labels[0] not in {level for factor in whole.factors.values() for level in factor.levels}:
                continue
            assert len(own.mean) < len(whole.mean) or len(whole.mean) < 30
            for one, other in zip(level_contrasts(own, *labels), level_contrasts(whole, *labels), strict=True):
                assert (one.term, one.grouping_factor) == (other.term, other.grouping_factor)
                np.testing.assert_allclose(
                    [one.estimate, one.std_error, one.lower, one.upper], [other.estimate, other.std_error, other.lower, other.upper], EXACT
                )


def test_predictions_from_a_few_rows_are_those_of_the_whole_model(kept: Kept) -> None:
    texts = {"customer": ["7", "33.0", None, "nobody"], "region": ["r2", "r3", "r1", "r9"], "category": ["c1", "c2", "c3", None]}
    at = At(4, texts, {"x": np.array([39.0, 40.0, 41.0, 42.0])})
    few = kept.folder.at_rows(texts)
    (one, is_new), (other, was_new) = predict(few, at), predict(kept.models, at)
    np.testing.assert_array_equal(is_new, was_new)
    for name in ("estimate", "std_error", "lower", "upper"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=EXACT)


def test_averages_have_the_published_errors_and_their_contrasts_those_of_the_fit(kept: Kept) -> None:
    table = kept.study.tables["group_estimates"].to_pandas().query("not is_new")
    for averages in kept.averages:
        own = table[table.grouping_factor == averages.factor]
        picked = own.iloc[[0, 1, len(own) - 1]]
        nested = picked.parent_level.notna().all()
        labels = list(picked.parent_level + ":" + picked.level) if nested else list(picked.level)
        found = kept.folder.averages(averages.factor, labels)[0]
        assert set(picked.level) <= set(found.levels) and len(found.levels) <= len(own)
        linear = np.sqrt(np.sum(found.spread.astype(float) ** 2, axis=1) / (found.spread.shape[1] - 1))
        # spreads of small factors are kept in single precision, draws are thinned
        np.testing.assert_allclose(np.hypot(linear, found.own), found.std_error, rtol=0.1 if found.has_draws else 1e-5)
        assert average_contrasts(found, [0, 1], found.levels[:2])[0].std_error > 0


def test_the_arrow_form_has_the_covariance_of_the_fit() -> None:
    formula, family, _ = CASES["chain"]
    parsed = parse_formula(formula)
    study = fit_study(parsed, cells_from_frame(parsed, rows(), family), fit_options("s", date(2026, 1, 31), "r", "likelihood"))
    fit = study.parts[0].fit
    assert fit.unit_free is not None and isinstance(fit.unit_free.joint, NormalJoint)
    form = arrow_form(fit.unit_free.joint)
    assert len(form.core) == 2 + 9 + 10, "customers and their categories are eliminated"
    picks = csr_array(np.random.default_rng(1).normal(size=(25, form.width)))
    dense = fit.unit_free.joint.covariance_root()
    np.testing.assert_allclose(form.covariance_of(picks), (picks @ dense.T) @ (picks @ dense.T).T, atol=1e-12 * form.width)
    np.testing.assert_allclose(form.variance(picks), fit.unit_free.joint.variance(picks), rtol=EXACT)


def test_a_contrast_of_two_customers_with_duckdb_alone(tmp_path: Path) -> None:
    """The query of docs/tables.md: b_i less b_j from their own rows, those of their region, and the core's covariance."""
    kept = Kept("chain", tmp_path)
    fit = kept.study.parts[0].fit
    tree = nesting(fit.design)
    labels = list(tree.factors["region:customer"].levels)
    picked = deviation_rows(fit.design, tree.lineage("region:customer"), "Intercept")
    wanted = std_errors(fit, csr_array(picked[[labels.index("7")]] - picked[[labels.index("12")]]))[0]
    query = Path("docs/joint_contrast.sql").read_text(encoding="utf-8")
    with duckdb.connect() as connection:
        connection.execute(f"set file_search_path = '{tmp_path}'")
        [[found]] = connection.execute(query, {"a": "7", "b": "12", "factor": "region:customer", "term": "Intercept"}).fetchall()
    assert found == pytest.approx(wanted, rel=EXACT)


@pytest.mark.parametrize("engine", ["likelihood", "bayesian"])
def test_a_file_of_before_gives_what_it_gave(engine: str) -> None:
    told = json.loads((EARLIER / f"{engine}.json").read_text(encoding="utf-8"))
    kept = NpzFile(EARLIER / f"{engine}.npz")
    [model] = kept.at_labels(["G1", "G4"])
    [found] = level_contrasts(model, "G1", "G4")
    assert [found.estimate, found.std_error, found.lower, found.upper] == pytest.approx(told["coefficient"], rel=1e-5)
    [averages] = kept.averages("g", ["G1", "G4"])
    [pair] = average_contrasts(averages, [1, 4], ["G1", "G4"])
    assert [pair.difference, pair.std_error, pair.lower, pair.upper] == pytest.approx(told["average"], rel=1e-9)
    summary, _ = predict(kept.bare(), At(3, {"g": ["G1", "G4", None]}, {"x": np.array([0.0, 1.0, 0.5])}))
    predicted = [summary.estimate, summary.std_error, summary.lower, summary.upper]
    np.testing.assert_allclose(predicted, told["predictions"], rtol=1e-5)


def test_damaged_tables_and_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "joint.npz").write_bytes(b"not a saved model")
    with pytest.raises(DataError, match="run groupwise estimate again"):
        NpzFile(tmp_path / "joint.npz").bare()
    (tmp_path / "models.parquet").write_bytes(b"not Parquet")
    with pytest.raises(DataError, match="run groupwise estimate again"):
        SavedFolder(tmp_path).bare()


def test_nothing_is_kept_where_it_would_be_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    formula = "y ~ x + (1 | region/customer) + (1 | customer:category)"
    parsed = parse_formula(formula)
    study = fit_study(parsed, cells_from_frame(parsed, rows(1_200), "gaussian"), fit_options("s", date(2026, 1, 31), "r", "likelihood"))
    assert unkept(study.parts[0].fit) is None
    monkeypatch.setattr("multilevel.prediction.save_model.MOST_CORE", 1)
    assert unkept(study.parts[0].fit) == "more than 1 coefficients are of factors that cross the largest one"
    assert save_model(study.parts[0], formula, moments={}, fills={}) is None
