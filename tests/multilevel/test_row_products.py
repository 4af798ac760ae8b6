"""Products through dense pieces are those of the sparse matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from multilevel.fit import row_products
from multilevel.fit.row_products import inner_products, times


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_products_are_the_same_in_pieces(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_products, "VALUES_AT_ONCE", 100)
    rng = np.random.default_rng(1)
    rows, others = (rng.normal(size=(m, 57)) * (rng.random((m, 57)) < share) for m in (13, 9))
    matrix = rng.normal(size=(57, 21)) * (rng.random((57, 21)) < 0.2)
    np.testing.assert_allclose(times(csr_array(rows), csr_array(matrix)).toarray(), rows @ matrix, atol=1e-13)
    np.testing.assert_allclose(inner_products(csr_array(rows), csr_array(others)), rows @ others.T, atol=1e-13)


def test_no_rows_have_no_products() -> None:
    nothing = csr_array((0, 5))
    assert times(nothing, csr_array(np.ones((5, 3)))).shape == (0, 3)
    assert inner_products(nothing, nothing).shape == (0, 0)
