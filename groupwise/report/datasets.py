"""The published tables as compact columns for the page: rounded, capped, embedded once, read by charts and tables alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from groupwise.report.part_labels import INTERCEPTS
from groupwise.report.subject import MIX, Subject

type Columns = dict[str, list[object]]

# beyond this many levels of a factor the page keeps those with most line items, and says so: the Parquet files have all
MOST_LEVELS = 10_000
MOST_CELLS = 20_000

LEVEL_COLUMNS = {
    "level": "level",
    "parent_level": "parent",
    "estimate": "estimate",
    "lower": "lower",
    "upper": "upper",
    "no_pooling_estimate": "none",
    "complete_pooling_estimate": "complete",
    "n": "n",
    "rank_lower": "rank_lower",
    "rank_upper": "rank_upper",
    "n_sampled": "members",
    "observed_mean": "observed",
}
SLOPE_COLUMNS = {
    "level": "level",
    "parent_level": "parent",
    "estimate": "estimate",
    "lower": "lower",
    "upper": "upper",
    "n": "n",
    "shrinkage": "shrinkage",
    "probability_above_average": "above",
}
CELL_COLUMNS = {
    "customer_group": "customer",
    "product_group": "product",
    "estimate": "estimate",
    "lower": "lower",
    "upper": "upper",
    "n": "n",
}


def level_datasets(subject: Subject) -> dict[str, Columns]:
    """Factor -> its levels' estimates on the outcome's scale: the headline's; ``mix`` is the members' own average where it is another."""
    table = subject.seen_estimates
    found = {}
    for factor in subject.factors:
        names = LEVEL_COLUMNS if subject.members_of(factor) is None else {**LEVEL_COLUMNS, MIX: "mix"}
        found[factor] = _columns(_of(table, factor), names, MOST_LEVELS)
    return found


def slope_datasets(subject: Subject) -> dict[tuple[str, str], Columns]:
    """(factor, term) -> the levels' coefficients of that term, for every term that varies and is not the intercept."""
    table = subject.tables["group_coefficients"]
    table = table.filter(~pc.field("is_new") & (~pc.field("term").isin(INTERCEPTS)))
    pairs = table.group_by(["grouping_factor", "term"]).aggregate([]).to_pylist()
    found = {}
    for pair in sorted(pairs, key=lambda row: (row["term"], row["grouping_factor"])):
        rows = _of(table, pair["grouping_factor"]).filter(pc.field("term") == pair["term"])
        found[pair["grouping_factor"], pair["term"]] = _columns(rows, SLOPE_COLUMNS, MOST_LEVELS)
    return found


def cell_dataset(subject: Subject) -> Columns | None:
    """The cells of the largest product groups, as many as the page can carry; None where the study publishes no cells."""
    table = subject.tables["cell_estimates"]
    named = pc.and_(pc.is_valid(table.column("customer_group")), pc.is_valid(table.column("product_group")))
    table = table.filter(named)
    if table.num_rows == 0:
        return None
    if table.num_rows > MOST_CELLS:
        n_customers = len(pc.unique(table.column("customer_group")))
        products = table.group_by("product_group").aggregate([("n", "sum")]).sort_by([("n_sum", "descending")])
        kept = products.column("product_group").slice(0, max(1, MOST_CELLS // n_customers))
        table = table.filter(pc.is_in(table.column("product_group"), value_set=kept.combine_chunks()))
    return _columns(table, CELL_COLUMNS, table.num_rows)


def as_rows(columns: Columns) -> list[dict[str, object]]:
    """Columns turned into one mapping a row."""
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def rounded(values: Iterable[object], digits: int = 5) -> list[object]:
    """Floats rounded to significant digits, the rest as it is: a page needs no sixteen digits."""
    return [float(f"{value:.{digits}g}") if isinstance(value, float) else value for value in values]


def _of(table: pa.Table, factor: str) -> pa.Table:
    return table.filter(pc.field("grouping_factor") == factor)


def _columns(table: pa.Table, names: Mapping[str, str], most: int) -> Columns:
    if table.num_rows > most:
        # all of a large table's columns in another order would take seconds
        table = table.take(pc.sort_indices(table, sort_keys=[("n", "descending")]).slice(0, most))
    # tables published before a column existed have none of it
    have = set(table.column_names)
    return {short: rounded(table.column(name).to_pylist()) if name in have else [None] * table.num_rows for name, short in names.items()}
