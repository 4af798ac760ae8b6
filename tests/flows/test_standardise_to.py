"""A run that standardises to a table: the published numbers follow it, and the diagnostics and the report say so."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import pytest

type Estimate = Callable[..., tuple[int, str, str]]


def test_a_run_standardises_to_the_table_and_says_so(shop: Path, estimate: Estimate) -> None:
    pd.DataFrame({"on_sale": [True, False], "weight": [1.0, 1.0]}).to_parquet(shop / "mix.parquet")
    code, out, err = estimate("--set", "standardise_to.parquet=mix.parquet", "--set", "publish_to=mixed")
    assert code == 0, err
    folder = shop / out.splitlines()[-1]
    population, groups, checks = (
        pd.read_parquet(folder / f"{name}.parquet") for name in ("population_coefficients", "group_coefficients", "diagnostics")
    )
    beta = population.query("pooling == 'partial'").set_index("term").estimate
    region = groups.query("grouping_factor == 'region' and level == 'R1'").iloc[0].deviation
    category = groups.query("grouping_factor == 'category' and not is_new").set_index("level").deviation
    lines = pd.read_parquet(shop / "lines.parquet").query("day >= '2024-01-01'")
    sold = [lines[lines.on_sale == is_sold].category.map(category).mean() for is_sold in (True, False)]
    expected = beta["Intercept"] + beta["on_sale[true]"] / 2 + region + sum(sold) / 2
    query = f"select estimate from '{folder}/group_estimates.parquet' where grouping_factor = 'region' and level = 'R1'"
    assert duckdb.sql(query).fetchall()[0][0] == pytest.approx(expected, rel=1e-9)
    [source] = checks.query("check == 'weights_source'").message
    assert "mix.parquet: weights of on_sale (2 rows, sha256 " in source
    [page] = [page for page in (shop / "mixed" / "spend" / "reports").rglob("*.html") if "validation" not in page.name]
    assert source.rsplit("sha256 ", 1)[1][:16] in page.read_text()


def test_a_level_that_the_fit_does_not_know_stops_the_run(shop: Path, estimate: Estimate) -> None:
    pd.DataFrame({"region": ["R1", "Nowhere"], "weight": [1.0, 1.0]}).to_parquet(shop / "strange.parquet")
    code, _, err = estimate("--set", "standardise_to.parquet=strange.parquet", "--set", "publish_to=strange")
    assert code != 0
    assert "region Nowhere: no line item of the fit has it" in err
    assert not (shop / "strange").exists() or not list((shop / "strange").rglob("*.parquet"))
