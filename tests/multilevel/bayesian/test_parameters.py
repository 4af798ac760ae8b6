"""The unconstrained variance parameters and their prior density."""

import numpy as np
import pytest
from scipy.integrate import quad

from multilevel.bayesian.distributions import Prior
from multilevel.bayesian.parameters import Layout, correlation_factor, log_prior, sample_prior
from multilevel.bayesian.priors import ResolvedPriors

HALF = Prior("half_normal", (1.5,))


def priors_of(widths: tuple[int, ...], eta: float = 2.0, *, sigma: Prior | None = None, dispersion: Prior | None = None) -> ResolvedPriors:
    sds = tuple((HALF,) * k for k in widths)
    return ResolvedPriors(np.zeros(1), np.eye(1), (Prior("normal", (0.0, 1.0)),), sds, (eta,) * len(widths), sigma, dispersion)


def test_covariances_survive_the_way_there_and_back() -> None:
    rng = np.random.default_rng(0)
    covariances = [a @ a.T + 0.1 * np.eye(len(a)) for a in (rng.normal(size=(3, 3)), rng.normal(size=(1, 1)), rng.normal(size=(2, 2)))]
    layout = Layout((3, 1, 2), True)
    theta = layout.pack(covariances, 1.7)
    assert theta.shape == (layout.size,)
    for block, covariance in enumerate(covariances):
        factor = layout.factor(theta, block)
        np.testing.assert_allclose(factor @ factor.T, covariance)
    assert float(layout.scale(theta)) == pytest.approx(1.7)


def test_the_log_density_of_one_sd_and_one_correlation_integrates_to_one() -> None:
    layout = Layout((2,), False)
    priors = priors_of((2,))
    fixed = np.array([0.1, -0.3, 0.0])

    def along(at: int) -> float:
        def density(value: float) -> float:
            theta = fixed.copy()
            theta[at] = value
            return float(np.exp(log_prior(theta, layout, priors)))

        return quad(density, -15, 15, points=[0.0])[0]

    others = np.exp(HALF.log_density(np.exp(fixed[:2])) + fixed[:2])
    lkj = 0.75  # LKJ(2) of a single correlation: 3 (1 - r^2) / 4, at r = 0
    assert along(0) == pytest.approx(others[1] * lkj, rel=1e-6)
    assert along(2) == pytest.approx(others[0] * others[1], rel=1e-6)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_correlations_density_is_lkjs_whatever_the_size(k: int) -> None:
    """Up to a constant: (eta - 1) log|R| plus the log Jacobian of R's lower triangle with respect to the unconstrained values."""
    eta, layout = 2.5, Layout((k,), False)
    m = k * (k - 1) // 2
    rng = np.random.default_rng(k)
    rows, columns = np.tril_indices(k, -1)

    def correlations(y: np.ndarray) -> np.ndarray:
        factor = correlation_factor(y, k)
        return (factor @ factor.T)[rows, columns]

    def direct(y: np.ndarray) -> float:
        jacobian = np.stack([(correlations(y + step) - correlations(y - step)) / 2e-6 for step in 1e-6 * np.eye(m)], axis=1)
        factor = correlation_factor(y, k)
        return 2 * (eta - 1) * np.log(np.diag(factor)).sum() + np.linalg.slogdet(jacobian)[1]

    points = rng.normal(0, 0.7, size=(5, m))
    ours = [float(log_prior(np.concatenate([np.zeros(k), y]), layout, priors_of((k,), eta))) for y in points]
    np.testing.assert_allclose(np.diff(ours), np.diff([direct(y) for y in points]), atol=1e-5)


def test_draws_of_the_prior_follow_its_density() -> None:
    layout = Layout((3,), True)
    priors = priors_of((3,), 2.0, sigma=Prior("exponential", (2.0,)))
    draws = sample_prior(40_000, layout, priors, np.random.default_rng(1))
    factor = layout.factor(draws, 0)
    covariance = np.einsum("sij,skj->sik", factor, factor)
    correlation = covariance[:, 2, 1] / np.sqrt(covariance[:, 2, 2] * covariance[:, 1, 1])
    assert np.mean(correlation**2) == pytest.approx(1 / 6, abs=0.005)  # a margin of LKJ(2), k = 3, is a stretched Beta(2.5, 2.5)
    assert layout.scale(draws).mean() == pytest.approx(2.0, abs=0.05)
    assert np.sqrt(np.mean(layout.sds(draws, 0) ** 2)) == pytest.approx(1.5, abs=0.03)


def test_a_dispersions_prior_is_on_the_coefficient_of_variation() -> None:
    layout = Layout((), True)
    priors = priors_of((), dispersion=Prior("half_normal", (1.0,)))
    total = quad(lambda v: float(np.exp(log_prior(np.array([v]), layout, priors))), -40, 60, points=[0.0])[0]
    assert total == pytest.approx(1.0, rel=1e-5)
    draws = sample_prior(20_000, layout, priors, np.random.default_rng(0))
    assert np.mean(1 / np.exp(draws[:, 0])) == pytest.approx(1.0, abs=0.05)
