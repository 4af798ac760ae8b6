"""A linear mixed model from rows in DuckDB to estimates, beside lme4, GPBoost and statsmodels on the same rows in memory.

Run: ``python -m benchmarks linear_peers [rows ...]``: a million rows beside every peer and ten million beside GPBoost alone, or the sizes
named, beside every peer; lme4 takes more than twelve minutes for ten million rows, so that it runs there only when that size is named.
statsmodels, which cannot cross factors at these sizes, fits 20,000 rows of one factor. Imports and Prefect's start are counted on no side;
whole processes are printed beside.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import duckdb

from benchmarks._lme4 import NOT_INSTALLED, run_lme4
from groupwise.compression.compress import compress
from groupwise.source.relation import Relation
from multilevel.cells.files import read_cells
from multilevel.design.build import build_design
from multilevel.formula.parse import parse_formula
from multilevel.linear.linear_engine import fit_linear

FORMULA = "y ~ x + (1 | region) + (1 + x || category)"
ONE_FACTOR = "y ~ x + (1 + x | category)"
SMALL = 20_000
REPEATS = 3

ROWS = """
create table line_items as
with drawn as (
    select
        cast(floor(50 * pow(random(), 1.5)) as bigint) as region,
        cast(floor(200 * pow(random(), 1.5)) as bigint) as category,
        sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()) as x,
        sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()) as noise
    from range({rows})
)
select region, category, x,
    1 + 0.5 * x + sin(region * 12.9898) * 0.5 + sin(category * 78.233) * 0.7 + sin(category * 39.425) * 0.4 * x + noise as y
from drawn
"""

GPBOOST = """
import sys, time
import duckdb, gpboost, numpy as np
rows = duckdb.connect(sys.argv[1], read_only=True).execute("select * from line_items").df()
start = time.perf_counter()
model = gpboost.GPModel(
    group_data=rows[["region", "category"]].to_numpy(), group_rand_coef_data=rows[["x"]].to_numpy(), ind_effect_group_rand_coef=[2],
    likelihood="gaussian",
)
model.fit(y=rows["y"].to_numpy(), X=np.column_stack([np.ones(len(rows)), rows["x"]]))
print(time.perf_counter() - start)
"""

STATSMODELS = """
import sys, time
import duckdb, statsmodels.formula.api as smf
rows = duckdb.connect(sys.argv[1], read_only=True).execute("select * from line_items").df()
start = time.perf_counter()
smf.mixedlm("y ~ x", rows, groups="category", re_formula="~x").fit(reml=True)
print(time.perf_counter() - start)
"""

STUDY = """
name: bench
formula: {formula}
source: {{parquet: {folder}/rows.parquet}}
engine: likelihood
publish_to: {folder}/published
"""


def main(*sizes: int) -> None:
    """Print seconds and ratios, at the sizes named or at a million and ten million rows."""
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        for n_rows in sizes or (1_000_000, 10_000_000):
            at_size(Path(folder) / str(n_rows), n_rows, with_lme4=bool(sizes) or n_rows <= 1_000_000)
        small = make_rows(Path(folder) / "small.duckdb", SMALL)
        ours(small, Path(folder) / "small0", ONE_FACTOR)
        seconds = sum(ours(small, Path(folder) / "small1", ONE_FACTOR))
        compare(Path(folder), "statsmodels", STATSMODELS, small, seconds, f"{SMALL:,} rows, {ONE_FACTOR}")
        print(f"peak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


def at_size(folder: Path, n_rows: int, *, with_lme4: bool) -> None:
    """Ours, then lme4 and GPBoost."""
    folder.mkdir()
    database = make_rows(folder / "rows.duckdb", n_rows)
    cold = ours(database, folder / "cold", FORMULA)
    seconds = min((ours(database, folder / f"warm{at}", FORMULA) for at in range(REPEATS)), key=sum)
    print(f"groupwise, {n_rows:,} rows in DuckDB to estimates with intervals: {sum(seconds):.2f} s", end=" ")
    print(f"(query {seconds[0]:.2f}, fit {seconds[1]:.2f}; first call, with numba's compilation or its cache, {sum(cold):.2f})", flush=True)
    if with_lme4:
        compare_with_lme4(folder, database, n_rows, sum(seconds))
    else:
        print(f"lme4, {n_rows:,} rows: left out; `python -m benchmarks linear_peers {n_rows}` runs it, for more than twelve minutes")
    compare(folder, "gpboost", GPBOOST, database, sum(seconds), f"{n_rows:,} rows, its standard errors left out")
    database.unlink()


def make_rows(database: Path, n_rows: int) -> Path:
    """Rows of 50 x 200 unbalanced crossed levels, the second with a slope of its own."""
    with duckdb.connect(str(database)) as connection:
        connection.execute("select setseed(0.5)")
        connection.execute(ROWS.format(rows=n_rows))
    return database


def ours(database: Path, folder: Path, formula: str) -> tuple[float, float]:
    """Seconds of the query (to cells on disk) and of everything after it."""
    start = time.perf_counter()
    parsed = parse_formula(formula)
    relation = Relation("bench", str(database), (), "select * from line_items", date(2026, 1, 1))
    cells = compress(relation, "select * from line_items", parsed, "gaussian", folder)
    middle = time.perf_counter()
    fit_linear(build_design(parsed, read_cells(cells.cells_path, cells.spec_path)))
    return middle - start, time.perf_counter() - middle


def compare_with_lme4(folder: Path, database: Path, n_rows: int, seconds: float) -> None:
    """lme4's fit, and whole processes: Rscript from a CSV file, groupwise from a Parquet file to published tables."""
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute(f"copy line_items to '{folder / 'rows.csv'}'")
        connection.execute(f"copy line_items to '{folder / 'rows.parquet'}'")
    theirs = run_lme4(folder / "rows.csv", FORMULA, "region,category")
    (folder / "rows.csv").unlink()
    if theirs is None:
        print(NOT_INSTALLED)
        return
    (folder / "bench.yaml").write_text(STUDY.format(formula=FORMULA, folder=folder), encoding="utf-8")
    start = time.perf_counter()
    command = [sys.executable, "-m", "groupwise", "estimate", str(folder / "bench.yaml")]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    process = time.perf_counter() - start
    print(f"lme4, {n_rows:,} rows: {theirs.seconds:.1f} s; ratio {theirs.seconds / seconds:.0f}")
    print(f"whole processes: groupwise {process:.1f} s, Rscript {theirs.process:.1f} s; ratio {theirs.process / process:.1f}")


def compare(folder: Path, name: str, script: str, database: Path, seconds: float, remark: str) -> None:
    """A Python peer in a process of its own, its reading of the rows not counted."""
    if find_spec(name) is None:
        print(f"{name} is not installed (pip install -r requirements-peers.lock) and is left out")
        return
    done = subprocess.run([sys.executable, "-c", script, str(database)], capture_output=True, text=True, check=True, cwd=folder)
    theirs = float(json.loads(done.stdout.split()[-1]))
    print(f"{name}: {theirs:.2f} s ({remark}); groupwise {seconds:.2f} s; ratio {theirs / seconds:.1f}")
