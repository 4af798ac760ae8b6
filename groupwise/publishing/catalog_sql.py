"""``catalog.sql``: DuckDB views of the latest version of every study, through the ``current`` links, so that they never go stale."""

from __future__ import annotations

from pathlib import Path

from groupwise.publishing import durable
from groupwise.publishing.folder.lock import hold_lock
from groupwise.source.relation import literal, quote
from groupwise.source.source_files import exactly
from multilevel.catalogue.published_tables import EVERY_TABLE, TABLES

CATALOG = "catalog.sql"
CATALOG_LOCK = ".catalog.lock"


def write_catalog(root: Path) -> Path:
    """Write ``catalog.sql`` for every study with a ``current`` link under ``root``: a schema a study, a view a table."""
    with hold_lock(root / CATALOG_LOCK, f"{root / CATALOG}"):
        studies = sorted(path.parent.name for path in root.glob("*/current"))
        lines = ["-- Latest version of every study. In DuckDB: .read catalog.sql, then select * from <study>.group_estimates."]
        for study in studies:
            lines.append(f"create schema if not exists {quote(study)};")
            for table in EVERY_TABLE:
                path = root / study / "current" / f"{table}.parquet"
                if table in TABLES or path.exists():
                    file = literal(exactly(str(path)))
                    lines.append(f"create or replace view {quote(study)}.{table} as select * from read_parquet({file});")
        durable.replace_text(root / CATALOG, "\n".join(lines) + "\n")
    return root / CATALOG
