"""``gw.fit``: lme4's numbers, those of ``groupwise estimate``, a summary, contrasts, predictions and comparisons."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest

import groupwise as gw
from groupwise.interface.python_words import in_python
from groupwise.interface.study_fields import StudyFields
from groupwise.run_folder import RunFolder
from groupwise.study.study import Study
from multilevel.fit.container import Check

SLEEP = "Reaction ~ 1 + Days + (1 + Days | Subject)"
OF_A_RUN = ["study", "run_id", "as_of"]


def test_sleepstudy_has_lme4s_numbers(sleep_fit: gw.Fit) -> None:
    """The printed digits of ``lmer(Reaction ~ Days + (Days | Subject), sleepstudy)``, lme4 1.1-35."""
    summary = sleep_fit.summary()
    fixed = summary.fixed_effects
    assert list(fixed.index) == ["Intercept", "Days"]
    np.testing.assert_allclose(fixed["estimate"], [251.405, 10.467], atol=5e-4)
    np.testing.assert_allclose(fixed["std_error"], [6.825, 1.546], atol=5e-4)
    np.testing.assert_allclose(fixed["t_value"], [36.838, 6.771], atol=5e-3)
    np.testing.assert_allclose(fixed["df"], [17, 17], atol=0.05)
    random = summary.random_effects
    assert list(zip(random["group"], random["term"], strict=True)) == [("Subject", "Intercept"), ("Subject", "Days"), ("residual", "sigma")]
    # the criterion is flat there: lme4's own optimisers differ in the fourth decimal
    np.testing.assert_allclose(random["std_dev"], [24.741, 5.922, 25.592], atol=1e-3)
    np.testing.assert_allclose(summary.correlations["correlation"], [0.066], atol=1e-3)
    assert summary.criteria["reml_criterion"] == pytest.approx(1743.6, abs=0.05)
    assert (summary.n_rows, summary.n_groups) == (180, {"Subject": 18})


def test_the_summary_reads_as_lme4s_does(sleep_fit: gw.Fit) -> None:
    text = str(sleep_fit.summary())
    assert text.index("Random effects:") < text.index("Number of obs: 180; groups: Subject 18") < text.index("Fixed effects:")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "Days 5.922 3.918 to 8.951 0.07" in lines
    assert "Intercept 251.4 6.825 237.0 to 265.8 17.0 36.84" in lines
    # reaction times of some subjects vary twice as much as those of others
    assert lines[-1].startswith("uneven_spread[Subject]: intervals of the levels of Subject whose line items vary most are too narrow")


def test_a_summary_names_the_checks_that_did_not_pass() -> None:
    rng = np.random.default_rng(4)
    # five groups of one distribution: their variance is estimated as zero
    frame = pd.DataFrame({"y": rng.normal(size=100), "g": np.arange(100) % 5})
    frame["y"] -= frame.groupby("g")["y"].transform("mean")
    summary = gw.fit("y ~ 1 + (1 | g)", frame, engine="likelihood").summary()
    assert "singular" in set(summary.failed_checks["check"])
    assert "Checks that did not pass:\n  " in str(summary)


def test_the_numbers_are_those_of_groupwise_estimate(
    sleepstudy: pd.DataFrame,
    sleep_fit: gw.Fit,
    run_until_fitted: Callable[..., RunFolder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    sleepstudy.to_parquet("sleep.parquet")
    Path("sleep.yaml").write_text(f"name: sleep\nformula: {SLEEP}\nsource: {{parquet: sleep.parquet}}\nengine: likelihood\n")
    run = run_until_fitted("sleep.yaml")
    of_command = run.read_tables()
    assert set(of_command) == set(sleep_fit.arrow_tables)
    for name, table in of_command.items():
        own = sleep_fit.arrow_tables[name]
        assert own.schema.equals(table.schema, check_metadata=True)
        assert own.drop_columns(OF_A_RUN).equals(table.drop_columns(OF_A_RUN)), name


def test_tables_are_data_frames(sleep_fit: gw.Fit) -> None:
    # 18 subjects, and what to expect of a new one
    assert list(sleep_fit.group_estimates["is_new"]).count(False) == 18
    assert len(sleep_fit.group_coefficients) == 2 * 19
    assert set(sleep_fit.population_coefficients["pooling"]) == {"complete", "partial"}
    assert set(sleep_fit.diagnostics.loc[~sleep_fit.diagnostics["passed"], "check"]) == {"uneven_spread[Subject]"}
    assert sleep_fit.cell_estimates.empty
    with pytest.raises(gw.StudyError, match="no draws were kept; fit with draws="):
        _ = sleep_fit.draws


def test_draws_are_a_table_where_they_are_asked_for(sleepstudy: pd.DataFrame) -> None:
    fit = gw.fit(SLEEP, sleepstudy, engine="likelihood", draws={"rows": 200})
    assert fit.draws["draw"].nunique() == 200


def test_a_contrast_is_the_difference_of_the_tables_estimates(sleep_fit: gw.Fit) -> None:
    estimates = sleep_fit.group_estimates.set_index("level")["estimate"]
    found = sleep_fit.contrast(308, "309", 310)
    assert list(zip(found["level_a"], found["level_b"], strict=True)) == [("308", "309"), ("308", "310"), ("309", "310")]
    np.testing.assert_allclose(found["difference"], [estimates[a] - estimates[b] for a, b in found[["level_a", "level_b"]].to_numpy()])
    assert found["is_simultaneous"].all()
    of_slopes = sleep_fit.contrast(308, 309, of="coefficient").set_index("term")
    coefficients = sleep_fit.group_coefficients.query("term == 'Days'").set_index("level")["estimate"]
    assert of_slopes.loc["Days", "difference"] == pytest.approx(coefficients["308"] - coefficients["309"])


def test_predictions_keep_the_callers_frame_and_know_new_groups(sleepstudy: pd.DataFrame, sleep_fit: gw.Fit) -> None:
    at = pd.DataFrame({"Subject": ["308", None], "junk": [object(), object()], "Days": [0, 9]}, index=[7, 3])
    found = sleep_fit.predict(at, interval=0.8)
    assert list(found.index) == [7, 3]
    assert list(found.columns) == [*at.columns, "estimate", "std_error", "lower", "upper", "is_new"]
    assert list(found["is_new"]) == [False, True]
    coefficients = sleep_fit.group_coefficients.query("level == '308'").set_index("term")["estimate"]
    population = sleep_fit.summary().fixed_effects["estimate"]
    # group_coefficients are whole coefficients: the population's and the level's own part
    assert found["estimate"].iloc[0] == pytest.approx(coefficients["Intercept"])
    assert found["estimate"].iloc[1] == pytest.approx(population["Intercept"] + 9 * population["Days"])
    assert found["upper"].iloc[1] - found["lower"].iloc[1] > 3 * (found["upper"].iloc[0] - found["lower"].iloc[0])
    assert sleep_fit.predict({"Days": [0], "Subject": [308]})["estimate"].iloc[0] == pytest.approx(found["estimate"].iloc[0])


def test_files_to_predict_at_are_read_as_those_of_the_fit(sleepstudy: pd.DataFrame, tmp_path: Path) -> None:
    rows, at = tmp_path / "rows.csv", tmp_path / "at.csv"
    of_commas = sleepstudy.assign(Days=sleepstudy["Days"] / 4, Subject=sleepstudy["Subject"].map("S {}".format))
    for frame, file in ((of_commas, rows), (of_commas.head(3), at)):
        frame.to_csv(file, sep=";", decimal=",", index=False)
    fit = gw.fit(SLEEP, rows, engine="likelihood", options={"delimiter": ";", "decimal": ","})
    found = fit.predict(at)
    assert list(found["Days"]) == [0.0, 0.25, 0.5]
    assert not found["is_new"].any()
    np.testing.assert_allclose(found["estimate"], fit.predict(of_commas.head(3))["estimate"])
    for suffix, write in {"feather": pd.DataFrame.to_feather, "json": lambda frame, file: frame.to_json(file, orient="records")}.items():
        write(of_commas.head(3), tmp_path / f"at.{suffix}")
        np.testing.assert_allclose(fit.predict(tmp_path / f"at.{suffix}")["estimate"], found["estimate"])


def test_a_comparison_is_anovas(sleepstudy: pd.DataFrame, sleep_fit: gw.Fit) -> None:
    """lme4: ``anova(lmer(Reaction ~ Days + (1 | Subject)), lmer(Reaction ~ Days + (Days | Subject)))`` gives 42.139 with 2 df."""
    smaller = "Reaction ~ 1 + Days + (1 | Subject)"
    found = sleep_fit.compare(smaller, folds=0)
    assert found.test is not None
    assert found.test["chi2"] == pytest.approx(42.139, abs=5e-4)
    assert found.test["df"] == 2
    assert found.gain is None
    assert "chi-square 42.1393 with 2 df" in str(found)
    by_fit = sleep_fit.compare(gw.fit(smaller, sleepstudy, engine="likelihood"), folds=0)
    pd.testing.assert_frame_equal(by_fit.criteria, found.criteria)
    held_out = sleep_fit.compare(folds=3)
    assert held_out.gain is not None
    assert held_out.gain[0] > 0
    assert "left_out_per_row" in held_out.criteria


def test_a_comparison_reads_the_rows_that_were_fitted(sleepstudy: pd.DataFrame) -> None:
    frame = sleepstudy.copy()
    fit = gw.fit(SLEEP, frame, engine="likelihood")
    before = fit.compare(folds=0).criteria
    frame["Reaction"] = 0.0
    pd.testing.assert_frame_equal(fit.compare(folds=0).criteria, before)


def test_the_rows_of_a_fit_are_gone_with_it(sleepstudy: pd.DataFrame) -> None:
    fit = gw.fit(SLEEP, sleepstudy, engine="likelihood")
    home = fit._run.path.parent
    assert home.is_dir()
    del fit
    assert not home.exists()


def test_a_fit_that_fails_leaves_nothing(sleepstudy: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(gw.SourceError):
        gw.fit("Reaction ~ 1 + (1 | Nobody)", sleepstudy)
    assert not list(tmp_path.iterdir())


def test_a_failed_gate_warns_and_gives_the_fit(sleepstudy: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Check("max_r_hat", 1.2, 1.01, passed=False, message="beta[Days] has not converged", gate=True)
    monkeypatch.setattr("multilevel.study.fit_study.failed_gates", lambda checks: (gate,))
    with pytest.warns(gw.GateWarning, match=r"max_r_hat: beta\[Days\] has not converged") as told:
        fit = gw.fit(SLEEP, sleepstudy, engine="likelihood")
    assert told[0].filename == __file__
    assert fit.summary().n_rows == 180


def test_progress_is_told(sleepstudy: pd.DataFrame) -> None:
    told: list[tuple[str, float]] = []
    gw.fit(SLEEP, sleepstudy, engine="likelihood", progress=lambda doing, share: told.append((doing, share)))
    assert told[0] == ("reading the data", 0.0)
    assert [doing for doing, _ in told].index("partial pooling") < [doing for doing, _ in told].index("tables")
    assert told[-1][1] == 1.0


def test_every_field_of_a_study_can_be_given() -> None:
    """Where this fails a field is new: add it to ``StudyFields``."""
    own = set(get_type_hints(StudyFields)) | {"formula", "source", "family", "engine", "name"}
    assert own == set(Study.model_fields)


def test_privacy_suppresses_small_groups_in_memory_too() -> None:
    rng = np.random.default_rng(5)
    n = 400
    frame = pd.DataFrame({"shop": rng.integers(0, 8, n), "person": rng.integers(0, 60, n)})
    frame.loc[frame["shop"] == 0, "person"] = 1
    frame["y"] = rng.normal(size=n) + frame["shop"]
    fit = gw.fit("y ~ 1 + (1 | shop)", frame, engine="likelihood", privacy={"of": "person", "k": 5})
    assert "0" not in set(fit.group_estimates["level"])
    with pytest.raises(gw.SourceError, match="under privacy"):
        fit.contrast(1, 2)


def test_importing_costs_nothing_and_knows_no_prefect() -> None:
    code = """
