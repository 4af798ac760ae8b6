"""The DuckDB query gives the cells that grouping the rows in memory gives, for every family and every kind of predictor."""

from dataclasses import fields
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from groupwise.compression.compress import compress_rows
from groupwise.source.time_limit import time_limit, watched
from multilevel.cells.files import read_cells
from multilevel.cells.from_rows import cells_from_frame
from multilevel.cells.statistics import CellStatistics, Labels
from multilevel.errors import DataError, ResourceError
from multilevel.formula.parse import parse_formula

N = 4_000


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    category = rng.integers(0, 23, N)
    frame = pd.DataFrame(
        {
            "category": np.array([f"CAT {c}" for c in category], dtype=object),
            "department": np.array([f"D{c % 5}" for c in category], dtype=object),
            "store": rng.integers(8, 12, N),
            "on sale": rng.random(N) < 0.4,
            "size": rng.choice(["S", "M", "L"], N).astype(object),
            "week": rng.integers(1, 12, N),
            "price": rng.normal(3, 1, N),
            "age": rng.uniform(20, 70, N).round(1),
            "trials": rng.integers(1, 6, N),
            "exposure": rng.integers(1, 4, N) / 2,
            "se": rng.uniform(0.5, 2, N),
            "w": rng.uniform(0.5, 2, N),
        }
    )
    frame["spend"] = np.exp(rng.normal(1, 1, N) + 0.2 * frame["price"])
    frame["items"] = rng.poisson(2.5, N)
    frame["kept"] = rng.random(N) < 0.7
    frame["successes"] = rng.binomial(frame["trials"], 0.4)
    return frame


@pytest.fixture(scope="module")
def connection(rows: pd.DataFrame) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.register("frame", rows)
    con.execute("create table lines as select * from frame")
    return con


def cells_by_query(connection: duckdb.DuckDBPyConnection, formula: str, family: str, folder: Path, **limits: int) -> CellStatistics:
    study = compress_rows(connection, "select * from lines", parse_formula(formula), family, folder, **limits)
    return read_cells(study.cells_path, study.spec_path)


def in_order(cells: CellStatistics) -> np.ndarray:
    """An order of cells that depends only on what they are."""
    texts = [labels.values[labels.codes].astype(str) for labels in (*cells.groups.values(), *cells.labels.values())]
    numbers = [*cells.numbers.values(), cells.offset]
    return np.lexsort([np.round(n, 9) for n in numbers] + texts)


def assert_same_labels(a: Labels, b: Labels, order_a: np.ndarray, order_b: np.ndarray) -> None:
    assert list(a.values) == list(b.values)
    np.testing.assert_array_equal(a.codes[order_a], b.codes[order_b])


def assert_same_cells(a: CellStatistics, b: CellStatistics) -> None:
    assert (a.family, a.log_outcome, a.features, a.known_sigma, a.n_cells) == (
        b.family,
        b.log_outcome,
        b.features,
        b.known_sigma,
        b.n_cells,
    )
    at, bt = in_order(a), in_order(b)
    for name, labels in a.groups.items():
        assert_same_labels(labels, b.groups[name], at, bt)
    for name, labels in a.labels.items():
        assert_same_labels(labels, b.labels[name], at, bt)
    assert set(a.numbers) == set(b.numbers)
    for name, values in a.numbers.items():
        np.testing.assert_allclose(values[at], b.numbers[name][bt], rtol=1e-12, atol=1e-12)
    for field in ("n", "weight", "mean", "cross", "size", "total", "offset"):
        np.testing.assert_allclose(getattr(a, field)[at], getattr(b, field)[bt], rtol=1e-10, atol=1e-9, err_msg=field)
    assert a.once.keys() == b.once.keys()
    for name, value in a.once.items():
        assert value == pytest.approx(b.once[name], rel=1e-11, abs=1e-8), name
    if a.histogram is not None:
        np.testing.assert_array_equal(a.histogram, b.histogram)
    assert (a.log_total is None) == (b.log_total is None)
    if a.log_total is not None and b.log_total is not None:
        np.testing.assert_allclose(a.log_total[at], b.log_total[bt], rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(outcomes_of(a, at), outcomes_of(b, bt), rtol=1e-12)
    assert a.observed is not None and b.observed is not None
    for field in fields(a.observed):
        ours, theirs = getattr(a.observed, field.name)[at], getattr(b.observed, field.name)[bt]
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-9, err_msg=field.name)


