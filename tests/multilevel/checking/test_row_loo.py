"""Leave-one-row-out from cells is what ArviZ gives on the rows."""

from dataclasses import replace

import arviz as az
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.cells.from_rows import cells_from_frame
from multilevel.cells.merge import merge_cells
from multilevel.cells.statistics import CellStatistics
from multilevel.checking.row_loo import row_loo
from multilevel.design.build import build_design
from multilevel.fit.container import Fit
from multilevel.fit.joint_draws import DrawsJoint
from multilevel.formula.parse import parse_formula
from multilevel.generalised.laplace_engine import fit_generalised


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    group, x = rng.integers(8, size=400), rng.integers(2, size=400)
    probability = 1 / (1 + np.exp(-(0.3 * x + rng.normal(size=8)[group])))
    return pd.DataFrame({"g": [f"g{i}" for i in group], "x": x, "y": rng.random(400) < probability})


def fitted(rows: pd.DataFrame, formula: str, family: str) -> Fit:
    parsed = parse_formula(formula)
    design = build_design(parsed, cells_from_frame(parsed, rows, family))
    return fit_generalised(design, family, interval=0.95, seed=1)


def test_rows_and_cells_agree(rows: pd.DataFrame) -> None:
    fit = fitted(rows, "y ~ 1 + x + (1 | g)", "binomial")
    [check] = row_loo(fit)
    draws = fit.joint.draws(1_000, 0)
    codes = pd.Categorical(rows["g"], fit.design.blocks[0].factor.levels).codes
    eta = draws[:, [0]] + draws[:, [1]] * rows["x"].to_numpy() + draws[:, 2:][:, codes]
    pointwise = -np.logaddexp(0.0, np.where(rows["y"].to_numpy(), -eta, eta))
    data = az.from_dict({"posterior": {"beta": draws[None, :, 0]}, "log_likelihood": {"y": pointwise[None]}})
    expected = az.loo(data, reff=1.0)
    assert check.value == pytest.approx(float(expected.elpd), rel=1e-9)
    assert check.message.startswith(f"standard error {float(expected.se):,.4g} over 400 rows")
    assert check.passed


def pointwise_of(family: str, rows: pd.DataFrame, eta: np.ndarray, phi: float) -> np.ndarray:
    """(S, N) log-likelihoods of single rows, by scipy."""
    y, mean = rows["y"].to_numpy(), np.exp(eta)
    if family == "poisson":
        return stats.poisson.logpmf(y, rows["exposure"].to_numpy() * mean)
    if family == "negative_binomial":
        # these counts vary no more than a Poisson count would: phi has no finite estimate
        assert phi > 1e9
        return stats.poisson.logpmf(y, mean)
    return stats.binom.logpmf(y, rows["trials"].to_numpy(), 1.0 / (1.0 + np.exp(-eta)))


COUNTS = {
    "poisson": "y ~ 1 + x + offset(log(exposure)) + (1 | g)",
    "negative_binomial": "y ~ 1 + x + (1 | g)",
    "binomial": "p(y, trials) ~ 1 + x + (1 | g)",
}


@pytest.fixture(scope="module")
def counts() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    group, x, trials = rng.integers(8, size=500), rng.integers(2, size=500), rng.integers(3, 6, size=500)
    mean = np.exp(0.2 + 0.3 * x + 0.4 * rng.normal(size=8)[group])
    rows = {"g": [f"g{i}" for i in group], "x": x, "trials": trials, "exposure": rng.choice([0.5, 1.0, 2.0], size=500)}
    return pd.DataFrame(rows).assign(y=np.minimum(rng.negative_binomial(4, 4 / (4 + mean)), 3))


@pytest.mark.parametrize("family", ["poisson", "binomial", pytest.param("negative_binomial", marks=pytest.mark.parity)])
def test_rows_and_cells_agree_on_counts(family: str, counts: pd.DataFrame) -> None:
    fit = fitted(counts, COUNTS[family], family)
    [check] = row_loo(fit)
    draws = fit.joint.draws(1_000, 0)
    codes = pd.Categorical(counts["g"], fit.design.blocks[0].factor.levels).codes
    eta = draws[:, [0]] + draws[:, [1]] * counts["x"].to_numpy() + draws[:, 2:][:, codes]
    pointwise = pointwise_of(family, counts, eta, float(fit.dispersion or 1.0))
    data = az.from_dict({"posterior": {"beta": draws[None, :, 0]}, "log_likelihood": {"y": pointwise[None]}})
    expected = az.loo(data, reff=1.0)
    assert check.value == pytest.approx(float(expected.elpd), rel=1e-8)
    assert check.message.startswith(f"standard error {float(expected.se):,.4g} over 500 rows; {float(expected.p):,.4g} effective")
    assert check.passed == (float(expected.pareto_k.max()) < 0.7)


