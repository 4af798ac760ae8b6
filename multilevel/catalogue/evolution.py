"""How the published tables may change: within a major version only by additions that no query notices.

``released_schema.json`` holds the catalogue as it was last released; ``python -m multilevel.catalogue.evolution`` (``make release-schema``)
writes it. A test compares the two.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from multilevel.catalogue import published_tables, shared_columns
from multilevel.catalogue.column import Column, TableSpec

RELEASED = Path(__file__).with_name("released_schema.json")

RULES: tuple[str, ...] = (
    "A table or column is never removed or renamed, a column's type and unit stay, one that was never null stays so, and a table's keys "
    "stay: anything else needs a new major version. A key may gain, at its end, a new column that is null in all studies that existed "
    "before: among them the shorter key stays unique.",
    "A new column is nullable and comes after the table's others; a new table, a new allowed value, a wider or narrower bound and a column "
    "that can no longer be null need a new minor version; wording needs none.",
    "Readers name their columns and pass over those that they do not know; versions of one major version can be read together "
    "(`union_by_name`), with null where a column did not exist yet.",
    "`released_schema.json` is the schema as last released; `make release-schema` writes it, and a test compares the catalogue with it.",
    "The manifest and the pointer carry a schema version of their own (`schema`), beside the tables' (`tables_version`); a reader refuses "
    "a newer major version of either.",
)
"""The rules in words, as ``docs/tables.md`` prints them."""

EARLIER: Mapping[str, tuple[str, ...]] = {
    "group_estimates": (
        *(column.name for column in shared_columns.COMMON),
        *("grouping_factor", "level", "parent_level", "estimate", "std_error", "lower", "upper"),
        *("no_pooling_estimate", "no_pooling_std_error", "complete_pooling_estimate", "n", "rank_lower", "rank_upper", "is_new"),
    )
}
"""Tables that version 2 of the catalogue widened, with their columns in version 1: ``catalog.sql`` keeps a view ``<table>_1x`` of them
until version 3. ``no_pooling_estimate`` has another meaning since version 2, and ranks are those of the headline."""


type Schema = dict[str, Any]


def current_schema() -> Schema:
    """The catalogue as JSON: version, then per table keys and columns in order."""
    every = published_tables.TABLES | published_tables.OPTIONAL_TABLES
    return {
        "version": published_tables.CATALOGUE_VERSION,
        "optional": sorted(published_tables.OPTIONAL_TABLES),
        "tables": {name: _table(spec) for name, spec in every.items()},
    }


def released_schema(path: Path = RELEASED) -> Schema:
    """The schema as last released."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def evolution_problems(released: Schema, current: Schema) -> list[str]:
    """Every way in which ``current`` breaks the rules against ``released``, each with what to do; empty where none."""
    before, now = version_of(released["version"]), version_of(current["version"])
    if now < before:
        return [f"CATALOGUE_VERSION {current['version']} is older than the released {released['version']}; raise it."]
    broken = [change for name in released["tables"] for change in _broken(name, released["tables"][name], current["tables"].get(name))]
    optional = set(current.get("optional", ())) - set(released.get("optional", ()))
    broken += [f"Table {name} was always published, now it is optional" for name in sorted(optional & set(released["tables"]))]
    if broken and now[0] == before[0]:
        cure = f"Undo it, or set CATALOGUE_VERSION to {before[0] + 1}.0.0 and run `make release-schema`."
        return [f"{change}. Readers of version {before[0]} break. {cure}" for change in broken]
    if not broken and now[:2] == before[:2] and _bare(released) != _bare(current):
        return [f"The catalogue has additions: set CATALOGUE_VERSION to {before[0]}.{before[1] + 1}.0 and run `make release-schema`."]
    return []


def version_of(text: str) -> tuple[int, int, int]:
    """``1.2.3`` as numbers; ValueError for anything else."""
    major, minor, patch = (int(part) for part in text.split("."))
    return major, minor, patch


def _table(spec: TableSpec) -> Schema:
    return {
        "unique_key": list(spec.unique_key),
        "sort_key": list(spec.sort_key),
        "columns": {column.name: _column(column) for column in spec.columns},
    }


def _column(column: Column) -> Schema:
    entry: Schema = {"type": column.type, "unit": column.unit, "nullable": column.nullable}
    limits = {"allowed": column.allowed and list(column.allowed), "minimum": column.minimum, "maximum": column.maximum}
    return entry | {name: value for name, value in limits.items() if value is not None}


def _bare(schema: Schema) -> Mapping[str, Schema]:
    return dict(schema["tables"])


def _broken(name: str, was: Schema, now: Schema | None) -> Iterator[str]:
    if now is None:
        yield f"Table {name} is gone"
        return
    for key in ("unique_key", "sort_key"):
        if was[key] != now[key] and not _extends(was, now, key):
            yield f"{name}: the {key.replace('_', ' ')} was ({', '.join(was[key])}), it is ({', '.join(now[key])})"
    columns = now["columns"]
    for column, old in was["columns"].items():
        if column not in columns:
            yield f"{name}.{column} is gone or renamed"
        else:
            yield from _changed(f"{name}.{column}", old, columns[column])
    added = [column for column in columns if column not in was["columns"]]
    for column in added:
        if not columns[column]["nullable"]:
            yield f"{name}.{column} is new and can never be null, but files already published have none: give it a null rule"
    if [column for column in columns if column not in added] != [column for column in was["columns"] if column in columns]:
        yield f"{name}: the columns stand in another order"
    elif added and list(columns)[-len(added) :] != added:
        yield f"{name}: new columns come after the others ({', '.join(added)})"


def _extends(was: Schema, now: Schema, key: str) -> bool:
    """Whether a key only gains, at its end, new columns that are null in every file already published."""
    kept = len(was[key])
    added = now[key][kept:]
    return now[key][:kept] == was[key] and all(column not in was["columns"] and now["columns"][column]["nullable"] for column in added)


def _changed(name: str, was: Schema, now: Schema) -> Iterator[str]:
    for fact in ("type", "unit"):
        if was[fact] != now[fact]:
            yield f"{name}: the {fact} was {was[fact]!r}, it is {now[fact]!r}"
    if now["nullable"] and not was["nullable"]:
        yield f"{name} could never be null, now it can"
    allowed = list(was.get("allowed", ()))
    gone = set(allowed) - set(now.get("allowed", allowed))
    if gone:
        yield f"{name} can no longer be {', '.join(sorted(gone))}"


def main(path: Path = RELEASED) -> None:
    """Write the released schema, unless the catalogue breaks the rules."""
    problems = evolution_problems(released_schema(path), current_schema()) if path.exists() else []
    if problems:
        sys.exit("\n".join(problems))
    path.write_text(json.dumps(current_schema(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*[Path(argument) for argument in sys.argv[1:2]])
