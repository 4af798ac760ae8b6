"""Imports go one way, and ``groupwise --help`` imports nothing heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
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
