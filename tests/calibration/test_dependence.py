"""Design effects see customers that the formula leaves out, and hardly ever see any where there are none.

Shops share no code with the model. Seeds are the numbers of the shops. Every
kind of outcome has 100 shops with an omitted customer effect and 250 without one.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pytest

from benchmarks._reliability_page import provenance
from groupwise.compression.compress import compress_rows
from multilevel.cells.files import read_cells, read_units
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import fit_options
from tests.dependent_shops import FORMULAS, DependentShop, dependent_shop

ALIKE, INDEPENDENT = 100, 250
SD = {"gaussian": 0.33, "lognormal": 0.33, "binomial": 0.65, "poisson": 0.26, "negative_binomial": 0.36, "gamma": 0.2}
"""Standard deviations of customers' effects that make design effects of regions a little above 2; for hurdles that of the first part."""


def failed(shop: DependentShop) -> bool:
    """Whether any design effect of the shop's run fails."""
    formula = parse_formula(FORMULAS[shop.kind])
    with TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.register("shop_rows", shop.rows)
        compress_rows(connection, "select * from shop_rows", formula, shop.family, Path(folder), units=["customer_id"])
        files = Path(folder) / "cells.parquet", Path(folder) / "cells.json"
        cells, units = read_cells(*files), read_units(*files)
    options = fit_options("s", date(2026, 1, 31), "r", "likelihood", sampled=("customer_id",))
    table = fit_study(formula, cells, options, units).tables["diagnostics"].select(["check", "passed"]).to_pylist()
    return any(row["check"].startswith("design_effect") and not row["passed"] for row in table)


@pytest.mark.calibration
@pytest.mark.parametrize("kind", FORMULAS)
def test_power_and_false_alarms(kind: str, figures: Path) -> None:
    shops = (dependent_shop(kind, seed, sd=SD.get(kind, 0.72)) for seed in range(ALIKE))
    alike = [(shop.design_effect, failed(shop)) for shop in shops]
    seen = [found for effect, found in alike if effect >= 2.0]
    false = sum(failed(dependent_shop(kind, 10_000 + seed, sd=0.0)) for seed in range(INDEPENDENT))
    median = float(np.median([effect for effect, _ in alike if effect >= 2.0]))
    record = {
        "kind": kind,
        "shops": len(seen),
        "design_effect": median,
        "seen": sum(seen),
        "independent": INDEPENDENT,
        "false_alarms": false,
        **provenance(),
    }
    (figures / f"dependence-{kind}.json").write_text(json.dumps(record, indent=1))
    assert len(seen) >= ALIKE // 2, "the simulator's design effects are below 2"
    assert sum(seen) >= 0.95 * len(seen), record
    assert false <= 2, record
