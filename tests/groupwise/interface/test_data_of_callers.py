"""What ``gw.fit`` takes as data: every kind of table gives the same fit, and what cannot be read is refused with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

import groupwise as gw

SIZES = ["S", "M", "L", "XL"]
PIZZA = "`preço` ~ 1 + size + (1 | store) + (1 | `pizza name`)"


@pytest.fixture(scope="module")
def pizzas() -> pd.DataFrame:
    """Names with spaces, accents and slashes; an ordered category with one that never occurs; days with a time zone; a useless column."""
    rng, n = np.random.default_rng(1), 400
    frame = pd.DataFrame(
        {
            "pizza name": rng.choice(["hawaiían", "margherita", "quattro / stagioni"], n),
            "size": pd.Categorical(rng.choice(SIZES, n), categories=[*SIZES, "XXL"], ordered=True),
            "store": rng.integers(0, 12, n),
            "code": pd.Categorical(rng.integers(8, 12, n)),
            "when": pd.Timestamp("2025-01-01", tz="America/New_York") + pd.to_timedelta(rng.integers(0, 400_000, n), "min"),
            "junk": [object()] * n,
        }
    )
    effects = rng.normal(size=12)
    frame["preço"] = 10 + frame["size"].cat.codes + effects[frame["store"]] + frame["pizza name"].str.len() / 10 + rng.normal(size=n)
    return frame


@pytest.fixture(scope="module")
def plain(pizzas: pd.DataFrame) -> pd.DataFrame:
    """The same without what only pandas knows."""
    return pizzas.drop(columns=["junk", "code"]).astype({"size": str})


@pytest.fixture(scope="module")
def expected(pizzas: pd.DataFrame) -> pd.DataFrame:
    return likelihood(PIZZA, pizzas).summary().fixed_effects


def likelihood(formula: str, data: object, **fields: Any) -> gw.Fit:
    return gw.fit(formula, data, engine="likelihood", **fields)


def relation(frame: pd.DataFrame) -> duckdb.DuckDBPyRelation:
    """A query that has not been run, of an enum, on a connection of the caller."""
    connection = duckdb.connect()
    connection.register("pizzas", frame)
    connection.execute("create type sizes as enum ('S', 'M', 'L', 'XL', 'XXL')")
    return connection.sql("select * replace (size::sizes as size), 1 as one from pizzas where store < 100")


def enum(frame: pd.DataFrame) -> pl.DataFrame:
    return pl.from_arrow(pa.Table.from_pandas(frame)).with_columns(pl.col("size").cast(pl.Enum([*SIZES, "XXL"])))  # type: ignore[return-value,union-attr]


TABLES: dict[str, Callable[[pd.DataFrame], object]] = {
    "Polars": enum,
    "Polars, lazy": lambda frame: enum(frame).lazy(),
    "DuckDB relation": relation,
    "Arrow": lambda frame: pa.Table.from_pandas(frame.assign(size=pd.Categorical(frame["size"], SIZES, ordered=True))),
    "pandas with an index": lambda frame: frame.assign(size=pd.Categorical(frame["size"], SIZES)).set_index(["store", "pizza name"]),
}


@pytest.mark.parametrize(
    "kind", [kind if kind not in ("Polars, lazy", "Arrow") else pytest.param(kind, marks=pytest.mark.operations) for kind in TABLES]
)
def test_every_kind_of_table_gives_the_same_fit(plain: pd.DataFrame, expected: pd.DataFrame, kind: str) -> None:
    fit = likelihood(PIZZA, TABLES[kind](plain))
    # S is the reference, as the column's type says; by name it would be L
    assert fit.study.levels == {"size": tuple(SIZES)}
    pd.testing.assert_frame_equal(fit.summary().fixed_effects, expected)


STREAMS: dict[str, Callable[[pd.DataFrame], object]] = {
    "batches": lambda frame: pa.Table.from_pandas(frame).to_reader(),
    "data set": lambda frame: ds.dataset(pa.Table.from_pandas(frame)),
    "mapping": lambda frame: {name: frame[name].to_numpy() for name in ("preço", "size", "store", "pizza name")},
    "Polars categorical": lambda frame: pl.DataFrame(pl.from_arrow(pa.Table.from_pandas(frame))).with_columns(
        pl.col("size").cast(pl.Categorical)
    ),
}


@pytest.mark.parametrize("kind", [kind if kind == "batches" else pytest.param(kind, marks=pytest.mark.operations) for kind in STREAMS])
def test_tables_without_an_order_have_levels_by_name(plain: pd.DataFrame, expected: pd.DataFrame, kind: str) -> None:
    fit = likelihood(PIZZA, STREAMS[kind](plain), levels={"size": SIZES})
    pd.testing.assert_frame_equal(fit.summary().fixed_effects, expected)
    assert "size[L]" not in likelihood(PIZZA, STREAMS[kind](plain)).summary().fixed_effects.index


@pytest.mark.operations
def test_files_are_read_by_their_kind(plain: pd.DataFrame, expected: pd.DataFrame, tmp_path: Path) -> None:
    frame = plain.drop(columns="when")
    frame.to_csv(tmp_path / "p.csv", index=False)
    frame.iloc[:100].to_csv(tmp_path / "a.csv", index=False)
    frame.iloc[100:].to_csv(tmp_path / "b.csv", index=False)
    frame.to_json(tmp_path / "p.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "p[1].parquet")
    for data in (tmp_path / "p.csv", [tmp_path / "a.csv", tmp_path / "b.csv"], str(tmp_path / "p.jsonl"), tmp_path / "p[1].parquet"):
        fit = likelihood(PIZZA, data, levels={"size": SIZES})
        # text has 15 to 17 digits
        pd.testing.assert_frame_equal(fit.summary().fixed_effects, expected, rtol=1e-9)


def test_a_csv_file_is_read_as_a_study_reads_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    amount, day, store = rng.normal(10.0, 1.0, 200).round(2), rng.integers(1, 29, 200), rng.integers(0, 6, 200)
    lines = [f"{value:.2f};{number:02d}/03/2024;s{place}" for value, number, place in zip(amount, day, store, strict=True)]
    (tmp_path / "spend.csv").write_text("amount;day;store\n" + "\n".join(lines).replace(".", ",") + "\n")
    window = {"column": "day", "days": 10}
    of_text = {"delimiter": ";", "decimal": ",", "date_format": "%d/%m/%Y"}
    fit = likelihood("amount ~ 1 + (1 | store)", tmp_path / "spend.csv", options=of_text, window=window, as_of="2024-03-20")
    of_window = (day >= 10) & (day < 20)
    table = fit.group_estimates[~fit.group_estimates["is_new"]].set_index("level")
    plain = pd.Series(amount[of_window]).groupby([f"s{place}" for place in store[of_window]]).mean()
    np.testing.assert_allclose(table["observed_mean"].astype(float), plain[table.index], rtol=1e-12)


def test_options_belong_to_csv_files(pizzas: pd.DataFrame) -> None:
    with pytest.raises(gw.StudyError, match="options belongs to csv"):
        likelihood(PIZZA, pizzas, options={"decimal": ","})


def test_categories_of_numbers_are_levels_in_their_own_order(pizzas: pd.DataFrame) -> None:
    fit = likelihood("`preço` ~ 1 + code + (1 | store)", pizzas)
    # as text 8 would be the last, and 10 come before 9
    assert list(fit.summary().fixed_effects.index) == ["Intercept", "code[9]", "code[10]", "code[11]"]
    assert fit.study.levels == {"code": ("8", "9", "10", "11")}


def test_an_order_that_the_call_gives_comes_before_that_of_the_type(pizzas: pd.DataFrame) -> None:
    fit = likelihood(PIZZA, pizzas, levels={"size": ["XL", "L", "M", "S"]})
    assert "size[XL]" not in fit.summary().fixed_effects.index


def test_days_with_a_time_zone_make_a_window(pizzas: pd.DataFrame) -> None:
    fit = likelihood(PIZZA, pizzas, window={"column": "when", "days": 90})
    last = pizzas["when"].dt.tz_convert("UTC").max().date() + pd.Timedelta(days=1)
    assert fit.as_of == last
    inside = pizzas["when"].dt.tz_convert("UTC").dt.date >= last - pd.Timedelta(days=90)
    assert fit.summary().n_rows == int(inside.sum())


def test_missing_values_are_those_of_pandas(pizzas: pd.DataFrame) -> None:
    holes = pizzas.copy()
    holes.loc[3:9, "preço"] = np.nan
    holes["store"] = holes["store"].astype("Int64")
    holes.loc[20:22, "store"] = pd.NA
    holes.loc[30:31, "size"] = None
    with pytest.raises(gw.DataError, match="7 of 400 rows break what the study needs: preço is null"):
        likelihood(PIZZA, holes)
    kept = likelihood(PIZZA, holes, missing={"preço": "exclude", "store": "exclude", "size": "level"})
    assert kept.summary().n_rows == 390
    assert "size[(missing)]" in kept.summary().fixed_effects.index


def test_columns_that_nothing_names_may_be_anything(pizzas: pd.DataFrame, expected: pd.DataFrame) -> None:
    twice = pd.concat([pizzas, pizzas[["junk"]]], axis=1)
    pd.testing.assert_frame_equal(likelihood(PIZZA, twice).summary().fixed_effects, expected)


def test_a_condition_may_name_any_column(pizzas: pd.DataFrame) -> None:
    fit = likelihood(PIZZA, pizzas, where="\"when\" < '2025-07-01' and store <> 3")
    assert 0 < fit.summary().n_rows < 250


REFUSED: dict[str, tuple[Callable[[pd.DataFrame], object], type[gw.GroupwiseError], str]] = {
    "a misspelt column": (lambda f: f.rename(columns={"store": "stores"}), gw.SourceError, "no column store; did you mean stores?"),
    "an array": (lambda f: f.to_numpy(), gw.SourceError, "numpy.ndarray cannot be read"),
    "a list": (lambda f: [1, 2], gw.SourceError, "Name its columns: pandas.DataFrame"),
    "one column": (lambda f: f["size"], gw.SourceError, "a Series is one column"),
    "nothing": (lambda f: None, gw.SourceError, "hand over a pandas, Polars or Arrow table, a DuckDB relation, or the path"),
    "no rows": (lambda f: f.iloc[:0], gw.DataError, "the data have no rows"),
    "no columns": (lambda f: pd.DataFrame(), gw.SourceError, "the data have no columns"),
    "a column twice": (lambda f: pd.concat([f, f[["store"]]], axis=1), gw.SourceError, "the column 'store' occurs twice"),
    "values of two types": (lambda f: f.assign(store=[1, "a"] * 200), gw.DataError, r"the column 'store' \(object\) holds values of"),
    "a type of pandas alone": (lambda f: f.assign(store=pd.cut(f["store"], 4)), gw.DataError, "the column 'store' is of type interval"),
    "an outcome of text": (lambda f: f.assign(preço="1"), gw.StudyError, "the outcome preço is VARCHAR; family gaussian needs a number"),
    "columns of unequal length": (lambda f: {"preço": [1.0], "store": [1, 2]}, gw.SourceError, "no table of columns of one length"),
    "no such file": (lambda f: "nowhere.csv", gw.SourceError, "nowhere.csv matches no file"),
    "no such Parquet file": (lambda f: "nowhere.parquet", gw.SourceError, "nowhere.parquet matches no file"),
    "a database": (lambda f: "shop.duckdb", gw.SourceError, r"duckdb.connect\('shop.duckdb', read_only=True\).table"),
    "files of another machine": (lambda f: "s3://bucket/lines.csv", gw.SourceError, "is no file of this machine"),
    "a query that fails": (
        lambda f: duckdb.sql("select error('no more rows') as preço, 1 as size, 1 as store, 1 as \"pizza name\""),
        gw.SourceError,
        "no more rows",
    ),
    "a lazy query that fails": (
        lambda f: pl.LazyFrame({"preço": ["x"], "size": "S", "store": 1, "pizza name": "p"}).with_columns(pl.col("preço").cast(pl.Float64)),
        gw.SourceError,
        "the query of the LazyFrame fails",
    ),
}


def test_a_formula_that_stands_second_is_asked_for_first(pizzas: pd.DataFrame) -> None:
    with pytest.raises(gw.StudyError, match=r"a DataFrame stands where the formula should; it comes first: gw.fit\('y ~ "):
        gw.fit(pizzas, PIZZA)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_what_to_do(pizzas: pd.DataFrame, case: str) -> None:
    made, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        likelihood(PIZZA, made(pizzas))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"family": "gausian"}, "gw.fit: family: 'gausian': did you mean gaussian?"),
        ({"engine": "reml"}, "gw.fit: engine: 'reml'"),
        ({"intervall": 0.9}, "gw.fit: intervall: no such field; did you mean interval?"),
        ({"interval": 1.5}, "gw.fit: interval: 1.5"),
    ],
)
def test_a_wrong_field_is_told_with_what_would_be_right(pizzas: pd.DataFrame, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(gw.StudyError) as told:
        gw.fit(PIZZA, pizzas, **fields)
    assert str(told.value).startswith(message)


def test_columns_that_differ_in_case_alone_are_refused(pizzas: pd.DataFrame) -> None:
    with pytest.raises(gw.SourceError, match="'store' and 'Store' differ in upper and lower case alone"):
        likelihood("`preço` ~ Store + (1 | store)", pizzas.assign(Store=pizzas["store"] * 1.0))


def test_a_relation_of_a_closed_connection_is_refused(plain: pd.DataFrame) -> None:
    connection = duckdb.connect()
    made = connection.sql('select 1.0 as "preço", 1 as size, 1 as store, 1 as "pizza name"')
    connection.close()
    with pytest.raises(gw.SourceError, match="data: cannot be read"):
        likelihood(PIZZA, made)
