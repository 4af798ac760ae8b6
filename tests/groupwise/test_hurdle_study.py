"""A two-part study through the tasks: cells by query, what is refused before the fit, the plan, the run's files and its report."""

import datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from groupwise.comparison import compare_study
from groupwise.compression.compress import compress_rows
from groupwise.planning.dry_run import plan
from groupwise.planning.planned import Plan
from groupwise.report.page import write_report
from groupwise.source.describe import extract
from groupwise.study.study import Study
from groupwise.study.study_file import load_study
from groupwise.validation.validate import validate
from multilevel.cells.files import read_cells
from multilevel.cells.from_rows import cells_from_frame
from multilevel.errors import StudyError
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import fit_options

FORMULA = "amount ~ sale + (1 | region) + (1 | category)"


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    n = 3_000
    amount = rng.lognormal(1, 0.5, n) * (rng.random(n) < 0.5)
    # one cell without a single amount
    frame = pd.DataFrame(
        {"region": rng.integers(0, 5, n), "category": rng.choice(list("abcd"), n), "sale": rng.random(n) < 0.4, "amount": amount}
    )
    frame.loc[(frame.region == 1) & (frame.category == "a"), "amount"] = 0.0
    return frame


def study_file(folder: Path, frame: pd.DataFrame, **fields: object) -> Path:
    frame.to_parquet(folder / "rows.parquet")
    given = {"family": "hurdle_lognormal", "formula": FORMULA, "engine": "likelihood", "cells": "[region, category]"} | fields
    lines = ["name: spend", f"source: {{parquet: {folder / 'rows.parquet'}}}", f"publish_to: {folder / 'published'}"]
    path = folder / "spend.yaml"
    path.write_text("\n".join([*lines, *(f"{name}: {value}" for name, value in given.items())]))
    return path


def work_folder(folder: Path) -> Path:
    """Apart from the line items."""
    work = folder / "work"
    work.mkdir()
    return work


def planned(folder: Path, study: Study) -> Plan:
    relation = extract(study, None, folder, today=datetime.date(2026, 11, 1))
    validated = validate(study, relation, folder)
    return plan(study, relation, validated.study_sql, folder=folder)


@pytest.mark.parametrize("family", ["hurdle_lognormal", "hurdle_gamma"])
def test_the_query_gives_the_cells_of_the_rows(family: str, tmp_path: Path) -> None:
    frame, formula = rows(), parse_formula(FORMULA)
    connection = duckdb.connect()
    connection.register("frame", frame)
    made = compress_rows(connection, "select * from frame", formula, family, tmp_path)
    found, wanted = read_cells(made.cells_path, made.spec_path), cells_from_frame(formula, frame, family)
    keys = [
        pd.Series(np.lexsort([labels.values[labels.codes] for labels in (*c.groups.values(), *c.labels.values())])) for c in (found, wanted)
    ]
    for name in ("n", "weight", "total", "mean", "cross"):
        first, second = (getattr(cells, name)[order] for cells, order in zip((found, wanted), keys, strict=True))
        assert np.allclose(first, second, rtol=1e-12, atol=1e-12), name
    assert found.once == pytest.approx(wanted.once)
    assert (found.weight == 0).any()


def test_the_plan_speaks_of_both_parts_and_counts_the_parameters_of_both(tmp_path: Path) -> None:
    made = planned(tmp_path, load_study(study_file(tmp_path, rows())))
    assert made.refusals == ()
    assert "two parts" in made.words[0]
    assert made.mathematics is not None
    assert any("1{y[i] > 0}" in line for line in made.mathematics.text)
    assert any("log y[i] ~ Normal" in line for line in made.mathematics.text)
    # 2 coefficients and 2 sds in each part, and a sigma
    assert made.n_parameters == 9
    assert made.n_effects == 18
    assert made.cost is not None
    assert "for the occurrence" in made.cost
    assert "for the amount" in made.cost


