"""Levels under the names that the study's ``labels`` give them: what the page shows, never what the tables hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from groupwise.study.study_labels import Labels

_BY_FACTOR = ("group_estimates", "group_coefficients")


def labelled(tables: Mapping[str, pa.Table], labels: Labels, cells: tuple[str, str] | None = None) -> dict[str, pa.Table]:
    """The tables with the labels of levels, and of outer levels, in place of levels.

    Labels that would make two levels of a factor one are left out. ``cells`` : the columns of ``cell_estimates``.
    """
    found = dict(tables)
    if not labels.levels:
        return found
    for name in _BY_FACTOR:
        if name in found:
            found[name] = _by_factor(found[name], labels)
    if cells is not None and "cell_estimates" in found:
        for column, own in zip(("customer_group", "product_group"), cells, strict=True):
            found["cell_estimates"] = _renamed(found["cell_estimates"], column, partial(labels.level, own))
    return found


def parent_columns(table: pa.Table) -> dict[str, str]:
    """Factor -> the factor that its levels were found to be within, of those whose own name does not say it."""
    names = [str(name) for name in pc.unique(table.column("grouping_factor")).to_pylist()]
    within: dict[str, str] = {}
    for factor in (name for name in names if ":" not in name):
        own = table.filter(pc.field("grouping_factor") == factor)
        parents = set(pc.unique(own.column("parent_level")).to_pylist()) - {None}
        if not parents:
            continue
        for other in (name for name in names if name != factor):
            rows = table.filter(pc.field("grouping_factor") == other).select(["parent_level", "level"]).to_pylist()
            if parents <= {row["level"] if ":" not in other else f"{row['parent_level']}:{row['level']}" for row in rows}:
                within[factor] = other
                break
    return within


def _by_factor(table: pa.Table, labels: Labels) -> pa.Table:
    around = parent_columns(table)
    parts: list[pa.Table] = []
    for factor in map(str, pc.unique(table.column("grouping_factor")).to_pylist()):
        own = table.filter(pc.field("grouping_factor") == factor)
        own = _renamed(own, "level", partial(labels.level, factor.rpartition(":")[2]))
        outer = around.get(factor)
        parts.append(_renamed(own, "parent_level", partial(_parent, labels, factor, outer)))
    return pa.concat_tables(parts) if parts else table


def _parent(labels: Labels, factor: str, outer: str | None, level: str) -> str:
    return str(labels.parent_of(factor, level, around=outer))


def _renamed(table: pa.Table, column: str, rename: Callable[[Any], str]) -> pa.Table:
    values = pc.unique(table.column(column))
    names = [None if value is None else rename(value) for value in values.to_pylist()]
    if len(set(names)) < len(names) or names == values.to_pylist():
        return table
    renamed = pc.take(pa.array(names, pa.string()), pc.index_in(table.column(column), value_set=values))
    return table.set_column(table.column_names.index(column), column, renamed)
