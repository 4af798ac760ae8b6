"""``catalog.sql``: DuckDB views of the latest version of every study, through the ``current`` links, so that they never go stale."""

from __future__ import annotations

from pathlib import Path

from groupwise.publishing import durable
from groupwise.publishing.folder.lock import hold_lock
from groupwise.source.relation import literal, quote
from groupwise.source.source_files import exactly
from multilevel.catalogue.evolution import EARLIER
from multilevel.catalogue.published_tables import EVERY_TABLE, TABLES

CATALOG = "catalog.sql"
TREND = "group_trend"
"""The view over all versions of a study."""
CATALOG_LOCK = ".catalog.lock"


def views(study: str, table: str, rows: str) -> list[str]:
    """The statements that make a table's view of ``rows`` (SQL), and that of its columns in the catalogue's first version where it has more
    now."""
    found = [f"create or replace view {quote(study)}.{quote(table)} as select * from {rows};"]
    if table in EARLIER:
        columns = ", ".join(quote(name) for name in EARLIER[table])
        found.append(f"create or replace view {quote(study)}.{quote(table + '_1x')} as select {columns} from {rows};")
    return found


def trend(study: str, home: str) -> str:
    """The statement that makes the view of every group's estimates over all versions: of a day, the version that was published last.

    home : folder or address of the study.
    """
    rows = f"read_parquet({literal(f'{home}/versions/*/*/group_estimates.parquet')}, union_by_name = true, hive_partitioning = false)"
    columns = "{as_of: 'varchar', run_id: 'varchar', published_at: 'varchar'}"
    manifests = f"read_json({literal(f'{home}/manifests/*/*.json')}, columns = {columns})"
    last = f"select arg_max(run_id, published_at) from {manifests} group by as_of"
    return f"create or replace view {quote(study)}.{quote(TREND)} as select * from {rows} where run_id in ({last});"


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
                    lines += views(study, table, f"read_parquet({file})")
            lines.append(trend(study, exactly(str(root / study))))
        durable.replace_text(root / CATALOG, "\n".join(lines) + "\n")
    return root / CATALOG
