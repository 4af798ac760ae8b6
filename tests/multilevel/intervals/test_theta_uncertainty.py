"""Intervals of the likelihood engine carry what is unknown of the variances: against integrals on a grid, and closed forms."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import trapezoid
from scipy.optimize import brentq
from scipy.special import expit, gammaln
from scipy.stats import norm

from multilevel.cells.from_rows import cells_from_frame
from multilevel.fit.interval_estimates import Moments, mixture_bounds
from multilevel.formula.parse import parse_formula
from multilevel.intervals import theta_uncertainty
from multilevel.intervals.theta_coordinates import Coordinates
from multilevel.intervals.theta_sampling import sample
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options


def study_of(formula: str, frame: pd.DataFrame, family: str = "gaussian") -> StudyFit:
    parsed = parse_formula(formula)
    return fit_study(parsed, cells_from_frame(parsed, frame, family), fit_options("s", date(2026, 1, 31), "r", "likelihood"))


def table(study: StudyFit, name: str) -> pd.DataFrame:
    return study.tables[name].to_pandas()


def balanced(levels: int, rows: int, sd: float, seed: int) -> pd.DataFrame:
    """Levels of equally many rows whose effects have standard deviation ``sd``, sigma 1."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(levels), rows)
    y = 3.0 + sd * rng.normal(size=levels)[group] + rng.normal(size=len(group))
    return pd.DataFrame({"g": [f"G{code:02d}" for code in group], "y": y})


def grid_intervals(frame: pd.DataFrame) -> np.ndarray:
    """(L, 2) 95 % intervals of the levels' means, tau and log sigma integrated on a grid under flat priors, mu analytically."""
    means = frame.groupby("g").y.mean().to_numpy()
    n, levels = len(frame) // len(means), len(means)
    within = float(((frame.y - frame.groupby("g").y.transform("mean")) ** 2).sum())
    between = float(np.sum((means - means.mean()) ** 2))
    tau, log_sigma = np.meshgrid(np.exp(np.linspace(-5.0, 3.0, 160)), np.linspace(-0.6, 0.6, 40))
    sigma2 = np.exp(2.0 * log_sigma)
    total = tau**2 + sigma2 / n
    log_density = -levels * (n - 1) * log_sigma - within / (2 * sigma2) - (levels - 1) / 2 * np.log(total) - between / (2 * total)
    weight = (tau * np.exp(log_density - log_density.max())).ravel()
    weight /= weight.sum()
    keep = weight > 1e-8
    share = (tau**2 / total).ravel()[keep]
    variance = (tau**2 * (sigma2 / n) / total).ravel()[keep] + ((1 - share) ** 2 * total.ravel()[keep] / levels)
    found = []
    for mean in means:
        centre = share * mean + (1 - share) * means.mean()
        found.append(
            [brentq(lambda x, p=p: weight[keep] @ norm.cdf((x - centre) / np.sqrt(variance)) - p, -20, 20) for p in (0.025, 0.975)]  # noqa: B023
        )
    return np.array(found)


@pytest.mark.parametrize(("levels", "sd", "seed"), [(6, 0.8, 1), (8, 0.0, 3)])
def test_intervals_of_few_groups_are_those_of_an_integral_over_the_variances(levels: int, sd: float, seed: int) -> None:
    frame = balanced(levels, 5, sd, seed)
    found = table(study_of("y ~ 1 + (1 | g)", frame), "group_estimates").query("not is_new")
    wanted = grid_intervals(frame)
    assert (found.variance_uncertainty == "integration").all()
    # 176 quasi-random points beside a grid
    np.testing.assert_allclose(found[["lower", "upper"]].to_numpy(), wanted, atol=0.04 * float(np.ptp(wanted, axis=1).mean()))


