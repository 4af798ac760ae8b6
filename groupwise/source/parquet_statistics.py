"""Parquet's minimum and maximum leave NaN out, so DuckDB would fold or prune predicates on floating-point columns that hold NaN.

Sources: apache/parquet-format, ``Statistics`` ("NaNs should not be written to min or max"); DuckDB's issues 7803 and 25521.
"""

from __future__ import annotations

CAN_HAVE_NAN = "can_have_nan = true"
"""Argument of every ``read_parquet`` that predicates may follow; other columns still prune files and row groups."""
