"""The blocked factorisation agrees with the matrices written out in full, and its gradient with finite differences."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from multilevel.design.reduction import ReducedRows
from multilevel.errors import FitError
from multilevel.linear import assemble, elimination, joint_normal, presummed, products
from multilevel.linear.assemble import linear_system
from multilevel.linear.effects_gradient import criterion_gradient
from multilevel.linear.factorise import BlockedFactor
from multilevel.linear.joint_normal import NormalJoint
from multilevel.linear.theta import Theta

# Both sides are exact algebra on 200 rows: only rounding may differ.
ROUNDING = 1e-9


def looped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything through the compiled loops, as large problems go."""
    for module, limit in (
        (products, "FEW_PRODUCTS"),
        (products, "LARGEST_FULL"),
        (products, "MANY_ROWS"),
        (elimination, "FEW_LEVELS"),
        (joint_normal, "FEW_NUMBERS"),
    ):
        monkeypatch.setattr(module, limit, 0)


@pytest.fixture(params=["full matrices", "compiled loops", "levels of equal size summed", "summed by compiled loops"])
def summed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if "compiled loops" in request.param:
        looped(monkeypatch)
    if "summed" in request.param:
        monkeypatch.setattr(presummed, "SMALLEST_SAVING", -1e9)
        monkeypatch.setattr(presummed, "GATHER_COST", 1e6)
        return True
    return False


