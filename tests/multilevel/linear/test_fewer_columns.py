"""A system of fewer population columns is the one that the rows would give."""

from dataclasses import replace

import numpy as np
import pytest

from multilevel.linear import products
from multilevel.linear.assemble import linear_system
from multilevel.linear.fewer_columns import fewer_columns


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("kept", [[False, True, True], [True, False, True], [False, False, False], [True, True, True]])
@pytest.mark.parametrize(("levels", "widths"), [((60, 9), (1, 2)), ((60, 9), (2, 1)), ((), ())])
def test_solutions_are_those_of_the_rows(levels, widths, kept, loops, rows_of, lambdas_of, monkeypatch) -> None:
    if loops:
        monkeypatch.setattr(products, "LARGEST_FULL", 0)
    rng, kept = np.random.default_rng(2), np.array(kept)
    rows = rows_of(levels, widths, n=300)
    X = np.column_stack([np.ones(300), rng.standard_normal((300, 2)) + 5.0])
    rows = replace(rows, X=X, outcome=rows.outcome + 1000.0)
    held = np.where(kept, 0.0, [990.0, 0.3, -2.0])
    found = fewer_columns(linear_system(rows), kept, held).factorise(lambdas_of(widths))
    expected = linear_system(replace(rows, X=X[:, kept], outcome=rows.outcome - X @ held)).factorise(lambdas_of(widths))
    np.testing.assert_allclose(found.beta, expected.beta, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.effects, expected.effects, rtol=1e-9, atol=1e-9)
    assert found.penalised_rss == pytest.approx(expected.penalised_rss, rel=1e-9)
    for own, other in zip(found.variance()[1], expected.variance()[1], strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-9)


def test_chains_are_joined_as_the_rows_would_join_them(lambdas_of, rows_of, monkeypatch) -> None:
    monkeypatch.setattr("multilevel.linear.assemble.WORTH_ELIMINATING", 1)
    rng = np.random.default_rng(3)
    rows = rows_of((80, 9), (1, 1), n=400)
    leaf, other = rows.blocks
    parents = replace(leaf, codes=(leaf.codes // 8).astype(np.int32), n_levels=10, values=rng.standard_normal((400, 2)))
    X = np.column_stack([np.ones(400), rng.standard_normal(400)])
    rows = replace(rows, X=X, blocks=(leaf, parents, other))
    lambdas, kept, held = lambdas_of((1, 2, 1)), np.array([False, True]), np.array([3.0, 0.0])
    whole = linear_system(rows)
    assert whole.chain
    found = fewer_columns(whole, kept, held).factorise(lambdas)
    expected = linear_system(replace(rows, X=X[:, kept], outcome=rows.outcome - X @ held)).factorise(lambdas)
    np.testing.assert_allclose(found.effects, expected.effects, rtol=1e-9, atol=1e-10)
    for own, beside in zip(found.variance()[1], expected.variance()[1], strict=True):
        np.testing.assert_allclose(own, beside, rtol=1e-9)


@pytest.mark.parametrize("sd", [1e-6, 1.0, 1e5])
def test_one_pass_gives_what_two_do(sd, rows_of, lambdas_of) -> None:
    rows = rows_of((60, 9), (1, 2), n=300)
    rows = replace(rows, X=np.column_stack([np.ones(300), np.arange(300.0)]), outcome=rows.outcome + 1000.0)
    lambdas = [np.array([[sd]]), lambdas_of((1, 2))[1]]
    system = linear_system(rows)
    assert system.inside is not None
    two, one = system.factorise(lambdas), replace(system, is_for_once=True).factorise(lambdas)
    np.testing.assert_allclose(one.beta, two.beta, rtol=1e-9)
    np.testing.assert_allclose(one.effects, two.effects, rtol=1e-8, atol=1e-8)
    assert one.penalised_rss == pytest.approx(two.penalised_rss, rel=1e-9)
