"""``docs/tables.md``, generated from the catalogue: ``python -m multilevel.catalogue.documentation`` writes it."""

from __future__ import annotations

import sys
from pathlib import Path

from multilevel.catalogue.column import Column, TableSpec
from multilevel.catalogue.evolution import RULES
from multilevel.catalogue.joint_tables import JOINT_TABLES
from multilevel.catalogue.published_tables import CATALOGUE_VERSION, EVERY_TABLE
from multilevel.catalogue.shared_columns import COMMON

_OPENING = f"""# The published tables

Generated from `multilevel/catalogue/published_tables.py` (version {CATALOGUE_VERSION}) by `python -m multilevel.catalogue.documentation`;
a test fails when the two disagree.

Not applicable is null, never 0 or NaN. Every file is plain Parquet (zstd, plain strings, no nested columns), sorted by its key, and carries
the same descriptions, units and null rules in its field metadata. *Link scale* is the scale of the linear predictor: the response itself
for a gaussian study, its logarithm under `log(y)` and a log link, log odds under a logit link. *outcome* is the unit of the outcome, which
the study names.

Each column is defined here once. [multilevel-models.md](multilevel-models.md), section 3, says how the numbers of `group_estimates` are
made and shows, with this shop's numbers, how each is misread; its section 8 has ranks, probabilities and contrasts.
"""

_JOINT = """## The joint distribution

Beside its tables a version keeps how its coefficients vary together (not under [privacy](privacy.md)): the tables below, in the folder
`joint/<as_of>/<run_id>/`, of which `contrast` and `predict` read a few rows. They are Parquet too, with lists of numbers in some columns.

Coefficients are kept *unit-free*, for predictors at mean 0 and standard deviation 1, since far from zero those as written would lose
their digits; `blocks.map` and `models.population_map` lead to those as written. Where `models.distribution` is `arrow`, the likelihood
engine's normal distribution is kept in arrow form (Rue and Held 2005, section 2.4): levels of the largest chain of nested factors depend,
each by its own row, on those above it and on a dense core of all other coefficients, whose covariance is kept once. The covariance of any
two coefficients follows from their own rows, those that they depend on, and the core; what is unknown of the variances is in
`directions`. Small models whose variances are integrated over have a core for every point of them (`points`); the bayesian engine's are
draws.

[joint_contrast.sql](joint_contrast.sql) has the standard error of the difference of two levels in one query for DuckDB alone: set
`file_search_path` to the folder, and bind `$a`, `$b`, `$factor` and `$term`. Versions of before have one file
`joint/<as_of>/<run_id>.npz` instead, which the commands still read.
"""


def tables_page() -> str:
    """The whole page as Markdown."""
    common = "\n".join(["## Columns of every table", "", *_rows(COMMON)])
    rules = "\n".join(["## How these tables may change", "", *[f"- {rule}" for rule in RULES], ""])
    joint = [_section(table, "###") for table in JOINT_TABLES.values()]
    return "\n".join([_OPENING, rules, common, "", *[_section(table) for table in EVERY_TABLE.values()], _JOINT, *joint])


def _section(table: TableSpec, heading: str = "##") -> str:
    own = tuple(column for column in table.columns if column not in COMMON)
    key = ", ".join(f"`{name}`" for name in table.unique_key)
    lines = [
        f"{heading} `{table.name}`",
        "",
        f"{table.description} One row per {table.grain}.",
        "",
        f"Unique and sorted by {key}.",
        "",
        *_rows(own),
        "",
    ]
    return "\n".join(lines)


def _rows(columns: tuple[Column, ...]) -> list[str]:
    head = ["| column | type | unit | null | what it is |", "|---|---|---|---|---|"]
    return head + [f"| `{c.name}` | {c.type} | {c.unit} | {c.null_text} | {c.description}{_limits(c)} |" for c in columns]


def _limits(column: Column) -> str:
    if column.allowed is not None:
        return " (" + ", ".join(f"`{value}`" for value in column.allowed) + ")"
    if column.minimum is not None and column.maximum is not None:
        return f" ({column.minimum:g} to {column.maximum:g})"
    if column.minimum is not None:
        return f" (at least {column.minimum:g})"
    if column.maximum is not None:
        return f" (at most {column.maximum:g})"
    return ""


def main(path: Path = Path("docs/tables.md")) -> None:
    """Write the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tables_page(), encoding="utf-8")


if __name__ == "__main__":
    main(*[Path(argument) for argument in sys.argv[1:2]])
