"""Statistics add: however the rows are split, the merged cells are those of all rows, in any order of merging."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from multilevel.cells.from_rows import cells_from_frame
from multilevel.cells.merge import merge_cells
from multilevel.cells.statistics import CellStatistics
from multilevel.errors import DataError
from multilevel.formula.parse import parse_formula

STUDIES = {
    "gaussian": "y ~ x + week*f + (1 + x | g)",
    "binomial": "b ~ week*f + (1 | g)",
    "poisson": "k ~ week + offset(e) + (1 | g)",
    "negative_binomial": "k ~ f + (1 | g)",
    "gamma": "y ~ f + (1 | g)",
}


def make_rows(seed: int, n: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "g": rng.integers(0, 12, n),
            "f": rng.choice(["a", "b", "c"], n),
            "week": rng.integers(0, 4, n),
            "x": rng.normal(size=n) + shift,
            "y": rng.gamma(2.0, 1.0, n) + shift,
            "e": rng.normal(size=n),
            "k": rng.poisson(2.0, n),
        }
    )
    return frame.assign(b=frame["k"] > 1)


def table(cells: CellStatistics) -> pd.DataFrame:
    """Cells as a frame indexed by what they are."""
    keys = {name: labels.values[labels.codes] for name, labels in (cells.groups | cells.labels).items()} | dict(cells.numbers)
    columns = {"n": cells.n, "weight": cells.weight, "size": cells.size, "total": cells.total, "offset": cells.offset}
    columns |= {"log_total": cells.log_total} if cells.log_total is not None else {}
    columns |= {f"mean{i}": cells.mean[:, i] for i in range(cells.mean.shape[1])}
    columns |= {f"cross{i}{j}": cells.cross[:, i, j] for i in range(cells.cross.shape[1]) for j in range(cells.cross.shape[1])}
    return pd.DataFrame(keys | columns).set_index(list(keys)).sort_index()


def assert_same(a: CellStatistics, b: CellStatistics) -> None:
    pd.testing.assert_frame_equal(table(a), table(b), rtol=1e-9, atol=1e-9, check_dtype=False)
    assert a.once == pytest.approx(dict(b.once))
    for name, labels in a.groups.items():
        assert list(labels.values) == list(b.groups[name].values)
    if a.histogram is not None:
        np.testing.assert_array_equal(a.histogram, b.histogram)


@pytest.mark.parametrize("family", STUDIES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(120, 300), cuts=st.tuples(st.floats(0.25, 0.45), st.floats(0.55, 0.75)))
def test_merging_partitions_gives_the_cells_of_all_rows(family: str, seed: int, n: int, cuts: tuple[float, float]) -> None:
    frame = make_rows(seed, n)
    formula = parse_formula(STUDIES[family])
    at = [int(cut * n) for cut in cuts]
    pieces = [frame.iloc[i:j] for i, j in zip([0, *at], [*at, n], strict=True)]
    whole = cells_from_frame(formula, frame, family)
    parts = [cells_from_frame(formula, piece, family) for piece in pieces if len(piece)]
    # few rows have few distinct values of x, which then joins the key: such parts come from another plan and are refused
    assume({part.features for part in parts} == {whole.features})
    assert_same(merge_cells(parts), whole)
    assert_same(merge_cells([merge_cells(parts[:1]), merge_cells(parts[1:])]), merge_cells(parts))


def test_a_large_shift_survives_the_merge() -> None:
    formula = parse_formula("y ~ x + (1 | g)")
    shifted, plain = make_rows(1, 600, 1e8), make_rows(1, 600)
    cells = merge_cells([cells_from_frame(formula, shifted.iloc[i::3], "gaussian") for i in range(3)])
    expected = cells_from_frame(formula, plain, "gaussian")
    np.testing.assert_allclose(table(cells).filter(like="cross"), table(expected).filter(like="cross"), rtol=1e-5, atol=1e-5)


def test_partitions_of_different_formulas_are_refused() -> None:
    rows = make_rows(1, 50)
    parts = [cells_from_frame(parse_formula(text), rows, "gaussian") for text in ("y ~ 1 + (1 | g)", "y ~ x + (1 | g)")]
    with pytest.raises(DataError, match="different formulas"):
        merge_cells(parts)
