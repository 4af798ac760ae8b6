"""Seconds and memory by how many line items there are, read whole and with statistics kept by day. Writes its table into docs/scaling.md.

Run: ``python -m benchmarks line_item_scaling [N ...]``, on a quiet machine; without a number for a million and ten million line items.
Each phase runs in a separate process, so that peak memory is measured phase by phase.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from benchmarks._calibration_page import markdown
from benchmarks._reliability_page import provenance, provenance_line, replace_block
from groupwise.pipeline.order import asking
from groupwise.pipeline.own_process import InTurn
from groupwise.pipeline.steps import CONDENSE, COUNT, compress, extract, validate
from groupwise.run_folder import RunFolder
from groupwise.shop.simulate_shop import simulate_shop
from groupwise.statistics.gather import gather_cells, gather_facts
from groupwise.study.study import Study
from sql import read_query

PAGE = Path("docs") / "scaling.md"
SIZES = (1_000_000, 10_000_000)
TODAY = date(2026, 1, 1)
STUDY: dict[str, Any] = {
    "name": "scaling",
    "formula": "log_amount ~ 1 + discount + (1 + discount | region) + (1 | department/category)",
    "source": {"parquet": "lake/*.parquet"},
    "window": {"column": "ts", "days": 365},
    "as_of": "2026-01-01",
    "engine": "likelihood",
}
KEPT = {"statistics": {"partition": "day", "keep": "kept"}}
BARE = """
select region, department, category, count(*), favg(log_amount), favg(discount), var_pop(log_amount), var_pop(discount),
    covar_pop(log_amount, discount)
from read_parquet('lake/*.parquet') group by all
"""
"""The cells' columns without fingerprint, rules, needs and checks."""


def main(*sizes: int) -> None:
    """Measure every size, and write the table."""
    load = os.getloadavg()[0]
    rows = [_measured(n) for n in sizes or SIZES]
    heads = [
        "line items",
        "bare group by",
        "read whole",
        "peak memory",
        "first run that keeps",
        "one day corrected",
        "nothing changed",
        "kept",
    ]
    units = "Seconds from the line items to the cells of the window, with two threads. The fit of the cells is the same in all columns.\n"
    machine = f"Load of the machine before the runs: {load:.1f} on {os.cpu_count()} cores.\n"
    block = f"{units}\n{markdown(heads, rows)}\n{provenance_line([provenance()])}{machine}"
    print(block)
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), "line-items", block), encoding="utf-8")


def _measured(n: int) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        _phase(folder, "make", n)
        bare, _ = _phase(folder, "bare", n)
        whole, memory = _phase(folder, "whole", n)
        first, _ = _phase(folder, "kept", n)
        _phase(folder, "correct", n)
        day, _ = _phase(folder, "kept", n)
        same, _ = _phase(folder, "kept", n)
        size = sum(path.stat().st_size for path in Path(folder, "kept").rglob("*.parquet"))
    return [
        f"{n:,}",
        *(f"{one:.1f}" for one in (bare, whole)),
        f"{memory:,.0f} MB",
        *(f"{one:.1f}" for one in (first, day, same)),
        f"{size / 1e6:,.0f} MB",
    ]


def _phase(folder: str, phase: str, n: int) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a phase, run in a separate process."""
    command = [sys.executable, "-m", "benchmarks.line_item_scaling", phase, str(n), folder]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    found = json.loads(done.stdout.splitlines()[-1])
    return float(found["seconds"]), float(found["megabytes"])


def make(n: int) -> None:
    """A lake of one Parquet file a month."""
    simulate_shop(Path("shop.duckdb"), n, customers=max(1_000, n // 500), products=2_000, categories=200, regions=50, seed=1)
    Path("lake").mkdir()
    with duckdb.connect("shop.duckdb", read_only=True) as connection:
        for month in range(1, 13):
            rows = f"select ts, customer_id, region, department, category, discount, log_amount from ({read_query('simulated_line_items')})"
            connection.execute(f"copy ({rows} where month(ts) = {month} order by ts) to 'lake/m{month:02}.parquet'")
    Path("shop.duckdb").unlink()


def bare(n: int) -> None:
    """A group by of the same columns, with as many threads."""
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(BARE).fetchall()


def whole(n: int) -> None:
    """Extract, validate, compress."""
    run = _begun(STUDY)
    extract(str(run.path), None, TODAY)
    validate(str(run.path))
    compress(str(run.path))


def kept(n: int) -> None:
    """The same with statistics kept by day."""
    run = _begun(STUDY | KEPT)
    extract(str(run.path), None, TODAY)
    turn = InTurn()
    gather_facts(run, asking(turn, COUNT))
    validate(str(run.path))
    gather_cells(run, asking(turn, CONDENSE))
    compress(str(run.path))


def correct(n: int) -> None:
    """One day of the last month's file has other amounts."""
    changed = "select * replace (log_amount + (ts::date = date '2025-12-15')::int * 0.1 as log_amount) from 'lake/m12.parquet'"
    duckdb.sql(f"copy ({changed} order by ts) to 'changed.parquet'")
    Path("changed.parquet").replace("lake/m12.parquet")


PHASES: dict[str, Callable[[int], None]] = {"make": make, "bare": bare, "whole": whole, "kept": kept, "correct": correct}


def _begun(fields: dict[str, Any]) -> RunFolder:
    run = RunFolder(Path.cwd() / f"run-{time.monotonic_ns()}")
    run.path.mkdir()
    run.write_study(Study.model_validate(fields | {"resources": {"threads": 2}}), "")
    run.write_json("start", {"force": True})
    return run


def _in_this_process(phase: str, n: int, folder: str) -> None:
    os.chdir(folder)
    start = time.perf_counter()
    PHASES[phase](n)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}))


if __name__ == "__main__":
    _in_this_process(sys.argv[1], int(sys.argv[2]), sys.argv[3])
