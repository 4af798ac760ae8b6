"""Variances of rows in compiled loops are those of the covariance written out in full."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from multilevel.linear import arrow_matrices, products, row_variances
from multilevel.linear.assemble import linear_system
from multilevel.linear.joint_arrow import arrow_form
from multilevel.linear.joint_normal import NormalJoint
from multilevel.linear.row_variances import coefficient_places, goes_row_by_row, row_by_row


@pytest.fixture(autouse=True)
def _as_in_large_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "LARGEST_FULL", 0)
    monkeypatch.setattr(row_variances, "MANY_ENTRIES", 0)


@pytest.mark.parametrize(("levels", "widths"), [((100, 30, 12), (1, 2, 1)), ((40, 9), (2, 1)), ((60,), (1,)), ((60,), (3,))])
def test_any_rows_have_the_variances_of_the_covariance_in_full(levels, widths, rows_of, lambdas_of, written_out) -> None:
    rows, lambdas = rows_of(levels, widths, n=300), lambdas_of(widths)
    factor = linear_system(rows).factorise(lambdas)
    covariance = written_out(rows, lambdas).covariance()
    rng = np.random.default_rng(4)
    wanted = rng.standard_normal((200, len(covariance))) * (rng.random((200, len(covariance))) < 0.05)
    wanted[7] = 0.0
    wanted[8, 1:] = 0.0
    expected = np.einsum("ij,jk,ik->i", wanted, covariance, wanted)
    np.testing.assert_allclose(row_by_row(factor, csr_array(wanted)), expected, rtol=1e-9, atol=1e-12)


def test_entries_that_are_there_twice_are_added_up(rows_of, lambdas_of, written_out) -> None:
    rows, lambdas = rows_of((100, 12), (1, 1), n=300), lambdas_of((1, 1))
    factor = linear_system(rows).factorise(lambdas)
    covariance = written_out(rows, lambdas).covariance()
    p = factor.system.n_population
    indices, data = np.array([p + 3, p + 105, p + 3, 0, p + 105]), np.array([1.0, 2.0, 0.5, 1.0, -1.0])
    twice = csr_array((data, indices, np.array([0, 5])), shape=(1, len(covariance)))
    whole = np.bincount(indices, data, len(covariance))
    assert row_by_row(factor, twice)[0] == pytest.approx(whole @ covariance @ whole, rel=1e-9)


def test_rows_of_one_level_each_go_this_way_and_averages_over_all_do_not(rows_of, lambdas_of) -> None:
    rows, lambdas = rows_of((200, 30, 12), (1, 2, 1), n=400), lambdas_of((1, 2, 1))
    joint = NormalJoint(linear_system(rows).factorise(lambdas), 1.3)
    width, p = len(joint.mean), joint.factor.system.n_population
    alone = csr_array((np.ones(200), p + np.arange(200), np.arange(201)), shape=(200, width))
    assert goes_row_by_row(joint.factor, alone)
    assert not goes_row_by_row(joint.factor, csr_array(np.ones((200, width))))
    np.testing.assert_allclose(joint.variance(alone), 1.3**2 * row_by_row(joint.factor, alone))


def test_two_blocks_of_the_eliminated_factor_are_side_by_side(rows_of, lambdas_of, written_out) -> None:
    rng = np.random.default_rng(3)
    rows, lambdas = rows_of((50, 4), (1, 1), n=300), lambdas_of((1, 2, 1))
    first, other = rows.blocks
    rows = replace(rows, blocks=(first, replace(first, values=rng.standard_normal((300, 2))), other))
    factor, covariance = linear_system(rows).factorise(lambdas), written_out(rows, lambdas).covariance()
    p, q = factor.system.n_population, factor.system.rest_starts[-1]
    places = coefficient_places(factor.system)
    np.testing.assert_array_equal(places[p : p + 50], q + 3 * np.arange(50))
    np.testing.assert_array_equal(places[p + 50 : p + 150], q + np.delete(np.arange(150), np.arange(0, 150, 3)))
    np.testing.assert_array_equal(places[p + 150 :], np.arange(4))
    wanted = rng.standard_normal((50, len(covariance))) * (rng.random((50, len(covariance))) < 0.1)
    expected = np.einsum("ij,jk,ik->i", wanted, covariance, wanted)
    np.testing.assert_allclose(row_by_row(factor, csr_array(wanted)), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sd", [0.7, 1e4])
def test_rows_of_one_level_and_a_few_others_are_those_of_the_covariance(sd, rows_of, lambdas_of, written_out) -> None:
    """Also where the level's own mean takes away nearly all that the others bring."""
    rows, lambdas = rows_of((100, 30, 12), (1, 2, 1), n=300), lambdas_of((1, 2, 1))
    lambdas = [lambdas[0] * sd, *lambdas[1:]]
    factor, covariance = linear_system(rows).factorise(lambdas), written_out(rows, lambdas).covariance()
    p, rng = factor.system.n_population, np.random.default_rng(6)
    wanted = np.zeros((300, len(covariance)))
    wanted[np.arange(300), p + np.tile(np.arange(100), 3)] = 1.0
    wanted[100:, 0] = 1.0
    wanted[200:, p + 100 :] = rng.random((100, len(covariance) - p - 100)) < 0.04
    assert goes_row_by_row(factor, csr_array(wanted))
    expected = np.einsum("ij,jk,ik->i", wanted, covariance, wanted)
    np.testing.assert_allclose(row_by_row(factor, csr_array(wanted)), expected, rtol=1e-7)


def test_cross_products_that_are_shared_with_the_outcome_answer_as_a_copy_without_it(rows_of, lambdas_of, monkeypatch) -> None:
    rows, lambdas = rows_of((100, 30, 12), (1, 2, 1), n=300), lambdas_of((1, 2, 1))

    def answers() -> tuple[np.ndarray, ...]:
        joint = NormalJoint(linear_system(rows).factorise(lambdas), 1.3)
        asked = csr_array(np.round(np.random.default_rng(9).standard_normal((7, len(joint.mean)))))
        assert joint.eliminated[0].cross.shape[1] == joint.eliminated[0].width + int(arrow_matrices.MANY_ENTRIES == 0)
        form = arrow_form(joint)
        return joint.covariance_times(asked), joint._through_rest(asked), joint.spread_about(asked, asked[[0]]), form.covariance_of(asked)

    copied = answers()
    monkeypatch.setattr(arrow_matrices, "MANY_ENTRIES", 0)
    for own, other in zip(answers(), copied, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(np.diagonal(copied[3]), 1.3**2 * copied[1], rtol=1e-9)
