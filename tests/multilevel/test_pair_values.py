"""What is expected at pairings of own and common cells, without their rows of coefficients."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.nesting import nesting
from multilevel.estimands.crossings import crossings
from multilevel.estimands.mix_parts import averaging, pair_rows, pair_values, shared_pair_rows, split_sides
from multilevel.formula.parse import parse_formula

FORMULAS = ("y ~ x + (1 + x | g) + (1 | h)", "y ~ x + (1 | g/m) + (1 + x | h)", "y ~ 1 + (1 | g) + (1 | h) + (1 | g:h)")


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("left_out", [frozenset(), frozenset({1})], ids=["all blocks", "one left out"])
def test_values_are_those_of_the_rows(formula: str, left_out: frozenset[int]) -> None:
    rng = np.random.default_rng(4)
    n = 400
    frame = pd.DataFrame({"g": rng.integers(0, 5, n).astype(str), "h": rng.integers(0, 7, n).astype(str), "x": rng.integers(0, 3, n) / 2.0})
    frame["m"] = frame.g + rng.integers(0, 4, n).astype(str)
    frame["y"] = rng.normal(size=n)
    parsed = parse_formula(formula)
    design = build_design(parsed, cells_from_frame(parsed, frame, "gaussian"))
    tree = nesting(design)
    owned = [tree.own_tree("g")]
    sides = split_sides(design, owned, crossings(design, tree, owned))
    cells = design.cells.n_cells
    own = averaging(rng.integers(0, 6, cells), 6, rng.random(cells))
    for common in (averaging(rng.integers(0, 3, cells), 3, rng.random(cells)), averaging(np.zeros(cells, np.int64), 1, rng.random(cells))):
        at = rng.normal(size=len(design.population) + design.n_effects)
        expected = pair_rows(sides, (own, common), left_out) @ at
        np.testing.assert_allclose(pair_values(sides, (own, common), at, left_out), expected, atol=1e-12)
        np.testing.assert_allclose(shared_pair_rows(sides, (own, common), left_out) @ at, expected, atol=1e-12)
