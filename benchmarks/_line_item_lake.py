"""Simulated line items of three years in one table: a Parquet file a month, about 31 bytes a line item, 50 x 200 levels with slopes."""

from __future__ import annotations

from calendar import monthrange
from datetime import date
from pathlib import Path

import duckdb

FIRST_YEAR, MONTHS = 2023, 36
DAYS = 1096
AS_OF = date(2026, 1, 1)
MOST_MEMORY = "1500MB"
QUERY = """
with drawn as (
    select {start} + i as id, hash({start} + i) as h, hash({start} + i, 1) as e from range({n}) as numbers(i)
),
levels as (
    select
        h, e, timestamp '{first_day}' + to_seconds(floor((id - {start}) * {seconds} / {n})::bigint) as ts,
        (h % 50)::integer as r, ((h >> 8) % 200)::integer as c, ((h >> 20) % 2000000)::integer as customer_id,
        ((h >> 44) % 1000) / 2000.0 as discount,
        ((e & 65535) + ((e >> 16) & 65535) + ((e >> 32) & 65535) + ((e >> 48) & 65535) - 131070.0) / 37837.0 as z
    from drawn
)
select
    ts, customer_id, 'region ' || (r + 100) as region, 'department ' || (c // 20 + 10) as department,
    'category ' || (c + 100) as category, discount,
    2.0 + 0.3 * sin(r * 1.7) + 0.2 * sin(c * 2.3) + 0.25 * sin((c // 20) * 3.1) + (0.2 * cos(r * 2.9) - 0.5) * discount + 0.6 * z
        as log_amount,
    h as receipt, exp(2.0 + 0.6 * z) as amount
from levels
"""
"""A line item's errors are a sum of four uniform draws (mean 0, standard deviation 1), from hashes of its number."""


def write_lake(folder: Path, n: int) -> None:
    """Write ``n`` line items, evenly over the months; a file that is there is left as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(config={"memory_limit": MOST_MEMORY, "threads": 2}) as connection:
        for month in range(MONTHS):
            _write_month(connection, folder, n, month)


def last_file(folder: Path) -> Path:
    """The file of the last month."""
    return max(folder.glob("*.parquet"))


def _write_month(connection: duckdb.DuckDBPyConnection, folder: Path, n: int, month: int) -> None:
    year, of_year = FIRST_YEAR + month // 12, month % 12 + 1
    path = folder / f"{year}-{of_year:02}.parquet"
    if path.exists():
        return
    start, end = n * month // MONTHS, n * (month + 1) // MONTHS
    seconds = monthrange(year, of_year)[1] * 86_400
    rows = QUERY.format(start=start, n=end - start, first_day=date(year, of_year, 1), seconds=f"{seconds}.0")
    partial = path.with_suffix(".partial")
    connection.execute(f"copy ({rows}) to '{partial}' (format parquet, compression zstd, row_group_size 500000)")
    partial.replace(path)
