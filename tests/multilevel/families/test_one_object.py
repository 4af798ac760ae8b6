"""What is particular to a family is in its object: nobody else compares names, asks for classes, or has a flag for one of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from multilevel.families.family import Family, Statistics
from multilevel.families.registry import family_named, family_names, has_two_parts

ROOT = Path(__file__).parents[3]
ELSEWHERE = [
    file
    for room in ("multilevel", "groupwise", "tasks", "flows")
    for file in sorted((ROOT / room).rglob("*.py"))
    if file.parent.name not in ("families", "shop")
]
ONE_PART = [family_named(name) for name in family_names() if not has_two_parts(name)]
CLASSES = {cls.__name__ for family in ONE_PART for cls in type(family).__mro__[:-1]} - {"ABC", "Family"}


PARTICULAR = {*family_names(), "logit", "identity", "sigma", "phi", "shape"}
"""Names of families, and of links and scales that some of them have: a link or a family is asked what follows from them."""


def names_of_families(node: ast.AST) -> set[str]:
    compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else [node]
    # priors.get("sigma") is None asks what a study says
    leaves = [leaf for one in compared if not isinstance(one, ast.Call) for leaf in ast.walk(one)]
    return {leaf.value for leaf in leaves if isinstance(leaf, ast.Constant) and leaf.value in PARTICULAR}


def found_in(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.Dict | ast.Match | ast.Set) and names_of_families(node):
            found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
            asked = {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
            found += [f"line {node.lineno}: {ast.unparse(node)[:80]}"] if asked & CLASSES else []
        if isinstance(node, ast.Attribute) and node.attr == "startswith" and "family" in ast.unparse(node.value):
            found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
    return found


@pytest.mark.parametrize("file", ELSEWHERE, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_other_file_compares_with_a_familys_name_or_class(file: Path) -> None:
    assert not found_in(ast.parse(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "text",
    [
        "if family == 'gamma': pass",
        "x = {'poisson': 1}[family]",
        "y = family in ('gamma', 'binomial')",
        "z = isinstance(family, Gamma)",
        "w = cells.family.startswith('hurdle_')",
        "if response.name == 'logit': pass",
        "if family.scale == 'phi': pass",
    ],
)
def test_such_a_comparison_is_found(text: str) -> None:
    assert found_in(ast.parse(text))


def test_no_flag_is_set_by_one_family_alone() -> None:
    flags = {name for family in ONE_PART for name in dir(family) if isinstance(getattr(family, name), bool)}
    kept = {name for name in Statistics.__dataclass_fields__ if isinstance(getattr(Statistics(), name), bool)}
    for name in flags:
        assert sum(bool(getattr(family, name)) for family in ONE_PART) > 1 or name in SHARED_WITH_TWO_PARTS | SAID_BY_METHODS, name
    for name in kept:
        assert sum(bool(getattr(family.statistics, name)) for family in ONE_PART) > 1 or name in SHARED_WITH_TWO_PARTS, name


SHARED_WITH_TWO_PARTS = {"moments", "log_sums"}
"""Set by gaussian and gamma and, for its amounts, by a hurdle."""

SAID_BY_METHODS = {"is_bounded", "counts_zeros", "has_sigma"}
"""Not set: they follow from what a family says of its sums, of what cells keep, and of its scale."""


def test_importing_every_family_loads_no_sampler() -> None:
    command = (
        "import sys; from multilevel.families.registry import family_named, family_names, has_two_parts, two_part_named; "
        "[two_part_named(n) if has_two_parts(n) else family_named(n) for n in family_names()]; "
        "print(sorted(set(sys.modules) & {'pymc', 'pytensor', 'nutpie', 'arviz', 'numba', 'pandas', 'duckdb', 'prefect'}))"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_every_family_says_what_people_read() -> None:
    for family in ONE_PART:
        assert isinstance(family, Family)
        assert family.words.distribution
        assert family.notation.outcome.plain.startswith("y[i] ~ ")