@pytest.mark.parity
def test_a_posterior_of_the_dispersion_is_used_draw_by_draw(counts: pd.DataFrame) -> None:
    parsed = parse_formula("y ~ 1 + x + (1 | g)")
    design = build_design(parsed, cells_from_frame(parsed, counts, "negative_binomial"))
    fit = fit_bayesian(design, "negative_binomial", seed=1, sampling={"chains": 2, "draws": 300, "tune": 300})
    [check] = row_loo(fit)
    assert fit.dispersion_draws is not None
    kept = np.random.default_rng(0).integers(600, size=1_000)
    values, phi = fit.joint.values[kept], fit.dispersion_draws[kept]
    codes = pd.Categorical(counts["g"], design.blocks[0].factor.levels).codes
    eta = values[:, [0]] + values[:, [1]] * counts["x"].to_numpy() + values[:, 2:][:, codes]
    mean = np.exp(eta)
    pointwise = stats.nbinom.logpmf(counts["y"].to_numpy(), phi[:, None], phi[:, None] / (phi[:, None] + mean))
    data = az.from_dict({"posterior": {"beta": values[None, :, 0]}, "log_likelihood": {"y": pointwise[None]}})
    assert check.value == pytest.approx(float(az.loo(data, reff=1.0).elpd), rel=1e-8)


def test_labels_and_order_of_the_rows_do_not_matter(counts: pd.DataFrame) -> None:
    shuffled = counts.sample(frac=1.0, random_state=3).assign(g=lambda rows: "z" + rows["g"].str[1:])
    one, other = (row_loo(fitted(rows, COUNTS["poisson"], "poisson"))[0].value for rows in (counts, shuffled))
    # the likelihood's draws are the same but for rounding
    assert one == pytest.approx(other, rel=1e-6)


def test_a_better_model_scores_better(counts: pd.DataFrame) -> None:
    shifted = counts.assign(y=counts["y"] * (1 + 2 * counts["x"]))
    with_x, without = (row_loo(fitted(shifted, f"y ~ 1 {term} + (1 | g)", "poisson"))[0].value for term in ("+ x", ""))
    assert with_x is not None
    assert without is not None
    assert with_x > without


def test_continuous_outcomes_have_no_rows_to_leave_out(counts: pd.DataFrame) -> None:
    assert row_loo(fitted(counts.assign(y=counts["y"] + 0.5), "y ~ 1 + (1 | g)", "gamma")) == ()


def test_too_many_different_outcomes_are_said(counts: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multilevel.cells.from_rows.MOST_OUTCOMES", 10)
    [check] = row_loo(fitted(counts, "y ~ 1 + (1 | g)", "poisson"))
    assert (check.value, check.passed) == (None, True)
    assert "not calculated" in check.message


def test_merged_partitions_keep_their_rows(counts: pd.DataFrame) -> None:
    parsed = parse_formula(COUNTS["poisson"])
    whole = cells_from_frame(parsed, counts, "poisson")
    merged = merge_cells([cells_from_frame(parsed, part, "poisson") for part in (counts[:200], counts[200:])])
    assert merged.outcomes is not None
    assert whole.outcomes is not None

    def rows_of(cells: CellStatistics) -> pd.Series:
        assert cells.outcomes is not None
        group = cells.groups["g"].values[cells.groups["g"].codes[cells.outcomes.cell]]
        frame = pd.DataFrame(
            {"g": group, "x": cells.numbers["x"][cells.outcomes.cell], "y": cells.outcomes.value, "e": cells.outcomes.size}
        )
        return frame.assign(n=cells.outcomes.n).groupby(["g", "x", "y", "e"])["n"].sum()

    pd.testing.assert_series_equal(rows_of(merged), rows_of(whole))


def with_draws(fit: Fit) -> Fit:
    """A likelihood fit whose normal approximation is taken as a posterior."""
    draws = DrawsJoint(fit.joint.draws(1_000, 0))
    return replace(fit, joint=draws, covariance_draws=tuple(np.tile(part, (1_000, 1, 1)) for part in fit.covariances))


@pytest.mark.parametrize("sd", [1.0, 2.0, 3.0])
def test_a_score_that_the_normal_approximation_cannot_give_is_not_given(sd: float) -> None:
    """Groups of four rows, most without an event: their effects have a long tail to one side, which a normal has to the other side too."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(150), 4)
    frame = pd.DataFrame({"g": [f"g{i:03d}" for i in g], "y": rng.poisson(np.exp(-1.5 + rng.normal(0, sd, 150)[g]))})
    [check] = row_loo(fitted(frame, "y ~ 1 + (1 | g)", "poisson"))
    assert check.value is None
    assert check.passed
    assert "the normal approximation does not hold for" in check.message


def test_rows_that_vary_more_than_their_family_allows_are_said(counts: pd.DataFrame) -> None:
    wild = counts.assign(y=np.random.default_rng(1).negative_binomial(0.3, 0.02, len(counts)))
    [check] = row_loo(with_draws(fitted(wild, "y ~ 1 + (1 | g)", "poisson")))
    assert "single rows vary far more than its family allows" in check.message
    [calm] = row_loo(fitted(wild, "y ~ 1 + (1 | g)", "negative_binomial"))
    assert "far more" not in calm.message
