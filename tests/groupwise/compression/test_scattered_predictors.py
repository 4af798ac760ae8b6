"""A predictor with few values joins the cells' key where it makes few cells of each, and keeps its moments where it would make many."""

from __future__ import annotations

import duckdb
import pytest

from groupwise.compression.column_scan import read_schema
from multilevel.cells.cell_plan import plan_cells
from multilevel.formula.parse import parse_formula

FORMULA = parse_formula("y ~ time + (1 | subject)")


@pytest.mark.parametrize(("rows_a_subject", "joins"), [(10, False), (2_000, True)])
def test_ten_dates_of_a_subject_are_one_cell_and_not_ten(monkeypatch: pytest.MonkeyPatch, rows_a_subject: int, joins: bool) -> None:
    monkeypatch.setattr("groupwise.compression.column_scan.FEW_CELLS", 100)
    query = f"select i // {rows_a_subject} as subject, i % 10 as time, 1.0 * i as y from range(20000) as t(i)"
    with duckdb.connect() as connection:
        schema = read_schema(connection, query, FORMULA, "gaussian")
    plan = plan_cells(FORMULA, schema, "gaussian")
    assert schema.distinct["time"] == 10
    assert ("time" in plan.feature_labels) is not joins
    assert schema.scattered == (frozenset() if joins else {"time"})
