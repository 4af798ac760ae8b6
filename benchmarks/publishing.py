"""Publishing a million group rows, and reading one group's row of the latest version through DuckDB.

Run: ``python -m benchmarks publishing [rows]``. Everything happens in a temporary folder; the publication in a process of its own, whose
peak memory is its own too.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

STUDY = "bench"
DAY = date(2026, 11, 1)
REPEATS = 15


def main(rows: int = 1_000_000) -> None:
    """Print both figures, for either table that has a row a group, and for both at once."""
    import_module("duckdb")  # an import is not a read
    for names in (("group_estimates",), ("group_coefficients",), ("group_estimates", "group_coefficients")):
        with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
            root = Path(folder) / "published"
            seconds, imports, before, peak = _in_child(publish_rows, names, rows, root)
            size = sum(file.stat().st_size for file in root.rglob("*.parquet"))
            print(
                f"publish {' and '.join(names)} of {rows:,} rows ({size / 1e6:.0f} MB): {seconds:.2f} s, peak {peak:,.0f} MB "
                f"(imports {imports:,.0f} MB, with the tables in memory {before:,.0f} MB)",
                flush=True,
            )
            for label, read in (("pointer", read_by_pointer), ("catalog.sql", read_by_catalog)):
                levels = [f"G{at:07d}" for at in np.random.default_rng(1).integers(rows, size=REPEATS)]
                times = [_timed(read, root, names[0], level) for level in levels]
                print(f"read one row by the {label}: median {1e3 * statistics.median(times):.1f} ms, slowest {1e3 * max(times):.1f} ms")


def publish_rows(names: tuple[str, ...], rows: int, root: Path) -> tuple[float, float, float, float]:
    """Seconds of ``publish``, and this process's peak memory in MB: after imports, with the tables made, at the end."""
    import pyarrow as pa

    from groupwise.publishing.folder.folder_publish import publish
    from multilevel.catalogue.published_tables import TABLES, arrow_schema

    imports = _peak()
    tables = {other: pa.Table.from_pylist([], arrow_schema(other)) for other in TABLES}
    tables |= {name: group_rows(name, rows) for name in names}
    before = _peak()
    start = time.perf_counter()
    publish(tables, publish_to=str(root), study=STUDY, as_of=DAY, run_id="r1", provenance={})
    return time.perf_counter() - start, imports, before, _peak()


def group_rows(name: str, rows: int) -> Any:
    """A table of groups with plausible numbers, sorted by its key."""
    import pyarrow as pa

    from multilevel.catalogue.published_tables import TABLES, arrow_schema

    rng = np.random.default_rng(0)
    schema = arrow_schema(name)
    constants: dict[str, Any] = {
        "study": STUDY,
        "as_of": DAY,
        "run_id": "20261101T000000-1a2b3c4d",
        "engine": "likelihood",
        "pooling": "partial",
        "grouping_factor": "customer_id",
        "term": "Intercept",
        "parent_level": None,
        "is_new": False,
        "variance_uncertainty": "expansion",
    }
    value = rng.normal(size=rows)
    made: dict[str, Any] = {
        "level": pa.array([f"G{at:07d}" for at in range(rows)]),
        "n": rng.integers(1, 1000, rows),
        "rank_lower": np.ones(rows),
        "rank_upper": np.full(rows, 2.0),
    }
    arrays = []
    for column in TABLES[name].columns:
        field = schema.field(column.name)
        if column.name in constants:
            arrays.append(pa.repeat(pa.scalar(constants[column.name], field.type), rows))
        elif column.name in made:
            arrays.append(pa.array(made[column.name], field.type))
        elif column.name.endswith("lower"):
            arrays.append(pa.array(value - 1.0))
        elif column.name.endswith("upper"):
            arrays.append(pa.array(value + 1.0))
        elif column.minimum is not None:
            arrays.append(pa.array(rng.random(rows)))
        else:
            arrays.append(pa.array(value))
    return pa.Table.from_arrays(arrays, schema=schema)


def read_by_pointer(root: Path, name: str, level: str) -> list[Any]:
    """One group's row as a consumer without any of this project's code gets it: pointer, then the file, in a new connection."""
    import json

    import duckdb

    home = root / STUDY
    folder = home / json.loads((home / "_latest.json").read_text())["version"]
    with duckdb.connect() as connection:
        return connection.execute(f"select * from read_parquet('{folder / name}.parquet') where level = ?", [level]).fetchall()


def read_by_catalog(root: Path, name: str, level: str) -> list[Any]:
    """The same through the views."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute((root / "catalog.sql").read_text())
        return connection.execute(f"select * from {STUDY}.{name} where level = ?", [level]).fetchall()


def _timed(read: Callable[[Path, str, str], list[Any]], root: Path, name: str, level: str) -> float:
    start = time.perf_counter()
    found = read(root, name, level)
    seconds = time.perf_counter() - start
    assert len(found) == 1, (name, level, found)
    return seconds


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_child(work: Callable[..., Any], *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)
