"""Tables, interpretation, prediction and report ask a fit what it has, never which engine it is of."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (
    "multilevel/tables",
    "multilevel/interpretation",
    "multilevel/prediction",
    "multilevel/checking",
    "multilevel/pooling",
    "groupwise/report",
)
PUBLISHED = ROOT / "multilevel/catalogue/column_checks.py"
"""It reads published tables, which have a column ``engine``."""

FILES = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py")) if file != PUBLISHED]
ENGINES = {"likelihood", "bayesian"}


def compared(tree: ast.AST) -> list[str]:
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare | ast.Dict | ast.Match)
        and any(isinstance(leaf, ast.Constant) and leaf.value in ENGINES for leaf in ast.walk(node))
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_file_compares_with_an_engines_name(file: Path) -> None:
    assert not compared(ast.parse(file.read_text(encoding="utf-8")))


def test_such_a_comparison_is_found() -> None:
    assert compared(ast.parse("if fit.engine == 'bayesian': pass"))
