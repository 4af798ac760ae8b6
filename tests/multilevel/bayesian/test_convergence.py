"""R-hat and ESS of many parameters at once, against ArviZ."""

import numpy as np
import pytest

from multilevel.bayesian.convergence import convergence, convergence_checks


@pytest.fixture(scope="module")
def chains() -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, 500, 12))
    values, memory = noise.copy(), np.linspace(-0.6, 0.95, 12)
    for t in range(1, 500):
        values[:, t] = memory * values[:, t - 1] + noise[:, t]
    values[..., 3] = np.round(values[..., 3], 1)  # ties, as a chain that stays has them
    return values


def test_the_figures_are_arvizs(chains: np.ndarray) -> None:
    from arviz_stats.base import array_stats

    axes = {"chain_axis": 0, "draw_axis": 1}
    found = convergence(chains)
    np.testing.assert_allclose(found.r_hat, array_stats.rhat(chains, **axes), rtol=1e-6)
    # the end of Geyer's sequence is cut a lag earlier or later: under one per cent of an ESS
    np.testing.assert_allclose(found.ess_bulk, array_stats.ess(chains, method="bulk", **axes), rtol=0.02)
    np.testing.assert_allclose(found.ess_tail, array_stats.ess(chains, method="tail", prob=(0.05, 0.95), **axes), rtol=0.02)


def test_a_gate_fails_and_names_the_parameter_that_did_not_converge(chains: np.ndarray) -> None:
    apart = chains.copy()
    apart[0, :, 5] += 2.0
    checks = {check.check: check for check in convergence_checks([f"p{i}" for i in range(12)], convergence(apart))}
    assert not checks["max_r_hat"].passed
    assert checks["max_r_hat"].gate
    assert "p5" in checks["max_r_hat"].message
    assert not checks["min_ess_bulk"].passed


def test_a_parameter_that_never_moves_fails_every_gate(chains: np.ndarray) -> None:
    stuck = chains.copy()
    stuck[..., 7] = 1.0
    checks = convergence_checks([f"p{i}" for i in range(12)], convergence(stuck))
    assert not any(check.passed for check in checks)
    assert all("p7" in check.message for check in checks)