def outcomes_of(cells: CellStatistics, order: np.ndarray) -> np.ndarray:
    """(P, 4) single rows' outcomes, sorted; the cell by its place in ``order``."""
    if cells.outcomes is None:
        return np.zeros((0, 4))
    kept = cells.outcomes
    table = np.column_stack([np.argsort(order)[kept.cell], kept.value, np.round(kept.size, 12), kept.n])
    return table[np.lexsort(table.T[::-1])]


STUDIES = {
    "a line of spend": ("log(spend) ~ `on sale` + (1 | store) + (1 + `on sale` | department/category)", "gaussian"),
    "continuous slope": ("spend ~ price + age + (1 + price | category)", "gaussian"),
    "no group": ("spend ~ price", "gaussian"),
    "only a mean": ("spend ~ 1", "gaussian"),
    "discrete numbers": ("spend ~ week + I(week^2) + log(week) + price:week + (1 | store)", "gaussian"),
    "categorical numbers": ("spend ~ C(week) + size*price + (1 | store)", "gaussian"),
    "within and between": (
        "spend ~ within(price, category) + between(price, category) + between(week, department:store) + (1 | category)",
        "gaussian",
    ),
    "within times continuous": ("spend ~ within(price, category):age + (1 | category)", "gaussian"),
    "centred and scaled": ("spend ~ center(price) + scale(log(age)) + center(week) + scale(`on sale`) + (1 | store)", "gaussian"),
    "binned": ("spend ~ bin(age, 10) + C(bin(age, 25)) + (1 | store)", "gaussian"),
    "an offset taken off": ("log(spend) ~ price + offset(log(exposure)) + (1 | store)", "gaussian"),
    "a centred offset": ("spend ~ price + offset(center(age)) + (1 | store)", "gaussian"),
    "weights": ("spend | weights(w) ~ price + age + week + (1 + price | category)", "gaussian"),
    "known standard errors": ("spend | se(se) ~ within(price, category) + (1 | category)", "gaussian"),
    "a calculated outcome": ("I(spend/items^0 - 1) ~ 1 + (1 | category)", "gaussian"),
    "Bernoulli": ("kept ~ `on sale` + bin(price, 0.5) + (1 | category)", "binomial"),
    "counts added up": ("p(successes, trials) ~ size + within(week, store) + (1 | store)", "binomial"),
    "binomial with an offset": ("kept ~ size + offset(exposure) + (1 | store)", "binomial"),
    "counts": ("items ~ size*week + (1 | store) + (1 | store:size)", "poisson"),
    "counts with exposure": ("items ~ size + offset(log(exposure)) + offset(I(week/10)) + (1 | store)", "poisson"),
    "counts with a scaled offset": ("items ~ size + offset(scale(log(exposure))) + (1 | store)", "poisson"),
    "overdispersed counts": ("items ~ size + offset(log(exposure)) + (1 | store)", "negative_binomial"),
    "positive amounts": ("spend ~ size + (1 | category)", "gamma"),
    "positive amounts with an offset": ("spend ~ size + offset(log(exposure)) + (1 | category)", "gamma"),
}


