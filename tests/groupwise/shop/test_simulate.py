"""A simulated shop is what its arguments say, the same for the same seed, and has the truth that its truth table tells."""

from pathlib import Path

import duckdb
import numpy as np
import pytest

from groupwise.shop.simulate_shop import FORMULAS, simulate_shop
from multilevel.errors import SourceError, StudyError
from sql import read_query

SIZE = {"customers": 2_000, "products": 600, "categories": 30, "regions": 10}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulated") / "shop.duckdb"
    simulate_shop(path, 400_000, **SIZE, seed=7)
    return path


@pytest.fixture
def connection(database: Path):
    with duckdb.connect(str(database), read_only=True) as connection:
        connection.execute(f"create or replace temp view line as {read_query('simulated_line_items')}")
        yield connection


def truth(connection: duckdb.DuckDBPyConnection, outcome: str, parameter: str, term: str, factor: str | None = None) -> float:
    query = """
        select value from truth
        where outcome = ? and parameter = ? and term = ? and grouping_factor is not distinct from ? and level is null
    """
    return connection.execute(query, [outcome, parameter, term, factor]).fetchall()[0][0]


def test_there_are_as_many_of_each_as_asked_for(connection):
    for table, n in {"line_items": 400_000, **SIZE}.items():
        assert connection.sql(f"select count(*) from {table}").fetchall() == [(n,)], table
    assert connection.sql("select count(*), count(distinct line_item_id) from line").fetchall() == [(400_000, 400_000)]


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(tmp_path):
    def checksum(name: str, seed: int) -> object:
        simulate_shop(tmp_path / name, 5_000, **SIZE, seed=seed)
        with duckdb.connect(str(tmp_path / name), read_only=True) as connection:
            return connection.sql("select bit_xor(hash(line_items)) from line_items").fetchall()

    assert checksum("a.duckdb", 1) == checksum("b.duckdb", 1)
    assert checksum("a.duckdb", 1) != checksum("c.duckdb", 2)


def test_groups_are_unbalanced_with_heavy_tails(connection):
    for group in ("customer_id", "product_id", "region", "category"):
        sizes = connection.sql(f"select count(*)::double as n from line group by {group} order by n").fetchnumpy()["n"]
        assert sizes[-1] > 4 * np.median(sizes), group


def test_categories_sit_in_one_department_and_customers_in_one_region(connection):
    assert connection.sql("select max(n) from (select count(distinct department) as n from line group by category)").fetchall() == [(1,)]
    assert connection.sql("select max(n) from (select count(distinct region) as n from line group by customer_id)").fetchall() == [(1,)]


def test_rows_have_the_means_that_their_true_effects_give(connection):
    """Every outcome minus its true linear predictor averages to nothing, overall and in the largest groups."""
    connection.execute("""
        create or replace temp table effect as
        select outcome, grouping_factor, level, coalesce(sum(value) filter (term = 'Intercept'), 0) as intercept,
            coalesce(sum(value) filter (term = 'discount'), 0) as discount
        from truth where parameter = 'deviation' group by all
    """)
    for outcome, link in {"log_amount": "eta", "log_price": "eta", "is_kept": "1 / (1 + exp(-eta))", "quantity": "exp(eta)"}.items():
        query = f"""
            with coefficient as (select term, value from truth where outcome = '{outcome}' and parameter = 'coefficient'),
            predicted as (
                select {outcome}::double as y, line.region, line.category,
                    (select value from coefficient where term = 'Intercept')
                    + coalesce((select value from coefficient where term = 'discount'), 0) * line.discount
                    + coalesce((select value from coefficient where term = 'on_sale'), 0) * line.on_sale::integer
                    + coalesce((select value from coefficient where term = 'region_income'), 0) * line.region_income
                    + coalesce(channel.value, 0)
                    + region.intercept + department.intercept + category.intercept + coalesce(customer.intercept, 0)
                    + (department.discount + category.discount) * line.discount as eta
                from line
                join effect as region on region.outcome = '{outcome}' and region.grouping_factor = 'region' and region.level = line.region
                join effect as department
                    on department.outcome = '{outcome}' and department.grouping_factor = 'department' and department.level = line.department
                join effect as category
                    on category.outcome = '{outcome}' and category.grouping_factor = 'department:category'
                    and category.level = line.category
                left join effect as customer
                    on customer.outcome = '{outcome}' and customer.grouping_factor = 'region:customer_id'
                    and customer.level = line.customer_id::varchar
                left join coefficient as channel on channel.term = 'channel[' || line.channel || ']'
            )
            select avg(y - mu) / (stddev_samp(y - mu) / sqrt(count(*))) as z, stddev_samp(y - mu) as sd
            from (select *, {link} as mu from predicted) group by grouping sets ((), (region), (category))
        """
        result = connection.sql(query).fetchnumpy()
        assert np.max(np.abs(result["z"])) < 4.2, outcome
        assert 0.8 < np.std(result["z"]) < 1.25, outcome
        if outcome.startswith("log"):
            np.testing.assert_allclose(result["sd"][0], truth(connection, outcome, "sd", "sigma", "residual"), rtol=0.01)


def test_counts_are_poisson_given_their_mean(connection):
    query = """
        with cell as (
            select var_samp(quantity) as v, avg(quantity) as m, count(*) as n
            from line group by region, category, on_sale having count(*) > 1
        )
        select sum(v * (n - 1)) / sum(m * (n - 1)) from cell
    """
    assert connection.sql(query).fetchall()[0][0] == pytest.approx(1, abs=0.01)


def test_effects_have_the_standard_deviations_of_the_truth(connection):
    query = (
        "select stddev_samp(value) from truth where outcome = 'log_price' and grouping_factor = 'region:customer_id' and level is not null"
    )
    assert connection.sql(query).fetchall()[0][0] == pytest.approx(0.3, rel=0.06)


def test_the_streams_of_one_line_item_do_not_depend_on_each_other(connection):
    drawn = connection.sql("select customer_id, product_id, on_sale::integer, (channel = 'online')::integer, is_kept::integer from line")
    correlations = np.corrcoef(np.column_stack(list(drawn.fetchnumpy().values()))[:, :4].astype(float).T)
    # on_sale depends on the category, hence weakly on the product
    assert np.max(np.abs(correlations - np.eye(4))) < 0.05


def test_every_outcome_has_its_formula(connection):
    assert {outcome for (outcome,) in connection.sql("select outcome from formula").fetchall()} == set(FORMULAS)
    columns = {row[0] for row in connection.sql("describe line").fetchall()}
    assert set(FORMULAS) <= columns


@pytest.mark.parametrize(
    ("counts", "option"),
    [
        ({"regions": 1}, "--regions"),
        ({"customers": 5}, "--customers"),
        ({"products": 3}, "--products"),
        ({"categories": 1}, "--categories"),
    ],
)
def test_counts_out_of_range_are_refused_by_name(tmp_path, counts, option):
    with pytest.raises(StudyError, match=option):
        simulate_shop(tmp_path / "x.duckdb", 100, **{**SIZE, **counts})


def test_a_file_that_is_not_a_simulated_shop_is_never_replaced(tmp_path, database):
    other = tmp_path / "warehouse.duckdb"
    with duckdb.connect(str(other)) as connection:
        connection.execute("create table important (x integer)")
    with pytest.raises(SourceError, match="not a simulated shop"):
        simulate_shop(other, 100, **SIZE)
    assert [p.name for p in database.parent.iterdir()] == ["shop.duckdb"]