def test_larger_models_take_variances_one_by_one_and_get_nearly_the_same_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factor of six levels beside one of thirty: only the first follows its own density."""
    frame = balanced(30, 8, 0.8, 4)
    frame["h"] = [f"H{at % 6}" for at in range(len(frame))]
    frame["y"] += 0.3 * np.random.default_rng(5).normal(size=6)[np.arange(len(frame)) % 6]
    formula = "y ~ 1 + (1 | g) + (1 | h)"
    monkeypatch.setattr(theta_uncertainty, "DENSE_EFFECTS", 0)
    whole = table(study_of(formula, frame), "group_estimates")
    monkeypatch.setattr(theta_uncertainty, "MOST_INTEGRATED", 0)
    apart = table(study_of(formula, frame), "group_estimates")
    assert (apart.variance_uncertainty == "integration").all()
    seen = ~apart.is_new
    widths = [(found.upper - found.lower)[seen] for found in (whole, apart)]
    np.testing.assert_allclose(widths[1], widths[0], rtol=0.08)
    np.testing.assert_allclose(apart.lower[seen], whole.lower[seen], atol=0.05 * float(widths[0].mean()))


def test_many_clear_groups_are_expanded_to_second_order() -> None:
    levels, n = 30, 20
    frame = balanced(levels, n, 1.0, 5)
    study = study_of("y ~ 1 + (1 | g)", frame)
    groups = table(study, "group_coefficients").query("not is_new")
    assert (groups.variance_uncertainty == "expansion").all()
    # closed form: the conditional mean moves by d share (mean - mu), share = tau^2 / (tau^2 + sigma^2 / n)
    means = frame.groupby("g").y.mean().to_numpy()
    within = float(((frame.y - frame.groupby("g").y.transform("mean")) ** 2).sum() / (levels * (n - 1)))
    total = float(np.var(means, ddof=1))
    share_variance = (within / n / total) ** 2 * (2.0 / (levels - 1) + 2.0 / (levels * (n - 1)))
    added = 2.0 * share_variance * (means - means.mean()) ** 2
    half = (groups.upper - groups.lower).to_numpy() / 2.0 / norm.ppf(0.975)
    np.testing.assert_allclose(half**2 - groups.std_error.to_numpy() ** 2, added, rtol=0.02, atol=1e-6)


def test_standard_errors_of_coefficients_are_given_the_variances_and_those_of_averages_are_not() -> None:
    study = study_of("y ~ 1 + (1 | g)", balanced(6, 5, 0.8, 1))
    assert study.fit is not None
    coefficients, averages = (table(study, name).query("not is_new") for name in ("group_coefficients", "group_estimates"))
    plain = study.fit.joint.combine(np.hstack([np.ones((6, 1)), np.eye(6)]), 0.95)  # type: ignore[arg-type]
    np.testing.assert_allclose(coefficients.std_error, plain.std_error, rtol=1e-9)
    assert (averages.std_error.to_numpy() > 1.02 * plain.std_error).all()
    assert (coefficients.upper - coefficients.lower > plain.upper - plain.lower).all()
    np.testing.assert_allclose(averages.estimate, plain.estimate, rtol=1e-12)


def test_a_binomial_study_of_four_groups_is_near_its_integral() -> None:
    """Successes y_j of n: mu and the log of tau on a grid, the level's effect by quadrature, half-t(3, 1) on tau. What is left is that
    effects of so few successes are skew on the link scale."""
    successes, n = np.array([3, 9, 14, 20]), 30
    frame = pd.DataFrame({"g": np.repeat(list("abcd"), n), "y": np.concatenate([np.r_[np.ones(s), np.zeros(n - s)] for s in successes])})
    found = table(study_of("y ~ 1 + (1 | g)", frame, "binomial"), "group_estimates").query("not is_new")
    eta = np.linspace(-7, 7, 281)
    likelihood = np.exp(successes[:, None] * eta - n * np.logaddexp(0, eta) + (gammaln(n + 1)))
    density = np.zeros((4, len(eta)))
    for mu in np.linspace(-5, 4, 31):
        for log_tau in np.linspace(-4, 2.5, 27):
            tau = np.exp(log_tau)
            each = likelihood * norm.pdf(eta, mu, tau)
            mass = trapezoid(each, eta, axis=1)
            prior = tau / (1 + tau**2 / 3) ** 2
            density += each / mass[:, None] * np.prod(mass / mass.max()) * mass.max() ** 4 * prior
    cumulative = np.cumsum(density, axis=1) / density.sum(axis=1, keepdims=True)
    wanted = np.array([[expit(np.interp(p, row, eta)) for p in (0.025, 0.975)] for row in cumulative])
    np.testing.assert_allclose(found[["lower", "upper"]].to_numpy(), wanted, atol=0.025)


def test_coordinates_and_back() -> None:
    rng = np.random.default_rng(4)
    coordinates = Coordinates((1, 3, 2), (9, 9, 9), 1.0, True, True)
    x = rng.normal(size=coordinates.n)
    roots = coordinates.roots(x)
    np.testing.assert_allclose(coordinates.of(roots, coordinates.scale(x)), x, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(roots[1], axis=1), np.exp(x[1:4]))


def test_the_prior_is_even_over_correlation_matrices() -> None:
    """Against the volume of the correlations' coordinates by differences."""
    coordinates = Coordinates((3,), (9,), 1.0, False, True)

    def correlations(z: np.ndarray) -> np.ndarray:
        [root] = coordinates.roots(np.concatenate([np.zeros(3), z]))
        return (root @ root.T)[np.tril_indices(3, -1)]

    rng = np.random.default_rng(5)
    points = rng.normal(size=(5, 3))
    step = 1e-5
    volumes = [
        np.log(abs(np.linalg.det(np.array([(correlations(z + step * e) - correlations(z - step * e)) / (2 * step) for e in np.eye(3)]))))
        for z in points
    ]
    priors = [coordinates.log_prior(np.concatenate([np.zeros(3), z])) for z in points]
    np.testing.assert_allclose(np.subtract(priors, volumes), priors[0] - volumes[0], atol=1e-6)


def test_points_have_the_moments_of_their_distribution() -> None:
    """Of the logarithm of a gamma variable with shape 2, beside a correlated normal one: skew, and the first guess far off."""

    def log_density(x: np.ndarray) -> float:
        return float(2.0 * x[0] - np.exp(x[0]) - 2.0 * (x[1] - x[0]) ** 2)

    found = []
    for seed in range(12):
        points, weights = sample(log_density, np.array([2.0, -1.0]), np.array([0.5, 2.0]), seed)
        mean = weights @ points[:, 0]
        found.append([mean, weights @ (points[:, 0] - mean) ** 2, weights @ (points[:, 1] - points[:, 0]) ** 2])
    # digamma and trigamma of 2
    np.testing.assert_allclose(np.mean(found, axis=0), [0.42278, 0.64493, 0.25], atol=0.06)
    assert np.all(np.std(found, axis=0) < 0.15)


def test_quantiles_of_a_mixture() -> None:
    found = Moments(np.array([[0.0, 2.0, 5.0]]), np.array([[1.0, 0.25, 0.0]]), np.array([0.5, 0.3, 0.2]))

    def share(x: float) -> float:
        return 0.5 * norm.cdf(x) + 0.3 * norm.cdf((x - 2) / 0.5) + 0.2 * (x >= 5)

    assert share(mixture_bounds(found, 0.3)[1][0]) == pytest.approx(0.7, abs=1e-9)
    assert mixture_bounds(found, 0.05)[1][0] == pytest.approx(5.0, abs=1e-6)
    assert found.total[0] == pytest.approx(0.5 + 0.075 + np.average([0, 4, 25], weights=[0.5, 0.3, 0.2]) - 1.6**2)
