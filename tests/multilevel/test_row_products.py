"""Products through dense pieces are those of the sparse matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from multilevel.fit import row_products
from multilevel.fit.row_products import bilinear_forms, inner_products, product, times


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_products_are_the_same_in_pieces(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_products, "VALUES_AT_ONCE", 100)
    rng = np.random.default_rng(1)
    rows, others = (rng.normal(size=(m, 57)) * (rng.random((m, 57)) < share) for m in (13, 9))
    matrix = rng.normal(size=(57, 21)) * (rng.random((57, 21)) < 0.2)
    np.testing.assert_allclose(times(csr_array(rows), csr_array(matrix)).toarray(), rows @ matrix, atol=1e-13)
    few = np.zeros((57, 900))
    few[:, [3, 4, 700]] = matrix[:, :3]
    np.testing.assert_allclose(times(csr_array(rows), csr_array(few)).toarray(), rows @ few, atol=1e-13)
    np.testing.assert_allclose(inner_products(csr_array(rows), csr_array(others)), rows @ others.T, atol=1e-13)
    np.testing.assert_allclose(product(csr_array(rows), matrix), rows @ matrix, atol=1e-13)


def test_forms_of_two_rows_are_those_of_the_whole_matrix() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(40, 15)) * (rng.random((40, 15)) < 0.3)
    others = rng.normal(size=(40, 6)) * (rng.random((40, 6)) < 0.4)
    others[3], rows[5] = 0.0, 0.0
    matrix = rng.normal(size=(6, 15))
    np.testing.assert_allclose(
        bilinear_forms(csr_array(rows), csr_array(others), matrix), np.sum((others @ matrix) * rows, axis=1), atol=1e-13
    )
    assert bilinear_forms(csr_array((0, 15)), csr_array((0, 6)), matrix).shape == (0,)


def test_no_rows_have_no_products() -> None:
    nothing = csr_array((0, 5))
    assert times(nothing, csr_array(np.ones((5, 3)))).shape == (0, 3)
    assert inner_products(nothing, nothing).shape == (0, 0)
