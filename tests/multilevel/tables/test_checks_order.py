"""A table that is not in the order of its key does not keep its contract: its file would promise readers an order that it has not."""

import datetime

import pyarrow as pa
import pytest

from multilevel.catalogue.published_tables import arrow_schema, check_table

ROW = {
    "study": "spend", "as_of": datetime.date(2026, 11, 1), "run_id": "r1", "engine": "likelihood", "pooling": "partial",
    "grouping_factor": "b", "level": "x", "parent_level": "p", "estimate": 1.0, "std_error": 1.0, "lower": 0.0, "upper": 2.0, "n": 1,
    "is_new": False,
    "headline": "members",
}  # fmt: skip


def table(*keys: tuple[str, str | None, str | None]) -> pa.Table:
    rows = [ROW | {"grouping_factor": factor, "parent_level": parent, "level": level} for factor, parent, level in keys]
    return pa.Table.from_pylist(rows, schema=arrow_schema("group_estimates"))


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [("a", "p", "x")],
        [("a", "p", "z"), ("b", "o", "a"), ("b", "p", "a")],
        [("a", "p", "x"), ("a", "p", None), ("a", None, "a"), ("a", None, None)],
        [("a", "p", "Z"), ("a", "p", "a"), ("a", "p", "\u00e9")],
    ],
)
def test_rows_by_key_with_nulls_last_and_text_by_code_point_pass(keys: list[tuple[str, str | None, str | None]]) -> None:
    assert check_table("group_estimates", table(*keys)) == []


@pytest.mark.parametrize(
    "keys",
    [
        [("b", "p", "x"), ("a", "p", "y")],
        [("a", "q", "x"), ("a", "p", "y")],
        [("a", "p", "y"), ("a", "p", "x")],
        [("a", "p", None), ("a", "p", "x")],
        [("a", None, "x"), ("a", "p", "x")],
        [("a", "p", "x"), ("a", "p", "z"), ("a", "p", "y")],
    ],
)
def test_a_row_out_of_order_is_named(keys: list[tuple[str, str | None, str | None]]) -> None:
    assert check_table("group_estimates", table(*keys)) == [
        "group_estimates: the order of the key (grouping_factor, parent_level, level) is broken in 1 row"
    ]
