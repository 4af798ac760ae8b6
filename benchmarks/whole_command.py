"""Whole commands, from the shell to published tables: what a person waits for. Writes its table into docs/benchmarks.md.

Run: ``python -m benchmarks whole_command``, on a quiet machine. The first run of each case warms the caches and is not counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from benchmarks._calibration_page import markdown
from benchmarks._reliability_page import provenance, provenance_line, replace_block

PAGE = Path("docs") / "benchmarks.md"
REPEATS = 5
CASES = {
    "180 rows, `y ~ x + (1 \\| g)`": ("y ~ x + (1 | g)", 180, 12, 1, 3.5),
    "1,000,000 rows, `y ~ x + (1 \\| g) + (1 + x \\| h)`": ("y ~ x + (1 | g) + (1 + x | h)", 1_000_000, 50, 200, 5.0),
}
"""Formula, rows, levels of both factors, and the seconds asked for."""
ROWS = """
copy (
    select 'G' || i % {g} as g, 'H' || (i // {g}) % {h} as h, x, x + sin(i % {g}) + cos((i // {g}) % {h}) + 2 * random() as y
    from (select i, random() as x from range({n}) as r(i))
) to '{file}' (format parquet)
"""


def main() -> None:
    """Time every case, and write the table."""
    load = os.getloadavg()[0]
    rows = [_measured(name, *case) for name, case in CASES.items()]
    table = markdown(["whole command, likelihood engine", "seconds, median", "lowest to highest", "asked for"], rows)
    block = f"{table}\n{provenance_line([provenance()])}Load of the machine before the runs: {load:.1f} on {os.cpu_count()} cores.\n"
    print(block)
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), "whole-command", block), encoding="utf-8")


def _measured(name: str, formula: str, n: int, g: int, h: int, asked: float) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        duckdb.sql("select setseed(0.5)")
        duckdb.sql(ROWS.format(n=n, g=g, h=h, file=f"{folder}/rows.parquet"))
        study = f"name: small\nformula: {formula}\nsource: {{parquet: rows.parquet}}\nengine: likelihood\n"
        (Path(folder) / "small.yaml").write_text(study, encoding="utf-8")
        seconds = sorted([_seconds(folder) for _ in range(REPEATS + 1)][1:])
    return [name, f"{seconds[len(seconds) // 2]:.1f}", f"{seconds[0]:.1f} to {seconds[-1]:.1f}", f"{asked:g}"]


def _seconds(folder: str) -> float:
    # as a user's shell has it: with bytecode, and without a server of Prefect's
    left_out = ("PYTHONDONTWRITEBYTECODE", "PREFECT_API_URL")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment["PYTHONPATH"] = str(Path.cwd())
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "groupwise", "estimate", "small.yaml", "--force"],
        check=True,
        capture_output=True,
        cwd=folder,
        env=environment,
    )
    return time.perf_counter() - start