def check(ours: BlockedFactor, dense) -> None:
    log_effects, log_population, rss, beta, effects = dense.solve()
    assert ours.log_det_effects == pytest.approx(log_effects, rel=ROUNDING, abs=ROUNDING)
    assert ours.log_det_population == pytest.approx(log_population, rel=ROUNDING)
    assert ours.penalised_rss == pytest.approx(rss, rel=ROUNDING)
    np.testing.assert_allclose(ours.beta, beta, rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(ours.effects, effects, rtol=ROUNDING, atol=ROUNDING)
    for part, expected in zip(ours.conditional_variance(), dense.conditional_variance(), strict=True):
        np.testing.assert_allclose(part, expected, rtol=ROUNDING, atol=ROUNDING)


def test_every_shape_of_model_agrees_with_the_full_matrices(shape, written_out, summed) -> None:
    rows, lambdas = shape
    check(linear_system(rows).factorise(lambdas), written_out(rows, lambdas))


def test_levels_of_equal_size_are_summed_when_it_pays_and_only_then(rows_of, summed) -> None:
    system = linear_system(rows_of((20, 5), (1, 1), ones=True))
    assert (len(system.presummed.own) > 0) is summed
    assert len(system.presummed.singles) < 20 if summed else len(system.presummed.singles) == 20


def test_large_levels_are_kept_one_by_one_where_memory_is_short(rows_of, lambdas_of, written_out, monkeypatch) -> None:
    monkeypatch.setattr(presummed, "SMALLEST_SAVING", -1e9)
    monkeypatch.setattr(presummed, "GATHER_COST", 1e6)
    rows = rows_of((20, 5), (1, 1), ones=True)
    system = linear_system(rows)
    width = len(system.gram)
    monkeypatch.setattr(presummed, "MEMORY_LIMIT", 2 * 8 * width * (width + 1) // 2)
    assert len(system.presummed.own) == 2
    assert 0 < len(system.presummed.singles) < 20
    lambdas = lambdas_of((1, 1))
    check(system.factorise(lambdas), written_out(rows, lambdas))


def test_row_weights_and_another_outcome_are_those_of_rescaled_rows(shape, summed, written_out) -> None:
    rows, lambdas = shape
    rng = np.random.default_rng(3)
    weights, outcome = rng.uniform(0.1, 4.0, len(rows.outcome)), rng.standard_normal(len(rows.outcome))
    root = np.sqrt(weights)
    scaled = replace(
        rows,
        X=rows.X * root[:, None],
        outcome=outcome * root,
        blocks=tuple(replace(block, values=block.values * root[:, None]) for block in rows.blocks),
    )
    check(linear_system(rows, weights=weights, outcome=outcome).factorise(lambdas), written_out(scaled, lambdas))


def test_a_normal_prior_on_the_coefficients_enters_as_extra_rows_would(rows_of, lambdas_of, written_out) -> None:
    rows, lambdas = rows_of((20, 5), (1, 2)), lambdas_of((1, 2))
    precision, location = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([1.0, -2.0])
    check(linear_system(rows).factorise(lambdas, precision, location), written_out(rows, lambdas, precision, location))


@pytest.mark.parametrize("sizes", [((40, 30), (1, 1)), ((40, 6), (2, 2)), ((400, 5), (2, 1))])
def test_full_matrices_and_compiled_loops_give_the_same_system(rows_of, lambdas_of, sizes, monkeypatch) -> None:
    levels, columns = sizes
    rows, lambdas = rows_of(levels, columns, n=900), lambdas_of(columns)
    full = linear_system(rows)
    looped(monkeypatch)
    sparse = linear_system(rows)
    assert full.cross.is_full and not sparse.cross.is_full
    np.testing.assert_allclose(full.gram, sparse.gram, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(full.own, sparse.own, rtol=1e-13)
    np.testing.assert_allclose(full.factorise(lambdas).effects, sparse.factorise(lambdas).effects, rtol=1e-12, atol=1e-13)


def test_sparse_problems_are_not_written_out_in_full(rows_of) -> None:
    # 2,000 levels touch about 2 of 900 columns each
    assert not linear_system(rows_of((2000, 900), (1, 1), n=4000)).cross.is_full


def test_a_zero_lambda_gives_least_squares(rows_of) -> None:
    rows = rows_of((20, 5), (1, 2))
    factor = linear_system(rows).factorise((np.zeros((1, 1)), np.zeros((2, 2))))
    expected = np.linalg.lstsq(rows.X, rows.outcome)
    np.testing.assert_allclose(factor.beta, expected[0], rtol=ROUNDING)
    assert factor.penalised_rss == pytest.approx(expected[1][0] + rows.residual_ss, rel=ROUNDING)
    assert not factor.effects.any()


@pytest.mark.parametrize("size", [1.0, 1e-3, 0.0])
def test_the_gradient_is_that_of_finite_differences(shape, summed, size: float) -> None:
    rows, lambdas = shape
    layout, system = Theta(tuple(len(factor) for factor in lambdas)), linear_system(rows)
    theta = size * layout.flat(lambdas)
    kinds = [(reml, sigma2) for reml in (True, False) for sigma2 in (None, 1.7)]

    def parts(at: np.ndarray) -> tuple[float, float, float]:
        factor = system.factorise(layout.lambdas(at))
        return factor.log_det_effects, factor.log_det_population, factor.penalised_rss

    def criterion(of: tuple[float, float, float], reml: bool, sigma2: float | None) -> float:
        df = system.n_rows - (system.n_population if reml else 0)
        fit = df * np.log(of[2]) if sigma2 is None else of[2] / sigma2
        return of[0] + reml * of[1] + fit

    moves = 1e-5 * np.eye(layout.n)
    above, below = ([parts(theta + sign * move) for move in moves] for sign in (1.0, -1.0))
    factor = system.factorise(layout.lambdas(theta))
    for kind in kinds:
        expected = [(criterion(up, *kind) - criterion(down, *kind)) / 2e-5 for up, down in zip(above, below, strict=True)]
        found = layout.flat(criterion_gradient(factor, kind[1], reml=kind[0]))
        # central differences 1e-5 apart of a number near 1e3 are good to 1e-13 * 1e3 / 1e-5 = 1e-5
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=2e-5)


def test_combinations_have_the_joint_covariance_of_effects_and_coefficients(shape, summed, written_out) -> None:
    rows, lambdas = shape
    joint = NormalJoint(linear_system(rows).factorise(lambdas), 1.3)
    dense = written_out(rows, lambdas)
    covariance = 1.3**2 * dense.covariance()
    rng = np.random.default_rng(5)
    wanted = rng.standard_normal((7, len(covariance))) * (rng.random((7, len(covariance))) < 0.3)
    found = joint.combine(csr_array(wanted), 0.9)
    np.testing.assert_allclose(found.estimate, wanted @ joint.mean, rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(found.std_error, np.sqrt(np.einsum("ij,jk,ik->i", wanted, covariance, wanted)), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.upper - found.lower, 2 * 1.6448536269514722 * found.std_error, rtol=1e-12)


def test_many_rows_that_touch_one_level_each_take_the_short_way_to_the_same_errors(rows_of, lambdas_of, written_out) -> None:
    rows, lambdas = rows_of((100, 30, 12), (1, 2, 1), n=400), lambdas_of((1, 2, 1))
    joint = NormalJoint(linear_system(rows).factorise(lambdas), 1.0)
    covariance = written_out(rows, lambdas).covariance()
    wanted = np.zeros((100, len(covariance)))
    wanted[:, 0] = 1.0
    wanted[np.arange(100), 2 + np.arange(100)] = 1.0
    expected = np.sqrt(np.einsum("ij,jk,ik->i", wanted, covariance, wanted))
    np.testing.assert_allclose(joint.combine(csr_array(wanted), 0.95).std_error, expected, rtol=1e-9)


def test_averages_of_a_response_have_delta_method_errors(rows_of, lambdas_of, written_out) -> None:
    rows, lambdas = rows_of((20, 5), (1, 2)), lambdas_of((1, 2))
    joint = NormalJoint(linear_system(rows).factorise(lambdas), 1.0)
    covariance = written_out(rows, lambdas).covariance()
    rng = np.random.default_rng(2)
    wanted, weights = rng.standard_normal((6, len(covariance))) / 4, np.full((1, 6), 1 / 6)
    found = joint.respond(csr_array(wanted), csr_array(weights), np.exp, np.exp, 0.95)
    gradient = weights @ (np.exp(wanted @ joint.mean)[:, None] * wanted)
    assert found.estimate[0] == pytest.approx(np.exp(wanted @ joint.mean).mean())
    assert found.std_error[0] == pytest.approx(np.sqrt((gradient @ covariance @ gradient.T).item()))


def test_draws_have_the_joint_mean_and_covariance(rows_of, lambdas_of, written_out) -> None:
    rows, lambdas = rows_of((8, 3), (2, 1)), lambdas_of((2, 1))
    joint = NormalJoint(linear_system(rows).factorise(lambdas), 0.5)
    covariance = 0.25 * written_out(rows, lambdas).covariance()
    draws = joint.draws(40_000, seed=1)
    scale = np.sqrt(np.diagonal(covariance))
    # 40,000 draws: a mean is good to 0.005 sd, a correlation to 0.005; five times that never happens by chance
    np.testing.assert_allclose((draws.mean(axis=0) - joint.mean) / scale, 0.0, atol=0.025)
    np.testing.assert_allclose((np.cov(draws.T) - covariance) / np.outer(scale, scale), 0.0, atol=0.04)
    np.testing.assert_array_equal(draws[:5], joint.draws(40_000, seed=1)[:5])


def named(rows: ReducedRows, *names: str) -> ReducedRows:
    return replace(rows, blocks=tuple(replace(block, name=name) for block, name in zip(rows.blocks, names, strict=True)))


def test_a_second_factor_too_large_for_a_dense_block_is_refused_with_its_size(rows_of, monkeypatch) -> None:
    monkeypatch.setattr(assemble, "DENSE_LIMIT", 10)
    with pytest.raises(FitError, match=r"(?s)11 group-level effects \(store: 11\).*0\.0 GB.*at most 10 .*coarser grouping"):
        linear_system(named(rows_of((20, 11), (1, 1)), "customer", "store"))


def test_values_that_are_not_finite_are_refused(rows_of) -> None:
    rows = rows_of((6,), (1,))
    rows.outcome[3] = np.inf
    with pytest.raises(FitError, match="not finite"):
        linear_system(rows)