import sys
before = set(sys.modules)
import time
start = time.perf_counter()
import groupwise as gw
seconds = time.perf_counter() - start
heavy = {"prefect", "pandas", "numpy", "duckdb", "pyarrow", "pydantic", "scipy", "altair", "multilevel"} & set(sys.modules)
import pandas as pd
frame = pd.DataFrame({"y": [1.0, 2, 3, 4, 6, 5, 8, 7], "g": list("aabbccdd")})
gw.fit("y ~ 1 + (1 | g)", frame, engine="likelihood").summary()
unwanted = {"prefect", "great_expectations", "altair", "pymc", "nutpie", "arviz", "numba", "typer", "polars", "scipy.stats"}
unwanted &= set(sys.modules)
print(seconds < 0.5, sorted(heavy), sorted(unwanted))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1) == ["True", "[] []\n"]


def test_public_names_are_all_there() -> None:
    assert set(gw.__all__) <= set(dir(gw))
    assert all(getattr(gw, name) is not None for name in gw.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = gw.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("of_command", "in_words"),
    [
        ("--factor nope: the factors are a, b", "factor=nope: the factors are a, b"),
        ("choose one with --factor.", "choose one with factor."),
        ("choose another --as-of or more days.", "choose another as_of or more days."),
        ("--at: the formula needs x", "data: the formula needs x"),
        ("add --of coefficient.", "add of=coefficient."),
        ("such as --set interval=0.9", "such as interval=0.9"),
        ("a -- b, x--y", "a -- b, x--y"),
    ],
)
def test_messages_name_arguments_in_place_of_options(of_command: str, in_words: str) -> None:
    assert in_python(of_command) == in_words


