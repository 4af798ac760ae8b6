"""The gates of two Bayesian studies of the real shop over five seeds, at default settings: ``python -m benchmarks seeds``.

Each run is the whole command on ``data/shop.duckdb`` (``make demo`` loads it); what it measures goes into ``.groupwise/calibration`` too,
for docs/calibration.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

STUDIES = ("docs/guide/without_households.yaml", "studies/department_spend.yaml")
GATES = ("max_r_hat", "min_ess_bulk", "min_ess_tail", "n_divergences", "pareto_k")
FIGURES = Path(".groupwise") / "calibration"


def main(seeds: int = 5) -> None:
    """Print a line for each run."""
    if not Path("data/shop.duckdb").is_file():
        print("data/shop.duckdb is not here: run make demo first.")
        return
    FIGURES.mkdir(parents=True, exist_ok=True)
    for file in STUDIES:
        study = Path(file).stem
        gates: dict[str, list[float]] = {}
        seconds = []
        for seed in range(1, seeds + 1):
            start = time.perf_counter()
            found = run(file, seed)
            seconds.append(time.perf_counter() - start)
            for name, value in found.items():
                gates.setdefault(name, []).append(value)
            print(
                f"{study} seed {seed}: {seconds[-1]:.0f} s, " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()),
                flush=True,
            )
        method = "collapsed" if "pareto_k" in gates else "nuts"
        kept = {"name": study, "formula": "", "family": "", "methods": [method], "seeds": seeds, "gates": gates, "seconds": seconds}
        (FIGURES / f"gates-study-{study}.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")


def run(file: str, seed: int) -> dict[str, float]:
    """Gates of one run, by name; a run that fails one raises."""
    with tempfile.TemporaryDirectory(prefix="groupwise-seeds-") as folder:
        command = [sys.executable, "-m", "groupwise", "estimate", file, "--publish-to", folder, "--set", f"seed={seed}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{file} seed {seed}: {done.stderr.strip()}")
        table = pq.read_table(Path(done.stdout.splitlines()[-1]) / "diagnostics.parquet").to_pylist()
    return {row["check"]: row["value"] for row in table if row["check"] in GATES and row["value"] is not None}
