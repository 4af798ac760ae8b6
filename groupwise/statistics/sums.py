"""Statistics of several partitions as those of all of them: one query over their files for each kind of what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from groupwise.compression.cell_query import LEVEL_MEAN, LOST, render
from groupwise.compression.unit_table import NUMBER
from groupwise.source.relation import literal, quote
from groupwise.source.source_files import exactly
from groupwise.statistics.partition_cells import EVERYONE, HISTOGRAM, PAIRS
from multilevel.cells.unit_sums import CELL, UNIT

OUTCOMES = "outcomes"
ANCHOR, AWAY = "anchor.", "away."
"""Begin the names of a cell's mean in one partition, and of what another's differs from it."""
KEYS = ("g.", "c.", "x.", "key_")
"""Begin the names of what cells have in common; ``key_`` before it is written as text."""

SIMPLE = {
    HISTOGRAM: "select outcome, cast(sum(n) as bigint) as n from {files} group by outcome",
    EVERYONE: f"select distinct {NUMBER} from {{files}}",
    PAIRS: "select max(n_units) as n_units, cast(sum(n_pairs) as bigint) as n_pairs from {files}",
}
"""Kind -> its sum."""
MOMENTS = {"observed.square": ("mean", "mean"), "observed.size_square": ("size", "size"), "observed.product": ("mean", "size")}
"""Sums of products of the rows' own outcome and size about their means."""


def files_sql(paths: Sequence[Path], *, alike: bool = True) -> str:
    """Parquet files as a table expression; ``alike``: all have the same columns."""
    listed = ", ".join(literal(exactly(str(path))) for path in paths)
    return f"read_parquet([{listed}]{'' if alike else ', union_by_name = true'})"


def sum_sql(what: str, paths: Sequence[Path]) -> str:
    """SQL for the sum of what several files hold; ``what`` : its name in a partition's folder."""
    kind = what.partition("-")[0]
    if kind in SIMPLE:
        return SIMPLE[kind].format(files=files_sql(paths))
    return cell_sums_sql(paths)


def cell_sums_sql(paths: Sequence[Path]) -> str:
    """SQL for the cells of several partitions as those of all their line items; by sampled unit where they are.

    Single rows' outcomes are kept where all partitions have them.
    """
    names = pq.read_schema(paths[0]).names
    all_have = OUTCOMES in names and all(OUTCOMES in pq.read_schema(path).names for path in paths)
    files = files_sql(paths, alike=all_have or OUTCOMES not in names)
    sql = added_sql(files, [name for name in names if name != OUTCOMES])
    if not all_have:
        return sql
    entries = f"select {CELL}, unnest(map_entries({OUTCOMES})) as entry from {files}"
    counts = f"select {CELL}, entry.key as outcome, sum(entry.value) as n from ({entries}) as entries group by all"
    maps = f"select {CELL}, map(list(outcome), list(cast(n as bigint))) as {OUTCOMES} from ({counts}) as counts group by {CELL}"
    return f"select cells.*, maps.{OUTCOMES} from (\n{sql}\n) as cells inner join ({maps}) as maps using ({CELL})"


def added_sql(cells: str, names: Sequence[str]) -> str:
    """SQL that adds cells of one key; ``cells`` : a table expression with the columns ``names``, which are no outcomes."""
    cell = [name for name in names if name in (CELL, UNIT)]
    keys = [name for name in names if name.startswith(KEYS) or name == "offset"]
    weight = "weight" if "weight" in names else "n"
    weights = {name: weight for name in names if name.startswith("mean.")}
    weights |= dict.fromkeys([name for name in names if name in ("observed.mean", "observed.size") or name.startswith(LEVEL_MEAN)], "n")
    columns = {name: quote(name) for name in [*cell, *keys]}
    columns |= {name: _summed(name, weights, weight) for name in names if name not in columns}
    anchors = [f"{quote(name)} as {quote(ANCHOR + name)}" for name in cell]
    anchors += [f"any_value({quote(name)}) as {quote(ANCHOR + name)}" for name in weights]
    away = ["part.*", *(f"{quote(ANCHOR + name)}" for name in weights)]
    away += [f"part.{quote(name)} - {quote(ANCHOR + name)} as {quote(AWAY + name)}" for name in weights]
    shown = [sql if sql == quote(name) else f"{sql} as {quote(name)}" for name, sql in columns.items()]
    match = " and ".join(f"part.{quote(name)} = anchor.{quote(ANCHOR + name)}" for name in cell)
    return render(
        "cell_sums",
        files=cells,
        cell=", ".join(map(quote, cell)),
        joined=f"part inner join anchor on {match}",
        anchors=", ".join(anchors),
        away=", ".join(away),
        columns=",\n    ".join(shown),
    )


def _summed(name: str, weights: Mapping[str, str], weight: str) -> str:
    """SQL for a column of the merged cells: a mean, a sum of products about means, or a sum."""
    if name == "n":
        return "cast(sum(n) as bigint)"
    if name == LOST:
        return f"bool_or({LOST})"
    if name in weights:
        return f"any_value({quote(ANCHOR + name)}) + coalesce({_weighted(name, weights[name])} / nullif(sum({weights[name]}), 0), 0)"
    if name in MOMENTS:
        one, other = (f"observed.{part}" for part in MOMENTS[name])
        return _product(name, one, other, "n")
    if name.startswith("cross."):
        one, other = (f"mean.{part}" for part in name.split(".")[1:])
        return _product(name, one, other, weight)
    return f"sum({quote(name)})"


def _weighted(name: str, weight: str) -> str:
    return f"sum({weight} * {quote(AWAY + name)})"


def _product(name: str, one: str, other: str, weight: str) -> str:
    """Sums of products within the partitions, and of their means about the merged mean."""
    between = f"sum({weight} * {quote(AWAY + one)} * {quote(AWAY + other)})"
    moved = f"coalesce({_weighted(one, weight)} * {_weighted(other, weight)} / nullif(sum({weight}), 0), 0)"
    apart = f"greatest({between} - {moved}, 0)" if one == other else f"{between} - {moved}"
    return f"sum({quote(name)}) + {apart}"
