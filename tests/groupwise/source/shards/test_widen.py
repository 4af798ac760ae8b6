"""Types of a column's files meet in the narrowest type that keeps every value, or in none; the order of files does not matter."""

from __future__ import annotations

from itertools import permutations

import pytest

from groupwise.source.shards.widen import common_label, common_type, exact_if

MEETING = [
    ({"INTEGER"}, "INTEGER"),
    ({"TINYINT", "INTEGER", "BIGINT"}, "BIGINT"),
    ({"UTINYINT", "SMALLINT"}, "SMALLINT"),
    ({"UINTEGER", "INTEGER"}, "BIGINT"),
    ({"UBIGINT", "BIGINT"}, "HUGEINT"),
    ({"FLOAT", "DOUBLE"}, "DOUBLE"),
    ({"BIGINT", "DOUBLE"}, "DOUBLE"),
    ({"SMALLINT", "FLOAT"}, "DOUBLE"),
    ({"DECIMAL(10,2)", "DECIMAL(12,4)"}, "DECIMAL(12,4)"),
    ({"DECIMAL(10,2)", "INTEGER"}, "DECIMAL(12,2)"),
    ({"DECIMAL(10,2)", "BIGINT"}, "DECIMAL(21,2)"),
    ({"DECIMAL(10,2)", "DOUBLE"}, "DOUBLE"),
    ({"DECIMAL(10,2)", "INTEGER", "FLOAT"}, "DOUBLE"),
    ({"DATE", "TIMESTAMP"}, "TIMESTAMP"),
    ({"DATE", "TIMESTAMP", "TIMESTAMP_NS"}, "TIMESTAMP_NS"),
    ({"NULL", "VARCHAR"}, "VARCHAR"),
    ({"NULL"}, "NULL"),
    ({"DECIMAL(38,0)", "DECIMAL(38,2)"}, None),
    ({"DECIMAL(18,2)", "DOUBLE"}, None),
    ({"HUGEINT", "DECIMAL(10,2)"}, None),
    ({"VARCHAR", "BIGINT"}, None),
    ({"VARCHAR", "DATE"}, None),
    ({"BOOLEAN", "INTEGER"}, None),
    ({"TIMESTAMP", "TIMESTAMP WITH TIME ZONE"}, None),
    ({"DATE", "INTEGER"}, None),
    ({"INTEGER", "BIGINT[]"}, None),
]


@pytest.mark.parametrize(("kinds", "met"), MEETING)
def test_types_meet_whatever_their_order(kinds: set[str], met: str | None) -> None:
    assert {common_type(order) for order in permutations(kinds)} == {met}


def test_only_whole_numbers_keep_their_text_when_widened() -> None:
    assert common_label(["INTEGER", "BIGINT", "NULL"]) == "BIGINT"
    assert common_label(["BIGINT", "DOUBLE"]) is None
    assert common_label(["DATE", "TIMESTAMP"]) is None
    assert common_label(["DECIMAL(10,1)", "DECIMAL(10,2)"]) is None


def test_casts_that_the_types_do_not_prove_exact_are_looked_up() -> None:
    assert exact_if("INTEGER", "DOUBLE", "x") is None
    assert exact_if("BIGINT", "DOUBLE", "x") == "x between -9007199254740992 and 9007199254740992"
    assert exact_if("TIMESTAMP", "TIMESTAMP_NS", "x") is not None
