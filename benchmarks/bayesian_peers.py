"""Effective draws a second, everything included, beside bambi with nutpie, its fastest sampler here, on the same rows.

Run: ``python -m benchmarks bayesian_peers [rows]``: line items of the simulated shop, 100 x 200 crossed levels with a slope. Beyond
20,000 rows bambi is left out.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import closing
from datetime import date
from pathlib import Path

import duckdb

from groupwise.compression.compress import compress
from groupwise.shop.simulate_shop import simulate_shop
from groupwise.source.relation import Relation, connect
from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.cells.files import read_cells
from multilevel.design.build import build_design
from multilevel.formula.parse import parse_formula
from sql import read_query

FORMULA = "y ~ 1 + x + (1 | region) + (1 + x | category)"
REGIONS, CATEGORIES = 100, 200
PEERS_ROWS = 20_000
BAMBI = Path(".venv-bambi/bin/python")


def main(n_rows: int = PEERS_ROWS) -> None:
    """Print seconds, smallest bulk ESS and their ratio for us and, up to 20,000 rows, for bambi."""
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        database = Path(folder) / "rows.duckdb"
        simulate_shop(Path(folder) / "shop.duckdb", n_rows, regions=REGIONS, categories=CATEGORIES)
        shop = Relation("bench", str(Path(folder) / "shop.duckdb"), (), "select 1", date(2026, 1, 1))
        rows = f"select log_amount as y, discount as x, region, category from ({read_query('simulated_line_items')})"
        with closing(connect(shop)) as connection:
            frame = connection.execute(rows).df()  # noqa: F841 (DuckDB reads it by name)
        with duckdb.connect(str(database)) as connection:
            connection.execute("create table line_items as select * from frame")
        cold, _ = ours(database, Path(folder) / "cold")
        seconds, ess = ours(database, Path(folder) / "warm")
        print(f"groupwise, {n_rows:,} rows: {seconds:.1f} s (first call in a process {cold:.1f} s), smallest bulk ESS {ess:,.0f}, ", end="")
        print(f"{ess / seconds:,.0f} a second, {ess / cold:,.0f} from cold")
        if n_rows > PEERS_ROWS:
            print(f"bambi is left out beyond {PEERS_ROWS:,} rows")
        elif not BAMBI.exists():
            print("bambi is not installed; `make benchmarks` makes an environment for it")
        else:
            theirs_seconds, theirs = bambi(database)
            print(f"bambi (nutpie): {theirs_seconds:.1f} s, smallest bulk ESS {theirs:,.0f}, {theirs / theirs_seconds:.2f} a second")
            print(f"ratio {ess / seconds / (theirs / theirs_seconds):,.0f}, from cold {ess / cold / (theirs / theirs_seconds):,.0f}")


def ours(database: Path, folder: Path) -> tuple[float, float]:
    """Seconds from rows in DuckDB to draws, and the smallest bulk ESS over every coefficient, effect and variance component."""
    start = time.perf_counter()
    formula = parse_formula(FORMULA)
    relation = Relation("bench", str(database), (), "select * from line_items", date(2026, 1, 1))
    cells = compress(relation, "select * from line_items", formula, "gaussian", folder)
    fit = fit_bayesian(build_design(formula, read_cells(cells.cells_path, cells.spec_path)), "gaussian", seed=1)
    return time.perf_counter() - start, float(next(check.value or 0 for check in fit.checks if check.check == "min_ess_bulk"))


def bambi(database: Path) -> tuple[float, float]:
    """The same of bambi's default model and draws, over the same quantities; its imports are not counted."""
    done = subprocess.run([str(BAMBI), "-c", THEIRS, str(database), FORMULA], check=True, capture_output=True, text=True)
    seconds, ess = done.stdout.split()[-2:]
    return float(seconds), float(ess)


THEIRS = """
import sys, time
import arviz as az, bambi as bmb, duckdb, numpy as np, pymc, nutpie
start = time.perf_counter()
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    frame = connection.execute("select * from line_items").df()
model = bmb.Model(sys.argv[2], frame)
data = model.fit(inference_method="nutpie", draws=1000, tune=1000, chains=4, random_seed=1)
seconds = time.perf_counter() - start
ess = az.ess(data)
print(seconds, min(float(np.nanmin(ess[name].values)) for name in ess.data_vars))
"""
