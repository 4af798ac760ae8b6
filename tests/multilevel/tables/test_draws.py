"""The seventh table: joint draws that agree with what the other tables say, of either engine; and the posterior kept for ArviZ."""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from multilevel.catalogue.published_tables import check_table
from multilevel.cells.from_rows import cells_from_frame
from multilevel.errors import FitError, StudyError
from multilevel.fit.interval_estimates import joint_draws
from multilevel.formula.parse import parse_formula
from multilevel.prediction import posterior_file
from multilevel.prediction.posterior_file import posterior_tree, unwritable, write_posterior
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options
from multilevel.tables import draws as draws_module

N_DRAWS = 2000
KEY = ["grouping_factor", "parent_level", "level", "term"]


FORMULA = "strength ~ 1 + late + (1 + late | batch) + (1 | batch:cask)"


@cache
def pastes(engine: str) -> StudyFit:
    return fitted(engine)


def fitted(engine: str, rows: int = N_DRAWS, formula: str = FORMULA, **given: object) -> StudyFit:
    """Ten batches of four casks, eight samples a cask, early and late."""
    rng = np.random.default_rng(8)
    batch, cask, late = (column.ravel() for column in np.meshgrid(np.arange(10), np.arange(4), np.arange(8) % 2, indexing="ij"))
    intercepts, slopes, casks = rng.normal(0, 2, 10), rng.normal(0, 1, 10), rng.normal(0, 1, (10, 4))
    strength = 60 + intercepts[batch] + casks[batch, cask] + (1 + slopes[batch]) * late + rng.normal(0, 0.8, len(batch))
    names = np.array(list("ABCDEFGHIJ"))[batch], np.array(list("abcd"))[cask]
    frame = pd.DataFrame({"batch": names[0], "cask": names[1], "late": late.astype(float), "strength": strength})
    parsed = parse_formula(formula)
    options = fit_options("pastes", datetime.date(2026, 11, 1), "run", engine, draws=rows, seed=4, **given)  # type: ignore[arg-type]
    return fit_study(parsed, cells_from_frame(parsed, frame, "gaussian"), options)


@pytest.fixture(scope="module", params=["likelihood", "bayesian"])
def fit(request: pytest.FixtureRequest) -> StudyFit:
    return pastes(request.param)


@pytest.fixture(scope="module")
def bayesian() -> StudyFit:
    return pastes("bayesian")


def frame(fit: StudyFit, name: str) -> pd.DataFrame:
    return fit.tables[name].to_pandas()


def test_the_table_keeps_its_contract_and_every_quantity_has_every_draw(fit: StudyFit) -> None:
    assert check_table("draws", fit.tables["draws"]) == []
    counted = ["count", "count_distinct", "min", "max"]
    by_quantity = fit.tables["draws"].group_by(["source_table", *KEY, "other_term", "quantity"])
    counts = by_quantity.aggregate([("draw", each) for each in counted]).select([f"draw_{each}" for each in counted])
    assert {tuple(row.values()) for row in counts.to_pylist()} == {(N_DRAWS, N_DRAWS, 1, N_DRAWS)}


def test_the_rows_stand_in_the_order_of_the_key(fit: StudyFit) -> None:
    table = fit.tables["draws"]
    key = ["source_table", *KEY, "other_term", "quantity", "draw"]
    assert table.equals(table.sort_by([(name, "ascending") for name in key]))


def test_draws_say_whether_they_are_a_posterior_or_a_normal_approximation(fit: StudyFit) -> None:
    rows = frame(fit, "draws")
    named = {"likelihood": "normal_joint", "bayesian": "posterior"}[rows.engine[0]]
    assert set(rows.distribution) == {named}
    has_components = "variance_components" in set(rows.source_table)
    assert has_components == (named == "posterior")


