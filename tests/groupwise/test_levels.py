"""The order of a categorical predictor's levels, its reference, and the level that missing values make."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from groupwise.compression.compress import compress
from groupwise.source.describe import extract
from groupwise.study.study_file import load_study
from groupwise.validation.missing_values import level_orders
from groupwise.validation.validate import validate
from multilevel.cells.files import read_cells
from multilevel.errors import DataError, StudyError

SIZES = ["S", "M", "L", None]
STUDY = """
name: pizzas
formula: {formula}
source: {{parquet: pizzas.parquet}}
engine: likelihood
missing: {{size: level, price: level}}
{more}
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four hundred pizzas of five shops, sizes S, M, L and unknown, one with a free extra."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    i = np.arange(400)
    frame = pd.DataFrame({"shop": [f"s{j}" for j in i % 5], "size": [SIZES[j] for j in i // 5 % 4], "doughs": i // 3 % 3 + 8})
    frame["is_extra"] = i % 7 == 0
    frame["price"] = 5.0
    frame["y"] = 10 + i // 5 % 4 + rng.normal(size=400) + (i % 5)
    frame.to_parquet("pizzas.parquet")
    return tmp_path


def levels(predictor: str, more: str = "", formula: str = "y ~ size + (1 | shop)") -> list[str]:
    """The predictor's levels in coding order; the first is the reference."""
    Path("study.yaml").write_text(STUDY.format(more=more, formula=formula))
    study, folder = load_study("study.yaml"), Path("run")
    folder.mkdir(exist_ok=True)
    relation = extract(study, None, folder, today=date(2026, 1, 1))
    rows = validate(study, relation, folder).study_sql
    made = compress(relation, rows, study.parsed_formula, study.family, folder, orders=level_orders(study))
    return list(read_cells(made.cells_path, made.spec_path).labels[predictor].values)


def test_the_level_of_missing_values_is_never_the_reference(shop: Path) -> None:
    assert levels("size") == ["L", "M", "S", "(missing)"]


def test_the_level_that_is_listed_first_is_the_reference(shop: Path) -> None:
    assert levels("size", "levels: {size: [S, M, L]}") == ["S", "M", "L", "(missing)"]
    assert levels("size", "levels: {size: [(missing), S, M, L]}") == ["(missing)", "S", "M", "L"]


def test_numbers_and_booleans_are_ordered_too(shop: Path) -> None:
    formula = "y ~ C(doughs) + is_extra + (1 | shop)"
    more = "levels: {doughs: [10, 9, 8], is_extra: [true, false]}"
    assert levels("C(doughs)", "", formula) == ["8", "9", "10"]
    assert levels("C(doughs)", more, formula) == ["10", "9", "8"]
    assert levels("is_extra", more, formula) == ["true", "false"]


def test_a_level_that_is_not_listed_is_refused_and_shown(shop: Path) -> None:
    with pytest.raises(DataError, match=r"size has a level that levels: size: \[S, M\] does not list(.|\n)*size = L"):
        levels("size", "levels: {size: [S, M]}")


def test_a_reference_that_no_row_has_is_refused(shop: Path) -> None:
    with pytest.raises(DataError, match="levels: size: no line item has the reference XS"):
        levels("size", "levels: {size: [XS, S, M, L]}")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("levels: {y: [s0, s1]}", "levels: y: the formula has no such categorical predictor or group"),
        ("levels: {size: [S, M, S]}", "levels: size: S, M, S: a level is listed twice"),
        ("levels: {size: [S]}", "levels.size"),
        ("types: {y: NUMBER}", "write a DuckDB type: DOUBLE, BIGINT"),
    ],
)
def test_a_list_that_makes_no_order_is_refused_before_any_data(shop: Path, more: str, message: str) -> None:
    Path("study.yaml").write_text(STUDY.format(more=more, formula="y ~ size + (1 | shop)"))
    with pytest.raises(StudyError) as refused:
        load_study("study.yaml")
    assert message in str(refused.value)
