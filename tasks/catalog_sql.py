"""``catalog.sql``: DuckDB views of the latest version of every study, through the ``current`` links, so that they never go stale."""

from __future__ import annotations

from pathlib import Path

from multilevel.tables.catalogue import TABLES
from tasks import durable
from tasks.relation import literal, quote

CATALOG = "catalog.sql"


def write_catalog(root: Path) -> Path:
    """Write ``catalog.sql`` for every study published under ``root``: a schema a study, a view a table."""
    studies = sorted(path.parent.name for path in root.glob("*/_latest.json"))
    lines = ["-- Latest version of every study. In DuckDB: .read catalog.sql, then select * from <study>.group_estimates."]
    for study in studies:
        lines.append(f"create schema if not exists {quote(study)};")
        for table in TABLES:
            file = root / study / "current" / f"{table}.parquet"
            lines.append(f"create or replace view {quote(study)}.{table} as select * from read_parquet({literal(str(file))});")
    durable.write_whole(root / CATALOG, "\n".join(lines) + "\n")
    return root / CATALOG