@pytest.mark.parametrize("study", STUDIES)
def test_query_and_memory_give_the_same_cells(
    study: str, rows: pd.DataFrame, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    formula, family = STUDIES[study]
    assert_same_cells(cells_by_query(connection, formula, family, tmp_path), cells_from_frame(parse_formula(formula), rows, family))


@pytest.mark.parametrize("study", STUDIES)
def test_single_outcomes_are_kept_where_they_are_discrete_and_few(
    study: str, rows: pd.DataFrame, connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    formula, family = STUDIES[study]
    cells = cells_by_query(connection, formula, family, tmp_path)
    is_discrete = family in {"poisson", "negative_binomial"} or formula.startswith("p(")
    assert (cells.outcomes is not None) == is_discrete
    if cells.outcomes is not None:
        np.testing.assert_array_equal(np.bincount(cells.outcomes.cell, cells.outcomes.n), cells.n)
        np.testing.assert_allclose(np.bincount(cells.outcomes.cell, cells.outcomes.n * cells.outcomes.value), cells.total)
        few = cells_by_query(connection, formula, family, tmp_path, most_outcomes=20)
        assert few.outcomes is None


def test_a_shift_of_a_hundred_million_costs_no_digits(tmp_path: Path) -> None:
    con = duckdb.connect()
    con.execute(
        "create table lines as select i % 7 as g, 26e0 * sin(i) + 1e8 as y, 26e0 * cos(i * 1.7) + 3e8 as x, 26e0 * sin(i) as y0, "
        "26e0 * cos(i * 1.7) as x0 from range(100000) as r(i)"
    )
    shifted = cells_by_query(con, "y ~ x + (1 | g)", "gaussian", tmp_path)
    plain = cells_by_query(con, "y0 ~ x0 + (1 | g)", "gaussian", tmp_path)
    order = [np.argsort(cells.groups["g"].codes) for cells in (shifted, plain)]
    # the values themselves are rounded to 1.5e-8 and 6e-8 by the shift; sums of squares of raw values would be wrong by 1e-2 and more
    np.testing.assert_allclose(shifted.cross[order[0]], plain.cross[order[1]], rtol=1e-8, atol=1e-2)


def test_weighted_moments_survive_a_shift_too(tmp_path: Path) -> None:
    con = duckdb.connect()
    con.execute(
        "create table lines as select i % 7 as g, 26e0 * sin(i) + 1e8 as y, 26e0 * sin(i) as y0, 1 + i % 3 as w from range(10000) as r(i)"
    )
    shifted = cells_by_query(con, "y | weights(w) ~ 1 + (1 | g)", "gaussian", tmp_path)
    plain = cells_by_query(con, "y0 | weights(w) ~ 1 + (1 | g)", "gaussian", tmp_path)
    order = [np.argsort(cells.groups["g"].codes) for cells in (shifted, plain)]
    np.testing.assert_allclose(shifted.cross[order[0]], plain.cross[order[1]], rtol=1e-8)


def test_a_predictor_of_the_group_has_no_spread_within_cells(tmp_path: Path) -> None:
    con = duckdb.connect()
    con.execute("create table lines as select i % 100 as g, sin(i % 100) + 0.1e0 as u, random() as y from range(100000) as r(i)")
    cells = cells_by_query(con, "y ~ u + (1 | g)", "gaussian", tmp_path)
    assert cells.features == ("u",)
    assert np.all(cells.cross[:, 0, 0] <= 1e-25)


@pytest.mark.parametrize(
    ("family", "formula", "given", "expected"),
    [
        ("gaussian", "y ~ x + (1 | g)", [("a", 1, 2), ("a", 3, 6), ("b", 5, 1)], [("a", 2, 2, 4, 2, 4, 8), ("b", 1, 5, 1, 0, 0, 0)]),
    ],
)
def test_gaussian_statistics_by_hand(
    family: str, formula: str, given: list[tuple[str, int, int]], expected: list[tuple[object, ...]], tmp_path: Path
) -> None:
    con = duckdb.connect()
    con.execute("create table lines (g varchar, x double, y double)")
    con.executemany("insert into lines values (?, ?, ?)", given)
    con.execute("insert into lines select 'c', i, i from range(40) as r(i)")
    compress_rows(con, "select * from lines", parse_formula(formula), family, tmp_path)
    columns = '"g.g", n, "mean.0", "mean.1", "cross.0.0", "cross.0.1", "cross.1.1"'
    found = con.execute(f"select {columns} from read_parquet('{tmp_path}/cells.parquet') where \"g.g\" < 'c' order by 1").fetchall()
    assert found == expected


def test_counts_by_hand(tmp_path: Path) -> None:
    con = duckdb.connect()
    con.execute("create table lines (g integer, k integer, n integer, e double)")
    con.execute("insert into lines values (1, 2, 4, 1), (1, 1, 3, 2), (10, 0, 2, 1), (2, 3, 3, 1)")
    sql = "select * from lines"
    binomial = compress_rows(con, sql, parse_formula("p(k, n) ~ 1 + (1 | g)"), "binomial", tmp_path / "b")
    assert con.execute(f"select \"g.g\", n, size, total from '{binomial.cells_path}' order by 1").fetchall() == [
        (1, 2, 7.0, 3.0),
        (2, 1, 3.0, 3.0),
        (10, 1, 2.0, 0.0),
    ]
    cells = read_cells(binomial.cells_path, binomial.spec_path)
    assert list(cells.groups["g"].values) == ["1", "2", "10"], "numbers sort by value"
    assert cells.once["log_binomial"] == pytest.approx(np.log(6) + np.log(3))
    poisson = compress_rows(con, sql, parse_formula("k ~ 1 + offset(log(e)) + (1 | g)"), "poisson", tmp_path / "p")
    counts = read_cells(poisson.cells_path, poisson.spec_path)
    by_level = dict(zip(counts.groups["g"].values[counts.groups["g"].codes], counts.size, strict=True))
    assert by_level == pytest.approx({"1": 3.0, "2": 1.0, "10": 1.0})
    assert counts.once["log_factorial"] == pytest.approx(np.log(2) + np.log(6))
    assert counts.once["outcome_log_exposure"] == pytest.approx(1 * np.log(2))


def test_names_that_look_like_sql_are_only_names(tmp_path: Path) -> None:
    con = duckdb.connect()
    nasty = 'g"; drop table lines; --'
    con.execute('create table lines ("g""; drop table lines; --" varchar, y double)')
    con.execute("insert into lines values ('a', 1), ('b', 2)")
    study = compress_rows(con, "select * from lines", parse_formula(f"y ~ 1 + (1 | `{nasty}`)"), "gaussian", tmp_path)
    assert read_cells(study.cells_path, study.spec_path).groups[nasty].values.tolist() == ["a", "b"]
    assert con.execute("select count(*) from lines").fetchone() == (2,)


def test_too_many_cells_are_counted_and_refused(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"4,000 cells from 4,000 rows.*max_cells = 1,000.*bin\(price, width\)"):
        compress_rows(connection, "select * from lines", parse_formula("kept ~ price + (1 | store)"), "binomial", tmp_path, max_cells=1_000)
    assert not list(tmp_path.iterdir())


def test_gaussian_has_no_limit(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    study = compress_rows(
        connection, "select * from lines", parse_formula("spend ~ price + (1 | category)"), "gaussian", tmp_path, max_cells=2
    )
    assert (study.n_cells, study.n_rows, study.compression_ratio) == (23, N, pytest.approx(N / 23))


@pytest.mark.parametrize(
    ("formula", "sql", "message"),
    [
        ("y ~ 1 + (1 | g)", "select 1 as g, 1 as y where false", "no rows"),
        ("y ~ 1 + (1 | g)", "select null::varchar as g, 1 as y", "in `g`"),
        ("y ~ 1 + (1 | g)", "select 'a' as g, 'nan'::double as y", "not finite in `y`"),
        ("y ~ I(x/y) + (1 | g)", "select 'a' as g, 0 as y, 1 as x", r"not finite|cannot be calculated"),
        ("y ~ log(x) + (1 | g)", "select 'a' as g, 1 as y, 0 as x", r"not finite in `log\(x\)`"),
        ("y ~ x + (1 | g)", "select 'a' as g, 1 as y", "no column `x`"),
        ("y ~ scale(x) + (1 | g)", "select 'a' as g, i as y, 5 as x from range(4) as r(i)", r"x has no variation \(it is 5"),
        ("y | weights(w) ~ 1 + (1 | g)", "select 'a' as g, 1 as y, 0 as w", "`w` must be positive"),
        ("y | se(w) ~ 1 + (1 | g)", "select 'a' as g, 1 as y, 0 as w", "`w` must be positive"),
        ("y ~ log(g) + (1 | g)", "select 'a' as g, 1 as y", "holds text"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(formula: str, sql: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        compress_rows(duckdb.connect(), sql, parse_formula(formula), "gaussian", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_time_limit_interrupts_the_query(tmp_path: Path) -> None:
    sql = "select i % 10 as g, sin(i) * cos(i) as y from range(100000000000) as r(i)"
    with (
        pytest.raises(ResourceError, match=r"spend: the queries on the source did not end within 0\.3 seconds"),
        time_limit(0.3, "spend", ""),
    ):
        compress_rows(watched(duckdb.connect()), sql, parse_formula("y ~ 1 + (1 | g)"), "gaussian", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parity
def test_many_cells_in_several_row_groups_are_read_back(tmp_path: Path) -> None:
    con = duckdb.connect()
    sql = "select i as customer, 'B' || (i * 7 % 1500000) as basket, i % 3 as y from range(1500000) as r(i)"
    formula = parse_formula("y ~ 1 + (1 | customer) + (1 | basket)")
    study = compress_rows(con, sql, formula, "gaussian", tmp_path)
    cells = read_cells(study.cells_path, study.spec_path)
    customer = cells.groups["customer"].values[cells.groups["customer"].codes].astype(np.int64)
    basket = cells.groups["basket"].values[cells.groups["basket"].codes]
    assert cells.n_cells == cells.n_rows == 1_500_000
    np.testing.assert_array_equal(cells.total, customer % 3)
    assert all(basket[i] == f"B{customer[i] * 7 % 1_500_000}" for i in range(0, 1_500_000, 9_973))
    assert list(cells.groups["customer"].values[:3]) == ["0", "1", "2"]


def test_cells_are_in_the_order_of_their_keys_whatever_that_of_the_rows(rows: pd.DataFrame, tmp_path: Path) -> None:
    files = []
    for seed in range(2):
        shuffled, connection = rows.sample(frac=1.0, random_state=seed), duckdb.connect()
        connection.register("shuffled", shuffled)
        formula = parse_formula("spend ~ 1 + size + (1 | store) + (1 | category)")
        compress_rows(connection, "select * from shuffled", formula, "gaussian", tmp_path / str(seed))
        files.append(pd.read_parquet(tmp_path / str(seed) / "cells.parquet"))
    keys = [name for name in files[0].columns if name.startswith(("g.", "c.", "x."))]
    assert len(files[0]) > 10
    pd.testing.assert_frame_equal(files[0], files[1])
    pd.testing.assert_frame_equal(files[0][keys], files[0][keys].sort_values(keys, ignore_index=True))


def test_any_column_may_group(tmp_path: Path) -> None:
    con = duckdb.connect()
    sql = """select [i % 2] as list, {'a': i % 3} as struct, (i % 4)::decimal(4, 1) as money, date '2026-01-01' + (i % 2)::int as day,
        (i % 5)::hugeint as huge, i % 2 = 0 as flag, (i % 3)::utinyint as tiny, sin(i) as y from range(600) as r(i)"""
    formula = "y ~ list + day + (1 | struct) + (1 | money) + (1 | huge) + (1 | flag) + (1 | tiny)"
    study = compress_rows(con, sql, parse_formula(formula), "gaussian", tmp_path)
    cells = read_cells(study.cells_path, study.spec_path)
    levels = {name: list(labels.values) for name, labels in (cells.groups | cells.labels).items()}
    assert levels == {
        "struct": ["{'a': 0}", "{'a': 1}", "{'a': 2}"],
        "money": ["0.0", "1.0", "2.0", "3.0"],
        "huge": ["0", "1", "2", "3", "4"],
        "flag": ["false", "true"],
        "tiny": ["0", "1", "2"],
        "list": ["[0]", "[1]"],
        "day": ["2026-01-01", "2026-01-02"],
    }


def test_a_mean_that_is_no_number_is_refused_with_its_name(tmp_path: Path) -> None:
    with duckdb.connect() as con:
        con.execute("create table lines as select i::double as y, 1e308 * (1 + i % 9) as x, 'g' || i % 2 as g from range(50) as t(i)")
        for formula in ("y ~ center(x) + (1 | g)", "y ~ offset(scale(x)) + (1 | g)"):
            with pytest.raises(DataError, match=r"(The mean of x over all rows is not a finite number|cannot be calculated for every row)"):
                compress_rows(con, "select * from lines", parse_formula(formula), "gaussian", tmp_path)


def test_levels_that_are_one_text_are_refused(tmp_path: Path) -> None:
    mixed = "select union_value(n := 1) as g, 1.5 * i as y from range(9) r(i)"
    either = "union(n integer, t varchar)"
    sql = f"select cast(g as {either}) as g, y from ({mixed}) union all select cast('1' as {either}), 0.5"
    with pytest.raises(DataError, match=r"g: 2 different values of type UNION.* are 1 as text"):
        compress_rows(duckdb.connect(), sql, parse_formula("y ~ 1 + (1 | g)"), "gaussian", tmp_path)