def test_the_bayesian_engine_is_the_default_as_in_a_study(sleepstudy: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.GateWarning)
        fit = gw.fit(SLEEP, sleepstudy, sampling={"draws": 500, "chains": 2})
    assert fit.study.engine == Study.model_fields["engine"].default == "bayesian"
    fixed = fit.summary().fixed_effects
    assert {"r_hat", "ess_bulk", "ess_tail"} <= set(fixed.columns)
    # the posterior sd of the slope is 1.7: 0.5 is far outside the Monte Carlo error of its mean
    assert fixed.loc["Days", "estimate"] == pytest.approx(10.467, abs=0.5)


def test_no_temporary_folder_is_left_in_the_working_directory(
    sleepstudy: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fit = gw.fit(SLEEP, sleepstudy, engine="likelihood")
    shutil.rmtree(fit._run.path)
    assert not list(tmp_path.iterdir())


def test_aic_and_bic_of_a_restricted_fit_are_of_the_likelihood_itself(sleep_fit: gw.Fit) -> None:
    """lme4's deviance of sleepstudy by maximum likelihood is 1751.9393; two coefficients, three variances, sigma."""
    criteria = sleep_fit.summary().criteria
    assert criteria["reml_criterion"] == pytest.approx(1743.6283, abs=1e-3)
    assert criteria["log_likelihood_ml"] == pytest.approx(-1751.9393 / 2, abs=1e-3)
    assert criteria["aic"] == pytest.approx(1751.9393 + 12.0, abs=1e-3)
    assert criteria["bic"] == pytest.approx(1751.9393 + 6.0 * np.log(180), abs=1e-3)
    assert "log_likelihood" not in criteria