def test_draws_join_the_tables_that_they_are_of_and_have_their_means_and_spreads(fit: StudyFit) -> None:
    rows = frame(fit, "draws").fillna({"parent_level": ""})
    groups = rows[rows.source_table == "group_coefficients"].groupby(KEY).value.agg(["mean", "std"])
    told = frame(fit, "group_coefficients").query("not is_new").fillna({"parent_level": ""}).set_index(KEY)
    both = told.join(groups, how="inner")
    assert len(both) == len(told) == len(groups)
    # 2,000 draws: a mean's Monte Carlo error is 2.2 % of an sd, an sd's 1.6 %; five of each over some eighty comparisons
    assert np.abs((both["mean"] - both.estimate) / both.std_error).max() < 0.11
    assert np.abs(both["std"] / both.std_error - 1).max() < 0.1
    population = rows[rows.source_table == "population_coefficients"].groupby("term").value.agg(["mean", "std"])
    partial = frame(fit, "population_coefficients").query("pooling == 'partial'").set_index("term")
    assert np.abs((population["mean"] - partial.estimate) / partial.std_error).max() < 0.11


def test_rows_of_one_draw_belong_together(fit: StudyFit) -> None:
    """Every row of a draw is made from the same draw of coefficients and effects."""
    assert fit.fit is not None
    design, joint = fit.fit.design, joint_draws(fit.fit, N_DRAWS, seed=4)
    rows = frame(fit, "draws").query("term == 'Intercept' and quantity == 'coefficient'").fillna({"level": "", "grouping_factor": ""})
    wide = rows.pivot_table(index="draw", columns=["grouping_factor", "level"], values="value", aggfunc="first")
    batches = design.blocks[0]
    place = len(design.population) + design.starts[0] + 2 * list(batches.factor.levels).index("C")
    np.testing.assert_allclose(wide["", ""], joint[:, 0], rtol=1e-12)
    np.testing.assert_allclose(wide["batch", "C"], joint[:, 0] + joint[:, place], rtol=1e-12)


def test_variance_components_of_a_posterior_are_drawn_with_the_coefficients(bayesian: StudyFit) -> None:
    rows = frame(bayesian, "draws").query("source_table == 'variance_components'").fillna({"other_term": ""})
    key = ["grouping_factor", "term", "other_term", "quantity"]
    drawn = rows.groupby(key).value.agg(["mean", "std"])
    told = frame(bayesian, "variance_components").fillna({"other_term": ""}).set_index(key)
    both = told.join(drawn, how="inner")
    assert len(both) == len(told) == len(drawn)
    assert np.abs((both["mean"] - both.estimate) / both.std_error).max() < 0.11


def test_more_rows_than_fit_are_refused_before_fitting_with_how_many_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws_module, "MOST_ROWS", 50_000)
    with pytest.raises(StudyError, match=r"draws: rows 2000: 2,000 draws of 62 coefficients are more than 50,000 rows; write 806 or fewer"):
        fitted("likelihood")


def test_a_posterior_is_kept_with_chains_draws_and_coordinates_named_by_level(bayesian: StudyFit) -> None:
    assert bayesian.fit is not None
    posterior = posterior_tree(bayesian.fit, {"study": "pastes"})["posterior"].to_dataset()
    assert posterior.sizes["chain"] * posterior.sizes["draw"] == 4000
    assert posterior.attrs["study"] == "pastes"
    one = posterior["effects_batch:cask"].sel({"batch:cask_level": "A:b", "batch:cask_term": "Intercept"})
    above = posterior["effects_batch"].sel(batch_level="A", batch_term="Intercept")
    summed = posterior["beta"].sel(term="Intercept") + above + one
    told = frame(bayesian, "group_coefficients").query("parent_level == 'A' and level == 'b' and term == 'Intercept'").iloc[0]
    assert float(summed.mean()) == pytest.approx(told.estimate, rel=1e-10)
    assert float(summed.std(ddof=1)) == pytest.approx(told.std_error, rel=1e-10)
    components = frame(bayesian, "variance_components").set_index(["grouping_factor", "term", "quantity"]).estimate
    assert float(posterior["sd_batch"].sel(batch_term="late").mean()) == pytest.approx(components["batch", "late", "sd"])
    correlation = posterior["correlation_batch"].sel(batch_term="Intercept", batch_other_term="late")
    assert float(correlation.mean()) == pytest.approx(components["batch", "Intercept", "correlation"])
    assert float(posterior["sigma"].mean()) == pytest.approx(components["residual", "sigma", "sd"])


