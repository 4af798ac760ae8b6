"""A formula whose cells would need more sums than DuckDB can group is refused by count: DuckDB ends the process otherwise."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groupwise.compression.cell_checks import MOST_STATES, refuse_too_wide
from groupwise.planning.dry_run import plan
from groupwise.source.relation import Relation
from groupwise.study.study import Study
from multilevel.cells.cell_plan import plan_cells
from multilevel.cells.column_facts import Schema
from multilevel.errors import FormulaError
from multilevel.formula.parse import parse_formula
from multilevel.formula.tree import Column


def formula_of(n: int) -> str:
    return f"y ~ {' + '.join(f'x{i}' for i in range(n))} + (1 | g)"


def test_a_plan_of_180_numeric_predictors_says_how_many_there_may_be(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    columns = {f"x{i}": rng.normal(size=200) for i in range(180)} | {"y": rng.normal(size=200), "g": [f"g{i % 10}" for i in range(200)]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    study = Study.model_validate({"name": "wide", "formula": formula_of(180), "source": {"parquet": str(tmp_path / "rows.parquet")}})
    sql = f"select * from read_parquet('{tmp_path}/rows.parquet')"
    started = time.process_time()
    found = plan(study, Relation("wide", None, (str(tmp_path / "rows.parquet"),), sql, date(2026, 1, 1)), sql)
    assert time.process_time() - started < 5
    (refusal,) = found.refusals
    assert "180 numeric terms need 16,663 sums for every cell" in refusal
    assert "at most 7,600 can be kept, which is 120 numeric terms" in refusal
    assert len(refusal) < 500


@pytest.mark.parametrize(("n", "is_refused"), [(120, False), (121, True), (400, True)])
def test_the_count_is_that_of_covariances(n: int, is_refused: bool) -> None:
    formula = parse_formula(formula_of(n))
    kinds = {"y": "number", "g": "text"} | {f"x{i}": "number" for i in range(n)}
    plan_made = plan_cells(formula, Schema(kinds, distinct={f"x{i}": 1_000 for i in range(n)}, n_rows=1_000), "gaussian")  # type: ignore[arg-type]
    assert len(plan_made.features) == n
    if is_refused:
        with pytest.raises(FormulaError, match=rf"{n} numeric terms"):
            refuse_too_wide(plan_made, formula)
    else:
        refuse_too_wide(plan_made, formula)


def test_columns_of_the_key_are_counted_too() -> None:
    formula = parse_formula(formula_of(2))
    counts = plan_cells(formula, Schema({"y": "number", "g": "text", "x0": "number", "x1": "number"}), "poisson")
    refuse_too_wide(counts, formula)
    wide = replace(counts, keys=tuple(Column(f"k{i}") for i in range(MOST_STATES)))
    with pytest.raises(FormulaError, match=r"7,610 columns join the key of the cells; at most 7,600 can"):
        refuse_too_wide(wide, formula)
