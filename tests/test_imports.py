"""Imports go one way, and ``groupwise --help`` imports nothing heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "flows": {"flows", "tasks", "groupwise", "multilevel"},
    "tasks": {"tasks", "groupwise", "multilevel"},
    "groupwise": {"groupwise", "sql", "expectations", "multilevel"},
    "sql": {"sql"},
    "expectations": {"expectations"},
    "multilevel": {"multilevel"},
}
LOADERS = {"flow_runs.py", "estimate.py"}
"""The second imports the library's own modules ahead of their use."""

HEAVY = {"pymc", "pytensor", "arviz", "prefect", "great_expectations", "duckdb", "numba", "scipy", "pandas", "pyarrow", "altair"}


@cache
def imported(file: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        assert imported(file) & set(ROOMS) <= ROOMS[room], file


def test_the_statistics_know_no_database_no_orchestrator_and_no_validator() -> None:
    for file in (ROOT / "multilevel").rglob("*.py"):
        assert not imported(file) & {"prefect", "duckdb", "great_expectations"}, file


def test_the_library_knows_no_prefect() -> None:
    """``groupwise/commands/flow_runs.py`` loads what does by name, and no other file has such a name."""
    for file in (ROOT / "groupwise").rglob("*.py"):
        assert not imported(file) & {"prefect", "prefect_dask"}, file
        loads = re.search(r"import_module\(|__import__\(|\"(flows|tasks)[.:]", file.read_text(encoding="utf-8"))
        assert loads is None or file.name in LOADERS, file


def test_help_imports_nothing_heavy() -> None:
    command = (
        "import sys; from groupwise.commands import command_line as c; sys.argv = ['groupwise', '--help']; code = c._run(); "
        f"print(sorted(set(sys.modules) & {HEAVY!r}), code)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert "estimate" in done.stdout
    # a quarter of a second on a quiet machine; a heavy import takes several
    assert seconds < 5


def test_reading_a_study_loads_neither_numbers_nor_frames() -> None:
    """A study that is refused is refused at once; formulae, whose parser it goes through, would load pandas and SciPy."""
    code = f"""
import sys
from groupwise.study.study import Study
Study(name="s", formula="y ~ 1 + x * log(z) + (1 + x | g/h)", source={{"parquet": "y.parquet"}})
print(sorted(set(sys.modules) & {HEAVY!r} | {{"numpy"}} & set(sys.modules)), "formulae" in sys.modules)
import formulae
print(formulae.utils.listify(1), list(formulae.utils.flatten_list([[1], [2]])))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    # whoever imports formulae later gets all of it
    assert done.stdout.splitlines() == ["[] False", "[1] [1, 2]"]


def test_a_small_linear_fit_waits_for_no_compiler() -> None:
    """Full matrices do for it: loading compiled loops takes over a second, more than the fit. 50 levels and a row for new ones each."""
    code = """
import sys
import numpy as np
import pandas as pd
from datetime import date
from multilevel.cells.from_rows import cells_from_frame
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import fit_options
rng = np.random.default_rng(0)
frame = pd.DataFrame({"g": rng.integers(0, 30, 900).astype(str), "h": rng.integers(0, 20, 900).astype(str), "x": rng.standard_normal(900)})
effect = frame.g.astype(int) % 7 + frame.h.astype(int) % 5 * frame.x
frame["y"] = effect + rng.standard_normal(900)
formula = parse_formula("y ~ x + (1 | g) + (1 + x | h)")
found = fit_study(formula, cells_from_frame(formula, frame, "gaussian"), fit_options("s", date(2026, 1, 31), "r", "likelihood"))
print(found.tables["group_estimates"].num_rows, sorted({"numba", "llvmlite"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split(maxsplit=1) == ["52", "[]\n"]
