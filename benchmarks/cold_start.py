"""What numba's compilation costs the first fit on a machine, and the first fit of every process after it.

Run: ``python -m benchmarks cold_start``: one small model for each engine and kind of family, in a process with an empty folder for numba's
cache, and in a second process with that folder. Writes the last table of docs/decisions/0010-density-kernel.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._sampler_pages import write_block

PAGE = Path("docs") / "decisions" / "0010-density-kernel.md"
FITS = {
    "likelihood gaussian": "likelihood, gaussian (REML)",
    "likelihood poisson": "likelihood, poisson (Laplace)",
    "bayesian gaussian": "bayesian, gaussian (collapsed)",
    "bayesian poisson": "bayesian, poisson (NUTS)",
}
COLUMNS = (
    "first fit",
    "nothing cached: s",
    "nothing cached: processor s",
    "cached, in a new process: s",
    "cached, in a new process: processor s",
    "again in that process: s",
)

FIT = """
import sys, time
import numpy as np, pandas as pd
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.formula.parse import parse_formula
engine, family = sys.argv[1:]
rng = np.random.default_rng(1)
a, b, x = rng.integers(20, size=2000), rng.integers(30, size=2000), rng.integers(0, 2, size=2000)
eta = 0.4 * rng.normal(size=20)[a] + 0.4 * rng.normal(size=30)[b] + 0.2 * x
y = rng.poisson(np.exp(eta)) if family == "poisson" else eta + rng.normal(size=2000)
formula = parse_formula("y ~ 1 + x + (1 | a) + (1 + x | b)")
design = build_design(formula, cells_from_frame(formula, pd.DataFrame({"a": a.astype(str), "b": b.astype(str), "x": x, "y": y}), family))
if engine == "bayesian":
    import nutpie, pymc
    def fit():
        from multilevel.bayesian.bayesian_engine import fit_bayesian
        fit_bayesian(design, family, seed=1, sampling={"draws": 200, "tune": 200})
elif family == "gaussian":
    def fit():
        from multilevel.linear.linear_engine import fit_linear
        fit_linear(design)
else:
    def fit():
        from multilevel.generalised.laplace_engine import fit_generalised
        fit_generalised(design, family)
for _ in range(2):
    start, busy = time.perf_counter(), time.process_time()
    fit()
    print(time.perf_counter() - start, time.process_time() - busy)
"""


def main() -> None:
    """Print the table and write it."""
    rows = []
    for arguments, name in FITS.items():
        with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
            (cold, cold_busy), _ = fits(arguments, Path(folder))
            (warm, warm_busy), (again, _) = fits(arguments, Path(folder))
        rows.append((name, f"{cold:.1f}", f"{cold_busy:.1f}", f"{warm:.1f}", f"{warm_busy:.1f}", f"{again:.1f}"))
    write_block(PAGE, "cold-start", COLUMNS, rows)


def fits(arguments: str, caches: Path) -> list[tuple[float, float]]:
    """Seconds and processor seconds of the first and the second fit of a process; imports of libraries are not counted."""
    places = {"NUMBA_CACHE_DIR": str(caches / "numba"), "PYTENSOR_FLAGS": f"base_compiledir={caches / 'pytensor'}"}
    command = [sys.executable, "-W", "ignore", "-c", FIT, *arguments.split()]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | places)
    first, second = (line.split() for line in done.stdout.splitlines()[-2:])
    return [(float(first[0]), float(first[1])), (float(second[0]), float(second[1]))]