def test_blocks_of_one_factor_stand_side_by_side() -> None:
    fit = fitted("bayesian", 100, "strength ~ 1 + late + (1 + late || batch)", sampling={"draws": 100, "chains": 2, "tune": 200}).fit
    assert fit is not None
    posterior = posterior_tree(fit, {})["posterior"].to_dataset()
    assert posterior["effects_batch"].shape == (2, 100, 10, 2)
    assert list(posterior["batch_term"].values) == ["Intercept", "late"]
    assert "correlation_batch" not in posterior


def test_arviz_reads_the_kept_file(bayesian: StudyFit, tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="h5netcdf writes through h5py")
    import arviz

    assert bayesian.fit is not None
    write_posterior(bayesian.fit, tmp_path / "posterior.nc", {"run_id": "run"})
    read = arviz.from_netcdf(tmp_path / "posterior.nc")
    assert read["posterior"].attrs["run_id"] == "run"
    expected = posterior_tree(bayesian.fit, {"run_id": "run"})["posterior"].to_dataset()
    assert read["posterior"].to_dataset().load().identical(expected)
    assert arviz.rhat(read, var_names=["beta"])["beta"].max() < 1.02


def test_a_posterior_that_cannot_be_kept_is_a_failed_check_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posterior_file, "find_spec", lambda name: None)
    check = unwritable()
    assert check is not None
    assert not check.passed
    assert not check.gate
    assert "h5py is not installed" in check.message


def test_the_likelihood_engine_has_no_posterior_to_keep() -> None:
    fit = pastes("likelihood").fit
    assert fit is not None
    with pytest.raises(FitError, match="no posterior draws to keep"):
        posterior_tree(fit, {})


def test_the_observed_data_are_cells(bayesian: StudyFit) -> None:
    """Eighty cells of four samples: casks by early and late; independent draws have no statistics of a sampler, densities no cells."""
    assert bayesian.fit is not None
    tree = posterior_tree(bayesian.fit, {})
    assert set(tree.children) == {"posterior", "observed_data"}
    observed = tree["observed_data"].to_dataset()
    cells = bayesian.fit.design.cells
    assert observed.sizes["cell"] == cells.n_cells
    assert float(observed["n"].sum()) == cells.n_rows == 320
    assert set(observed["batch_of_cell"].values) == set("ABCDEFGHIJ")


@pytest.mark.operations
@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_the_log_likelihood_of_discrete_outcomes_is_that_of_the_cells_rows_and_arviz_takes_it() -> None:
    import arviz
    from scipy.special import expit
    from scipy.stats import bernoulli

    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(12), 30), np.tile(np.arange(2), 180)
    rows = pd.DataFrame({"g": [f"g{k}" for k in g], "x": x.astype(float), "y": (rng.random(360) < 0.3 + 0.03 * g).astype(int)})
    parsed = parse_formula("y ~ 1 + x + (1 | g)")
    sampling = {"draws": 200, "chains": 2, "tune": 300}
    options = fit_options("ones", datetime.date(2026, 11, 1), "run", "bayesian", draws=100, seed=4, sampling=sampling)
    fit = fit_study(parsed, cells_from_frame(parsed, rows, "binomial"), options).fit
    assert fit is not None
    tree = posterior_tree(fit, {})
    posterior, likelihood = tree["posterior"].to_dataset(), tree["log_likelihood"].to_dataset()["outcome"]
    draw = {"chain": 1, "draw": 17}
    effects = posterior["effects_g"].sel(g_term="Intercept", **draw).to_series()
    beta = posterior["beta"].sel(**draw).to_series()
    own = bernoulli.logpmf(rows.y, expit(beta["Intercept"] + beta["x"] * rows.x + rows.g.map(effects)))
    expected = pd.Series(own).groupby(rows.g).sum()
    found = likelihood.sel(**draw).to_series().groupby(likelihood["g_of_cell"].values).sum()
    np.testing.assert_allclose(found[expected.index], expected, rtol=1e-10)
    assert {"diverging", "n_steps", "lp", "energy"} & set(tree["sample_stats"].data_vars) >= {"diverging", "n_steps"}
    assert tree["sample_stats"]["diverging"].shape == (2, 200)
    assert np.isfinite(arviz.loo(tree).elpd)