def test_negative_amounts_are_refused_with_the_column_and_what_is_needed(tmp_path: Path) -> None:
    frame = rows()
    frame.loc[7, "amount"] = -1.0
    with pytest.raises(Exception, match="hurdle_lognormal needs an outcome of zero or more") as refused:
        planned(tmp_path, load_study(study_file(tmp_path, frame)))
    assert "amount" in str(refused.value)


def test_no_zeros_at_all_is_a_refusal_of_the_plan_that_says_what_to_write(tmp_path: Path) -> None:
    frame = rows()
    frame = frame[frame.amount > 0]
    [refusal] = planned(tmp_path, load_study(study_file(tmp_path, frame))).refusals
    assert "write log(amount) ~ ... with family: gaussian" in refusal


def test_what_the_amounts_alone_refuse_is_told_of_them_beside_the_model(tmp_path: Path) -> None:
    frame = rows()
    frame.loc[frame.region != 2, "amount"] = 0.0
    made = planned(tmp_path, load_study(study_file(tmp_path, frame)))
    [refusal] = made.refusals
    assert refusal.startswith("amount: ")
    assert "region" in refusal
    assert "among the line items with an outcome above zero" in refusal
    assert "two parts" in made.words[0]
    assert made.n_parameters == 9


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"formula": "log(amount) ~ sale + (1 | region)"}, "log"),
        ({"formula": "amount ~ offset(sale) + (1 | region)"}, "offset"),
        ({"engine": "bayesian", "draws": "{rows: 100}"}, "draws"),
        ({"engine": "bayesian", "priors": "{sigma: exponential(1)}"}, "occurrence"),
        ({"method": "reml"}, "reml"),
        ({"family": "hurdle"}, "did you mean hurdle_gamma|did you mean hurdle_lognormal"),
    ],
)
def test_what_a_hurdle_cannot_have_is_refused_before_any_data_is_read(tmp_path: Path, fields: dict[str, object], says: str) -> None:
    with pytest.raises(StudyError, match=says):
        load_study(study_file(tmp_path, rows(), **fields))


def test_the_report_tells_both_parts_apart(tmp_path: Path) -> None:
    formula = parse_formula(FORMULA)
    options = fit_options("spend", datetime.date(2026, 11, 1), "run", "likelihood", cells_pair=("region", "category"))
    fitted = fit_study(formula, cells_from_frame(formula, rows(), "hurdle_lognormal"), options)
    study = {"name": "spend", "formula": FORMULA, "family": "hurdle_lognormal", "cells": ["region", "category"]}
    page = write_report(fitted.tables, fitted.report, {}, tmp_path / "report.html", study=study).read_text()
    assert "sale[true] (occurrence)" in page
    assert "sale[true] (amount)" in page
    assert "within groups (amount)" in page
    assert "Bernoulli" in page
    assert "two parts" in page


def test_two_parts_are_compared_together(tmp_path: Path) -> None:
    study = load_study(study_file(tmp_path, rows()[:1_200]))
    found = compare_study(study, FORMULA.replace("sale + ", ""), work_folder(tmp_path), n_folds=3, seed=1)
    test, validation = found.comparison.test, found.validation
    assert test is not None
    assert validation is not None
    # one coefficient fewer in each part
    assert (test.df, test.n_variances) == (2, 0)
    assert test.chi2 > 0
    assert len(validation.full.by_fold) == 3
    assert validation.gain == pytest.approx(validation.full.per_row - validation.reduced.per_row)
    assert found.comparison.full.log_likelihood / found.n_rows == pytest.approx(validation.full.per_row, abs=0.2)


@pytest.mark.parity
@pytest.mark.parametrize("family", ["gamma", "negative_binomial"])
def test_families_with_a_dispersion_are_compared_over_groups(tmp_path: Path, family: str) -> None:
    above = rows()[lambda frame: frame.amount > 0]
    frame = above if family == "gamma" else above.assign(amount=np.rint(above.amount))
    study = load_study(study_file(tmp_path, frame, family=family))
    found = compare_study(study, None, work_folder(tmp_path), n_folds=4, seed=1)
    assert found.validation is not None
    assert found.validation.full.per_row == pytest.approx(found.comparison.full.log_likelihood / found.n_rows, abs=0.3)
