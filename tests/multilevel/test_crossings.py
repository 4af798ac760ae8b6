"""The weight of every level of an interaction in every pairing of bins, beside all combinations written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.estimands.crossings import Crossing, chosen_levels, unseen_share


def crossing(rng: np.random.Generator) -> tuple[Crossing, list[csr_array], Floats]:
    """Sides with 3, 4 and 5 codes, of whose 60 combinations 11 were seen; averages over 40 cells, and what they weigh written out."""
    sizes, n_cells = (3, 4, 5), 40
    codes = tuple(np.concatenate([np.arange(size), rng.integers(0, size, n_cells - size)]) for size in sizes)
    seen = rng.choice(60, 11, replace=False)
    members = csr_array((np.ones(11), (seen, rng.permutation(11))), shape=(60, 11))
    averages, whole = [], np.ones((1, 1))
    for rows, code, size in zip((2, 3, 1), codes, sizes, strict=True):
        weight = rng.random((rows, n_cells)) * (rng.random((rows, n_cells)) < 0.2)
        weight[:, 0] += 0.1
        weight /= weight.sum(axis=1, keepdims=True)
        averages.append(csr_array(weight))
        whole = np.kron(whole, np.stack([np.bincount(code, row, size) for row in weight]))
    return Crossing(0, codes, members), averages, whole @ members.toarray()


@pytest.mark.parametrize("seed", range(5))
def test_levels_weigh_as_much_as_the_product_of_their_sides(seed: int) -> None:
    found, averages, expected = crossing(np.random.default_rng(seed))
    np.testing.assert_allclose(chosen_levels(found, averages).toarray(), expected, atol=1e-15)
    np.testing.assert_allclose(unseen_share(found, averages), 1.0 - expected.sum(axis=1), atol=1e-12)
