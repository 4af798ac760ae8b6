"""Eight schools as a study: known standard errors in a Parquet file, the bayesian engine, the published tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from groupwise.pipeline.model_fit import check

STUDY = """
name: eight_schools
title: Effects of coaching in eight schools (Rubin 1981)
unit: points
formula: effect | se(std_error) ~ 1 + (1 | school)
source: {parquet: schools.parquet}
priors: {coefficients: {Intercept: "normal(0, 5)"}, sds: {school: half_cauchy(5)}}
sampling: {draws: 4000}
seed: 4
"""


@pytest.mark.parity
def test_the_published_tables_are_the_exact_posterior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_until_fitted: Any) -> None:
    """Exact quadrature, mu ~ N(0, 5), tau ~ HalfCauchy(5): mu 4.3968 (3.3177), tau 3.5978 (3.2199)."""
    monkeypatch.chdir(tmp_path)
    schools = {"effect": [28, 8, -3, 7, -1, 1, 18, 12.0], "std_error": [15, 10, 16, 11, 9, 11, 10, 18.0], "school": list("ABCDEFGH")}
    pd.DataFrame(schools).to_parquet("schools.parquet")
    Path("schools.yaml").write_text(STUDY)
    run = run_until_fitted("schools.yaml")
    check(run)
    tables = {
        name: pq.read_table(run.tables / f"{name}.parquet").to_pandas() for name in ("population_coefficients", "variance_components")
    }
    mu = tables["population_coefficients"].query("pooling == 'partial'").iloc[0]
    tau = tables["variance_components"].query("pooling == 'partial' and grouping_factor == 'school'").iloc[0]
    error = 4 / 6000**0.5  # four Monte Carlo errors at the smallest ESS seen
    assert mu["estimate"] == pytest.approx(4.3968, abs=error * 3.3177)
    assert mu["std_error"] == pytest.approx(3.3177, rel=error)
    assert tau["estimate"] == pytest.approx(3.5978, abs=error * 3.2199)
    assert tau["std_error"] == pytest.approx(3.2199, rel=2 * error)
