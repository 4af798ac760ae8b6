"""What statistics follow from besides the line items: studies, queries and rules that give the same statistics have one recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import groupwise
import multilevel
from groupwise.source.declared_source import locate
from groupwise.source.fingerprint import fingerprinted
from groupwise.study.study import Study
from groupwise.validation.suite_file import suite_entries
from multilevel.cells.cell_plan import CellPlan
from sql import read_query

FORMAT = 3
"""Version of what is kept and how; statistics of another one are made again."""
FIELDS = ("formula", "family", "where", "missing", "types", "levels", "sampled", "timezone")
"""Fields of a study that its statistics follow from, besides its rules."""
ROOMS = (
    (Path(groupwise.__file__).parent, ("compression", "source", "statistics", "validation")),
    (Path(multilevel.__file__).parent, ("cells", "families", "formula")),
    (Path(read_query.__code__.co_filename).parents[1], ("sql",)),
)
"""Where the code is that makes them."""
LENGTH = 16


def recipe(study: Study, columns: Mapping[str, str], names: Sequence[str]) -> str:
    """Digest of a study's part in its statistics.

    Parameters
    ----------
    columns : of the line items, name -> DuckDB type. names : those that the study uses, which the fingerprints are of. A column that it
        does not use may come, go or change its type.
    """
    kept = study.statistics
    used = fingerprinted([*names, *([study.partition_column] if study.partition_column else [])], columns)
    return _digest(
        {
            "format": FORMAT,
            "study": {name: value for name, value in study.model_dump(mode="json").items() if name in FIELDS},
            "partition": None if kept is None else kept.partition,
            "column": study.partition_column or (study.window.column if study.window else None),
            "kind": study.source.kind,
            "line_items": locate(study).query,
            "suite": None if study.expectations is None else suite_entries(study.expectations),
            "rules": [rule.entry() for rule in study.rules],
            "columns": {name: columns[name] for name in used},
            "duckdb": version("duckdb"),
            "code": _code(),
        }
    )


def plan_digest(plan: CellPlan) -> str:
    """Digest of which cells are kept, and what of them: it may depend on how many different values a predictor has in a window."""
    return _digest({"plan": repr(plan)})


@cache
def _code() -> str:
    digest = hashlib.sha256()
    for root, rooms in ROOMS:
        for path in sorted(path for room in rooms for path in (root / room).rglob("*")):
            if path.suffix in (".py", ".sql"):
                digest.update(f"\n{path.relative_to(root).as_posix()}\t{hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:LENGTH]
