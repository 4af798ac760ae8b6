"""Parquet's minimum and maximum leave NaN out, so DuckDB would fold or prune predicates on floating-point columns that hold NaN.

``can_have_nan`` tells a scan of ours that NaN may be there: other columns still prune files and row groups. A query of the user's may scan
Parquet anywhere (also in a view of the database), so there the two optimisers that trust the statistics are off.

Sources: apache/parquet-format, ``Statistics`` ("NaNs should not be written to min or max"); DuckDB's issues 7803 and 25521.
"""

from __future__ import annotations

import duckdb

CAN_HAVE_NAN = "can_have_nan = true"
"""Argument of every ``read_parquet`` that predicates may follow."""

TRUSTING = "statistics_propagation,filter_pushdown"
"""Optimisers that decide predicates by a file's statistics; either alone does so."""

_NAMES_PARQUET = """
    select count(*) from (
        select sql as definition from duckdb_views() where not internal
        union all
        select macro_definition from duckdb_functions() where not internal and macro_definition is not null
    ) where contains(lower(definition), 'parquet')
"""


def distrust_parquet_statistics(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Turn the trusting optimisers off on this connection, where ``query``, a view or a macro of its database names Parquet."""
    if "parquet" in query.lower() or connection.execute(_NAMES_PARQUET).fetchall()[0][0]:
        connection.execute(f"set disabled_optimizers = '{TRUSTING}'")
