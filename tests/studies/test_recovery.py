"""Simulated shops: the published intervals hold the true values that the shop was made from, as often as they say."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pytest

from groupwise.compression.compress import compress
from groupwise.shop.simulate_shop import simulate_shop
from groupwise.source.relation import Relation
from multilevel.cells.files import read_cells
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import fit_options
from sql import read_query

FORMULAS = {
    "log_amount": "log_amount ~ 1 + discount + channel + region_income + (1 | region) + (1 + discount | department/category)",
    "log_price": "log_price ~ 1 + discount + (1 | region/customer_id) + (1 | department/category)",
}
HELD = """
select avg(cast(truth.value between found.deviation_lower and found.deviation_upper as double)), count(*)
from truth
inner join found on truth.grouping_factor = found.grouping_factor and truth.level = found.level
    and truth.term = found.term and coalesce(truth.parent_level, '') = coalesce(found.parent_level, '')
where truth.outcome = $outcome and truth.parameter = 'deviation' and found.pooling = 'partial'
"""
N_DEVIATIONS = {"log_amount": 10 + 2 * 6 + 2 * 60, "log_price": 10 + 300 + 6 + 60}


def held(folder: Path, outcome: str, seed: int, draws: int) -> float:
    """Share of a shop's group-level deviations whose 95 % interval holds the truth; two trees, crossed, customers among the levels."""
    folder.mkdir()
    database = folder / "shop.duckdb"
    simulate_shop(database, 15_000, customers=300, products=200, categories=60, regions=10, seed=seed)
    relation = Relation("shop", str(database), (), read_query("simulated_line_items"), date(2026, 1, 1))
    formula = parse_formula(FORMULAS[outcome])
    cells = compress(relation, read_query("simulated_line_items"), formula, "gaussian", folder)
    options = fit_options("shop", date(2026, 1, 1), "r1", "bayesian", sampling={"draws": draws}, seed=seed)
    tables = fit_study(formula, read_cells(cells.cells_path, cells.spec_path), options).tables
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.register("found", tables["group_coefficients"])
        share, n = connection.execute(HELD, {"outcome": outcome}).fetchone() or (0.0, 0)
    assert n == N_DEVIATIONS[outcome]
    return float(share)


def check_shops(folder: Path, outcome: str, shops: int, draws: int) -> None:
    found = np.array([held(folder / f"shop{seed}", outcome, seed, draws) for seed in range(shops)])
    error = found.std(ddof=1) / np.sqrt(shops)  # deviations of one shop share its variance components: the shop is the unit
    assert abs(found.mean() - 0.95) < 3 * error + 0.01, (found.mean(), error)


@pytest.mark.calibration
@pytest.mark.parametrize("outcome", FORMULAS)
def test_deviations_of_a_few_shops_hold_the_truth(outcome: str, tmp_path: Path) -> None:
    check_shops(tmp_path, outcome, 4, 250)


@pytest.mark.calibration
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("outcome", FORMULAS)
def test_deviations_of_many_shops_hold_the_truth(outcome: str, tmp_path: Path) -> None:
    check_shops(tmp_path, outcome, 40, 500)
