"""Files that lie inside a window as a whole, by the smallest and largest values in their footers: their line items need not be asked."""

from __future__ import annotations

from dataclasses import replace

import duckdb

from groupwise.source.relation import Relation, literal
from groupwise.source.sealing import readable
from groupwise.source.shards.shard_select import read_alike
from groupwise.source.source_files import exactly, is_remote, local_files
from groupwise.study.study import Study


def without_condition(connection: duckdb.DuckDBPyConnection, study: Study, relation: Relation) -> Relation:
    """The same line items, without the window's column being read of files whose footers say that all of them are in it.

    The relation itself where it does not read Parquet files as they are, or no file lies inside as a whole.
    """
    column = relation.window_column
    patterns = [file for pattern in relation.files for file in readable(pattern)]
    read = read_alike(patterns)
    is_plain = relation.kind == "parquet" and study.source.line_items is None and relation.line_items.count(read) == 1
    if column is None or not is_plain or column in study.types or any(map(is_remote, relation.files)):
        return relation
    named = [file for pattern in relation.files for file in local_files(pattern)]
    if len(set(named)) < len(named):
        return relation  # a file that is named twice is read twice
    files = {str(file): bool(inside) for file, inside in connection.execute(_footers(relation, column)).fetchall()}
    inside, others = ([exactly(file) for file, is_inside in files.items() if is_inside == wanted] for wanted in (True, False))
    if not inside:
        return relation
    selects = [f"select * from (\n{relation.line_items.replace(read, read_alike(inside))}\n)"]
    if others:
        rest = relation.line_items.replace(read, read_alike(others))
        selects.append(f"select * from (\n{rest}\n)\nwhere {relation.window_condition()}")
    return replace(relation, line_items="\nunion all\n".join(selects), window_column=None)


def _footers(relation: Relation, column: str) -> str:
    """SQL: every file, and whether all of its values are inside the window. Bounds may be wider than the values, never narrower."""
    kind = relation.columns[column]
    listed = ", ".join(literal(file) for pattern in relation.files for file in readable(pattern))
    low, high = (f"try_cast({name} as {kind})" for name in ("stats_min_value", "stats_max_value"))
    holds = f"{low} >= date '{relation.start}' and {high} < date '{relation.end}' and stats_null_count = 0"
    own = f"lower(path_in_schema) = {literal(column.lower())}"
    return f"select file_name, bool_and(coalesce({holds}, false)) from parquet_metadata([{listed}]) where {own} group by 1 order by 1"
