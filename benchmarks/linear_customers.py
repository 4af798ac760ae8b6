"""Ten million rows, heavy-tailed, with a million customers crossed with 200 categories and 50 regions: from rows in DuckDB to estimates.

Run: ``python -m benchmarks linear_customers [rows] [customers]``. Prints seconds by step and the peak memory of the process.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
from scipy.sparse import csr_array

from groupwise.compression.compress import compress_rows
from multilevel.cells.files import read_cells
from multilevel.design.build import build_design
from multilevel.formula.parse import parse_formula
from multilevel.linear.linear_engine import fit_linear

FORMULA = "y ~ x + (1 | customer) + (1 + x | category) + (1 | region)"
TRUTH = {"customer": 0.4, "category": 0.5, "category slope": 0.25, "region": 0.2, "residual": 1.0}

ROWS = """
create or replace table lines as
with effects as (
  select category, (hash(category, 11) % 1000003 / 1000003.0 - 0.5) * sqrt(12) * 0.5 as intercept,
         (hash(category, 12) % 1000003 / 1000003.0 - 0.5) * sqrt(12) * 0.25 as slope
  from range({categories}) as t(category)
),
raw as (
  -- customers by a power of a uniform: sizes are heavy-tailed; half the lines are spread evenly so that (nearly) all of them are seen
  select (case when i % 2 = 0 then i / 2 % {customers} else floor({customers} * pow(random(), 3)) end)::bigint as customer,
         floor({categories} * pow(random(), 1.5))::bigint as category, (random() < 0.3)::int as x,
         sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()) as noise
  from range({rows}) as t(i)
)
select customer, category, customer % {regions} as region, x,
       1 + 0.3 * x + (hash(customer, 13) % 1000003 / 1000003.0 - 0.5) * sqrt(12) * 0.4
       + (hash(customer % {regions}, 14) % 1000003 / 1000003.0 - 0.5) * sqrt(12) * 0.2 + intercept + slope * x + noise as y
from raw join effects using (category)
"""


def main(rows: int = 10_000_000, customers: int = 1_000_000, categories: int = 200, regions: int = 50) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "shop.duckdb")
        connection = duckdb.connect(database, config={"threads": 2, "memory_limit": "3GB"})
        connection.execute(ROWS.format(rows=rows, customers=customers, categories=categories, regions=regions))
        warm_up(connection, Path(folder, "warm"))
        seconds = {}
        began = last = time.perf_counter()

        def lap(step: str) -> None:
            nonlocal last
            seconds[step] = time.perf_counter() - last
            last = time.perf_counter()

        formula = parse_formula(FORMULA)
        study = compress_rows(connection, "select * from lines", formula, "gaussian", Path(folder))
        connection.close()
        lap("cells by one query")
        cells = read_cells(study.cells_path, study.spec_path)
        lap("read cells")
        design = build_design(formula, cells)
        lap("design")
        fit = fit_linear(design)
        lap("fit")
        p = len(design.population)
        start = dict(zip([block.factor.name for block in design.blocks], design.starts, strict=True))["customer"]
        levels = next(block.factor.n_levels for block in design.blocks if block.factor.name == "customer")
        places = np.stack([np.zeros(levels, np.int64), p + start + np.arange(levels)], axis=1)
        one_each = csr_array((np.ones(2 * levels), places.ravel(), np.arange(0, 2 * levels + 1, 2)), shape=(levels, p + design.n_effects))
        errors = fit.joint.combine(one_each, 0.95).std_error
        lap("intervals of every customer")
        print(f"{cells.n_rows:,} rows, {cells.n_cells:,} cells, {levels:,} customers")
        for step, value in seconds.items():
            print(f"{step:32s} {value:8.2f} s")
        print(f"{'in all':32s} {last - began:8.2f} s; peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
        print("record:", fit.record)
        print("sds:", {(c.grouping_factor, c.term): round(c.estimate, 4) for c in fit.components if c.other_term is None}, "truth:", TRUTH)
        print(f"standard errors of customers: {errors.min():.4f} to {errors.max():.4f}")


def warm_up(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Compile (or load) the kernels on a small sample; counted apart."""
    began = time.perf_counter()
    folder.mkdir()
    formula = parse_formula(FORMULA)
    study = compress_rows(connection, "select * from lines where customer % 1009 = 0", formula, "gaussian", folder)
    fit_linear(build_design(formula, read_cells(study.cells_path, study.spec_path)))
    print(f"compile and warm-up {time.perf_counter() - began:.1f} s (not counted)")
