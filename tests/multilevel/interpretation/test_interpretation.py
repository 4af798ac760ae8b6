"""Variance shares, explained variance, within and between slopes: against formulas written out over rows."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from scipy.special import ndtri

from multilevel.cells.statistics import CellStatistics, Labels
from multilevel.design.checks import DesignWarning
from multilevel.design.model import Design, DesignColumn, Factor, GroupBlock
from multilevel.design.nesting import nesting
from multilevel.fit.container import Fit, Summary
from multilevel.fit.residuals import cell_residual_ss, linear_predictor, outcome_variance, predictor_variance
from multilevel.interpretation.contextual import contextual_effects
from multilevel.interpretation.explained_variance import explained_variance, explained_variance_of_data
from multilevel.interpretation.variance_partition import residual_variance, variance_partition
from multilevel.interpretation.warnings import design_warnings, separated_groups, simpson_warnings


class Joint:
    """A dense normal joint distribution."""

    def __init__(self, mean: np.ndarray, covariance: np.ndarray) -> None:
        self.mean, self.covariance = mean, covariance

    def spread_about(self, rows: csr_array, centre: csr_array) -> np.ndarray:
        away = rows.toarray() - centre.toarray()
        return np.sqrt(np.sum((away @ self.covariance) * away, axis=1))

    def combine(self, rows: csr_array, interval: float) -> Summary:
        estimate = rows @ self.mean
        error = np.sqrt(np.sum((rows @ self.covariance) * rows.toarray(), axis=1))
        half = ndtri(0.5 + interval / 2) * error
        return Summary(estimate, error, estimate - half, estimate + half)


def rows(seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": np.sort(rng.choice(["a", "b", "c", "d"], size=120)), "x": rng.normal(size=120)})
    frame["u"] = frame.g.map({"a": 0.0, "b": 1.0, "c": -1.0, "d": 2.0})
    frame["x"] += 2.0 * frame.u
    frame["y"] = 1.0 + frame.x - 3.0 * frame.u + rng.normal(size=120)
    return frame


def gaussian_fit(frame: pd.DataFrame, labels: tuple[str, ...] = ("Intercept", "x", "u")) -> Fit:
    """One cell a group; x is a continuous feature, known through its moments; u is a group-level predictor; slopes of x vary by g."""
    features = frame[["x", "y"]].to_numpy()
    levels, codes = np.unique(frame.g, return_inverse=True)
    n = np.bincount(codes)
    mean = np.array([features[codes == i].mean(axis=0) for i in range(len(levels))])
    cross = np.array([np.cov(features[codes == i].T, ddof=0) * n[i] for i in range(len(levels))])
    u = np.array([frame.u[codes == i].iloc[0] for i in range(len(levels))])
    place = np.arange(len(levels), dtype=np.int32)
    cells = CellStatistics(
        "gaussian", False, {"g": Labels(place, levels.astype(object))}, {}, {"u": u}, ("x",), n, n.astype(float), mean, cross,
        n.astype(float), np.array([frame.y[codes == i].sum() for i in range(len(levels))]), np.zeros(len(levels)), {},
    )  # fmt: skip
    one = np.ones(len(levels))
    population = (
        DesignColumn(labels[0], one),
        DesignColumn(labels[1], one, feature=1, kind="within" if "within" in labels[1] else "individual"),
        DesignColumn(labels[2], u, kind="between" if "between" in labels[2] else "group_level", constant_within="g"),
    )
    block = GroupBlock(Factor("g", ("g",), place, levels.astype(object)), (population[0], DesignColumn("x", one, feature=1)))
    design = Design(cells, population, (block,))
    rng = np.random.default_rng(4)
    size = 3 + design.n_effects
    root = 0.1 * rng.normal(size=(size, size))
    coefficients = np.concatenate([[1.0, 1.0, -3.0], 0.3 * rng.normal(size=design.n_effects)])
    return Fit(
        design, "gaussian", "likelihood", "reml", 0.95, Joint(coefficients, root @ root.T), (), (np.array([[0.5, 0.1], [0.1, 0.2]]),),
        (np.full((4, 2), 0.02),), (np.full((4, 2), 0.1),), sigma=1.1,
    )  # fmt: skip


def row_predictor(fit: Fit, frame: pd.DataFrame) -> np.ndarray:
    beta, b = fit.joint.mean[:3], fit.joint.mean[3:].reshape(4, 2)
    codes = np.unique(frame.g, return_inverse=True)[1]
    return beta[0] + beta[1] * frame.x + beta[2] * frame.u + b[codes, 0] + b[codes, 1] * frame.x


def test_residual_sums_of_squares_from_cells_are_those_of_the_rows() -> None:
    frame = rows()
    fit = gaussian_fit(frame)
    eta = row_predictor(fit, frame)
    assert cell_residual_ss(fit.design, fit.joint.mean).sum() == pytest.approx(((frame.y - eta) ** 2).sum(), rel=1e-12)
    by_group = eta.groupby(frame.g)
    assert linear_predictor(fit.design, fit.joint.mean) == pytest.approx(by_group.mean().to_numpy())
    assert predictor_variance(fit.design, fit.joint.mean) == pytest.approx(by_group.var(ddof=0).to_numpy())
    assert outcome_variance(fit.design) == pytest.approx(frame.y.var())


def test_the_variance_share_of_a_slope_block_is_the_mean_over_rows_of_z_sigma_z() -> None:
    frame = rows()
    fit = gaussian_fit(frame)
    z = np.column_stack([np.ones(len(frame)), frame.x])
    mean = np.einsum("ri,ij,rj->r", z, fit.covariances[0], z).mean()
    partition = variance_partition(fit)
    assert partition.blocks[0] == pytest.approx(mean)
    assert partition.shares[0] == pytest.approx(mean / (mean + 1.1**2))
    assert partition.shares.sum() + partition.residual_share == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("family", "dispersion", "wanted"),
    [
        ("binomial", None, np.pi**2 / 3),
        ("poisson", None, np.log(1 + 1 / 2.5)),
        ("negative_binomial", 4.0, np.log(1 + 1 / 2.5 + 1 / 4.0)),
        ("gamma", 5.0, np.log(1 + 1 / 5.0)),
    ],
)
def test_latent_residual_variances(family: str, dispersion: float | None, wanted: float) -> None:
    from dataclasses import replace

    fit = gaussian_fit(rows())
    cells = replace(fit.design.cells, total=2.5 * fit.design.cells.n)
    found = replace(fit, family=family, dispersion=dispersion, sigma=None, design=replace(fit.design, cells=cells))
    assert residual_variance(found) == pytest.approx(wanted)


def test_explained_variance_and_pooling_factor_follow_gelman_and_pardoe() -> None:
    frame = rows()
    fit = gaussian_fit(frame)
    b = fit.joint.mean[3:].reshape(4, 2)[:, 0]
    u = np.array([0.0, 1.0, -1.0, 2.0])
    theta = b - 3.0 * u
    found = explained_variance(fit, 0, 0)
    # E V(e) = V(mean of e) + trace(M Cov(e)) / (J - 1), M taking off the mean, of b and of b + u beta_u
    assert isinstance(fit.joint, Joint)
    effects = np.eye(11)[[3, 5, 7, 9]]
    centre = np.eye(4) - 0.25
    spread = [np.trace(centre @ e @ fit.joint.covariance @ e.T) / 3 for e in (effects, effects + np.outer(u, np.eye(11)[2]))]
    expected = b.var(ddof=1) + spread[0]
    assert found.r_squared == pytest.approx(1 - expected / (theta.var(ddof=1) + spread[1]))
    assert found.pooling_factor == pytest.approx(1 - b.var(ddof=1) / expected)
    assert explained_variance(fit, 0, 1).r_squared is None, "the slope has no group-level predictor"
    data = explained_variance_of_data(fit)
    assert data.r_squared == pytest.approx(1 - 1.21 / frame.y.var())


def test_within_between_and_contextual_effects() -> None:
    fit = gaussian_fit(rows(), ("Intercept", "within(x, g)", "between(x, g)"))
    [effect] = contextual_effects(fit)
    assert (effect.predictor, effect.factor) == ("x", "g")
    assert effect.within.estimate[0] == pytest.approx(1.0)
    assert effect.between.estimate[0] == pytest.approx(-3.0)
    assert effect.contextual.estimate[0] == pytest.approx(-4.0)
    pick = np.zeros(len(fit.joint.mean))
    pick[[1, 2]] = -1.0, 1.0
    assert effect.contextual.std_error[0] == pytest.approx(np.sqrt(pick @ fit.joint.covariance @ pick))
    assert effect.changes_sign
    [warning] = simpson_warnings([effect])
    assert not warning.passed
    assert "Simpson" in warning.message


def test_beside_x_itself_the_coefficient_of_the_mean_is_the_contextual_effect() -> None:
    fit = gaussian_fit(rows(), ("Intercept", "x", "between(x, g)"))
    [effect] = contextual_effects(fit)
    assert effect.contextual.estimate[0] == pytest.approx(-3.0)
    assert effect.between.estimate[0] == pytest.approx(-2.0)


def test_warnings_of_one_kind_share_a_row_that_holds_all_their_messages() -> None:
    warnings = [
        DesignWarning("aliased", "a is determined."),
        DesignWarning("aliased", "b is determined."),
        DesignWarning("few_levels", "c."),
    ]
    aliased, few = design_warnings(warnings)
    assert (aliased.check, aliased.value, aliased.passed) == ("aliased", 2.0, False)
    assert aliased.message == "a is determined. b is determined."
    assert few.check == "few_levels"


def test_groups_that_are_all_zero_or_all_one_are_counted() -> None:
    from dataclasses import replace

    fit = gaussian_fit(rows())
    n = fit.design.cells.n
    cells = replace(fit.design.cells, family="binomial", total=np.array([0.0, n[1], 3.0, 4.0]), size=n.astype(float))
    design = replace(fit.design, cells=cells)
    [note] = separated_groups(replace(fit, family="binomial", design=design), nesting(design))
    assert note.value == 2
    assert note.passed
