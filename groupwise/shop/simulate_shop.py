"""Simulate a shop inside DuckDB: line items with known effects, nested and crossed groups, heavy tails, and a table of the truth."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from groupwise.progress import Progress, silent_progress
from multilevel.errors import SourceError, StudyError
from sql import read_query

# in the order in which they need one another
STEPS = (
    "uniform",
    "normal",
    "poisson",
    "parameter",
    "regions",
    "categories",
    "customers",
    "products",
    "truth",
    "mix",
    "customer_effect",
    "channel_effect",
    "global_effect",
    "line_ids",
    "line_items",
)

# the formula under which the truth table of each outcome is the truth
FORMULAS = {
    "log_amount": (
        "gaussian",
        "log_amount ~ 1 + discount + channel + region_income + (1 | region) + (1 + discount || department/category)",
    ),
    "log_price": ("gaussian", "log_price ~ 1 + discount + (1 | region/customer_id) + (1 | department/category)"),
    "is_kept": ("binomial", "is_kept ~ 1 + on_sale + channel + (1 | region) + (1 | department/category)"),
    "quantity": ("poisson", "quantity ~ 1 + on_sale + (1 | region) + (1 | department/category)"),
}


@dataclass(frozen=True)
class SimulatedShop:
    """What ``simulate_shop`` made: the file and how many of each there are."""

    database: Path
    line_items: int
    customers: int
    products: int
    categories: int
    departments: int
    regions: int
    seed: int


def simulate_shop(
    database: Path,
    line_items: int,
    *,
    customers: int = 10_000,
    products: int = 5_000,
    categories: int = 200,
    regions: int = 50,
    seed: int = 1,
    progress: Progress | None = None,
) -> SimulatedShop:
    """Make ``database`` a simulated shop; the same arguments give the same rows.

    Customers are nested in regions and products in categories in departments (one department to ten categories); the two trees are
    crossed. The outcomes are log_amount and log_price (gaussian; log_price also varies by customer), is_kept (binomial) and quantity
    (poisson). Table ``truth`` holds every true coefficient, standard deviation and effect; ``FORMULAS`` says under which formula each
    outcome has them. The file is built beside its place and renamed into it, replacing an earlier simulated shop.

    Raises
    ------
    StudyError
        If a count is out of range.
    SourceError
        If ``database`` is a file that this command did not make, or cannot be written.
    """
    _refuse_bad_counts(line_items=line_items, customers=customers, products=products, categories=categories, regions=regions)
    _refuse_foreign_file(database)
    departments = max(2, -(-categories // 10))
    shop = SimulatedShop(database, line_items, customers, products, categories, departments, regions, seed)
    database.parent.mkdir(parents=True, exist_ok=True)
    building = database.with_name(f".{database.name}.{os.getpid()}.simulating")
    try:
        _build(building, shop, progress or silent_progress)
        building.replace(database)
    except (OSError, duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise SourceError(f"simulate: cannot make {database}: {error}. Ten million line items need about 700 MB of disk.") from error
    finally:
        for leftover in (building, building.with_name(f"{building.name}.wal")):
            with suppress(FileNotFoundError):
                leftover.unlink()
    return shop


def _refuse_bad_counts(*, line_items: int, customers: int, products: int, categories: int, regions: int) -> None:
    lowest = {"line_items": 1, "regions": 2, "categories": 2, "customers": regions, "products": categories}
    given = {"line_items": line_items, "regions": regions, "categories": categories, "customers": customers, "products": products}
    reasons = {"customers": " (every region has one at least)", "products": " (every category has one at least)"}
    for name, least in lowest.items():
        if given[name] < least:
            raise StudyError(f"simulate: --{name.replace('_', '-')} is {given[name]}; give {least} or more{reasons.get(name, '')}.")


def _refuse_foreign_file(database: Path) -> None:
    if not database.exists():
        return
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            made_here = connection.sql("select 1 from duckdb_tables() where table_name = 'simulation'").fetchall()
    except duckdb.Error as error:
        raise SourceError(f"simulate: {database} cannot be read: {error}. Choose another --database.") from error
    if not made_here:
        raise SourceError(f"simulate: {database} exists and is not a simulated shop. Choose another --database.")


def _build(building: Path, shop: SimulatedShop, progress: Progress) -> None:
    counts = {
        "line_items": shop.line_items,
        "customers": shop.customers,
        "products": shop.products,
        "categories": shop.categories,
        "departments": shop.departments,
        "regions": shop.regions,
        "seed": shop.seed,
    }
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "memory_limit": "1GB",  # flat whatever the number of line items: everything streams
    }
    with duckdb.connect(str(building), config=config) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for done, step in enumerate(STEPS):
            progress(step, done, len(STEPS))
            _run(connection, read_query(f"simulate_{step}"), counts)
        columns = ", ".join(f"${name}::bigint as {name}" for name in counts)
        connection.execute(f"create table simulation as select {columns}", counts)
        connection.execute("create table formula (outcome varchar primary key, family varchar not null, formula varchar not null)")
        connection.executemany("insert into formula values (?, ?, ?)", [(outcome, *formula) for outcome, formula in FORMULAS.items()])
        connection.execute("checkpoint")
        progress("done", len(STEPS), len(STEPS))


def _run(connection: duckdb.DuckDBPyConnection, query: str, counts: dict[str, int]) -> None:
    """Execute one statement with those of the counts that it names (DuckDB refuses surplus parameters)."""
    needed = connection.extract_statements(query)[0].named_parameters
    connection.execute(query, {name: counts[name] for name in needed})
