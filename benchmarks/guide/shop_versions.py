"""Published versions that the pages speak of: estimated where they are not there, opened, and their rows by name."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import groupwise as gw

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "data" / "shop.duckdb"
STUDIES = (
    "docs/guide/without_households.yaml",
    "studies/line_spend.yaml",
    "studies/department_spend.yaml",
    "studies/private_label.yaml",
)

type Row = dict[str, Any]


def groupwise_command(*words: str) -> None:
    """Run ``groupwise`` in the repository's folder. Raises SystemExit where it fails."""
    done = subprocess.run([sys.executable, "-m", "groupwise", *words], cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"groupwise {' '.join(words)} failed; the guide's numbers come from it.")


def prepare() -> None:
    """Load the shop where it is not, and estimate every study; one whose inputs are those of its latest version ends at once."""
    if not SHOP.exists():
        groupwise_command("load-shop", "--database", str(SHOP.relative_to(ROOT)))
    for study in STUDIES:
        groupwise_command("estimate", study)


@cache
def version(name: str) -> gw.Published:
    """The latest version of a study. Raises SourceError where there is none."""
    import groupwise as gw

    return gw.open(ROOT / "published" / name)


def rows(study: str, table: str, **where: object) -> list[Row]:
    """Rows of a published table whose columns have these values."""
    found = version(study).arrow_tables[table].to_pylist()
    return [row for row in found if all(row[column] == value for column, value in where.items())]


def row(study: str, table: str, **where: object) -> Row:
    """The one such row. Raises LookupError."""
    found = rows(study, table, **where)
    if len(found) != 1:
        raise LookupError(f"{study}, {table}: {len(found)} rows have {where}")
    return found[0]


def level(study: str, factor: str, name: str) -> Row:
    """A level's row of ``group_estimates``. Raises LookupError."""
    return row(study, "group_estimates", grouping_factor=factor, level=name, is_new=False)


def levels(study: str, factor: str) -> list[Row]:
    """All seen levels of a factor, in the order of ``estimate``, the highest first."""
    found = rows(study, "group_estimates", grouping_factor=factor, is_new=False)
    return sorted(found, key=lambda each: -each["estimate"])


def select(query: str) -> list[Row]:
    """Rows of a query on the shop; ``line_items`` is what the studies read, fuel and free items left out."""
    import duckdb

    from sql import read_query

    with duckdb.connect(str(SHOP), read_only=True) as connection:
        connection.execute(f"create temp view every_line as {read_query('line_items')}")
        connection.execute("create temp view line_items as select * from every_line where amount > 0 and not is_fuel")
        found: list[Row] = connection.sql(query).to_arrow_table().to_pylist()
    return found
