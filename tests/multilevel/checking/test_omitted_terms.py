"""A term that the formula leaves out is seen, named and mended by the advice; a formula that has all there is passes."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.cells.from_rows import cells_from_frame
from multilevel.checking.model_comparison import fit_by_likelihood
from multilevel.checking.omitted_terms import omitted_terms
from multilevel.checking.score_test import Chance, NewEffects, scores_of
from multilevel.design.build import build_design
from multilevel.design.nesting import nesting
from multilevel.fit.container import Check, Fit
from multilevel.formula.parse import parse_formula
from tests.faulty_shops import KINDS, Fault, faulty_shop


def fit_of(formula: str, family: str, frame: pd.DataFrame) -> Fit:
    parsed = parse_formula(formula)
    return fit_by_likelihood(build_design(parsed, cells_from_frame(parsed, frame, family)), 0)


def checks_of(fit: Fit) -> dict[str, Check]:
    return {check.check: check for check in omitted_terms(fit, nesting(fit.design))}


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
@pytest.mark.parametrize(
    ("fault", "name", "term", "written"),
    [
        (Fault(interaction=0.5), "omitted_interaction[g, h]", "add (1 | g:h)", "y ~ 1 + x + (1 | g) + (1 | h) + (1 | g:h)"),
        (Fault(slope=0.5), "omitted_slope[x, g]", "write (1 + x | g)", "y ~ 1 + x + (1 + x | g) + (1 | h)"),
    ],
)
def test_the_term_that_is_left_out_is_named_and_nothing_fails_once_it_is_there(
    kind: str, fault: Fault, name: str, term: str, written: str
) -> None:
    frame = faulty_shop(kind, fault, 0)
    found = checks_of(fit_of(KINDS[kind].formula, KINDS[kind].family, frame))
    assert [check.check for check in found.values() if not check.passed] == [name]
    assert f"{term}. In detail: " in found[name].message
    assert "p < 1e-12" in found[name].message
    assert not found[name].gate
    [told] = re.findall(r"by ([\d.]+) \(sd", found[name].message)
    assert float(told) == pytest.approx(0.5 * (np.sqrt(2 / 3) if fault.slope else 1.0), rel=0.4)
    mended = checks_of(fit_of(written, KINDS[kind].family, frame))
    assert name not in mended
    assert all(check.passed for check in mended.values())


def test_a_well_specified_shop_varies_as_much_as_the_fit_leaves_room_for() -> None:
    found = [checks_of(fit_of(KINDS["gaussian"].formula, "gaussian", faulty_shop("gaussian", Fault(), seed))) for seed in range(12)]
    for name in ("omitted_interaction[g, h]", "omitted_slope[x, g]", "omitted_slope[x, h]"):
        values = np.array([own[name].value for own in found])
        assert all(own[name].passed for own in found)
        assert values.mean() == pytest.approx(1.0, abs=4 * values.std() / np.sqrt(len(values)) + 0.02)


def test_what_the_fit_leaves_of_residuals_is_their_exact_covariance() -> None:
    """Of a linear model with known variances: P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1, from the rows."""
    rng = np.random.default_rng(3)
    g, h = np.repeat(np.arange(6), 8), np.tile(np.arange(8), 6)
    frame = pd.DataFrame({"g": g.astype(str), "h": h.astype(str), "y": rng.normal(size=6)[g] + rng.normal(size=8)[h] + rng.normal(size=48)})
    frame = pd.concat([frame, frame.assign(y=frame.y + rng.normal(size=48))], ignore_index=True)
    fit = fit_of("y ~ 1 + (1 | g) + (1 | h)", "gaussian", frame)
    one = np.ones((len(frame), 1))
    z = [np.eye(6)[np.tile(g, 2)], np.eye(8)[np.tile(h, 2)]]
    assert fit.sigma is not None
    total = fit.sigma**2 * np.eye(len(frame)) + sum(own @ own.T * s[0, 0] for own, s in zip(z, fit.covariances, strict=True))
    inverse = np.linalg.inv(total)
    left = inverse - inverse @ one @ np.linalg.inv(one.T @ inverse @ one) @ one.T @ inverse
    combination = np.eye(48)[np.tile(np.arange(48), 2)]
    by_hand = combination.T @ left @ combination
    weight = np.diag(combination.T @ combination) / fit.sigma**2
    d = 1 / (1 + weight / np.median(weight))
    scores = scores_of(fit)
    assert scores is not None
    rows = len(scores.score)
    cells = fit.design.cells
    effects = NewEffects(np.arange(rows), (np.sqrt(cells.weight),), rows)
    excess = scores.excess(effects, np.arange(rows))
    assert excess is not None
    assert excess.chance.mean == pytest.approx(float(d @ np.diag(by_hand)), rel=1e-8)
    residual = combination.T @ (left @ frame.y.to_numpy())
    assert excess.statistic == pytest.approx(float(d @ residual**2), rel=1e-8)


def test_of_equal_eigenvalues_the_distribution_is_chi_squared() -> None:
    chance = Chance(3 * 5.0, 9 * 10.0, 27 * 40.0)
    assert chance.probability(3 * 20.0) == pytest.approx(chi2.sf(20.0, 5), rel=1e-10)
    assert chance.quantile(1e-6) == pytest.approx(3 * chi2.isf(1e-6, 5), rel=1e-10)


def test_nested_factors_have_no_interaction_and_a_predictor_of_groups_no_slope_there() -> None:
    rng = np.random.default_rng(1)
    g, member = np.repeat(np.arange(8), 40), np.repeat(np.arange(40), 8)
    frame = pd.DataFrame({"g": g.astype(str), "member": member.astype(str), "size": rng.normal(size=8)[g]})
    frame["y"] = rng.normal(size=8)[g] + rng.normal(size=40)[member] + rng.normal(size=320)
    assert checks_of(fit_of("y ~ 1 + size + (1 | g/member)", "gaussian", frame)) == {}


def test_a_predictor_far_from_zero_is_read_about_its_mean() -> None:
    near = faulty_shop("gaussian", Fault(slope=0.5), 2)
    far = near.assign(x=near.x + 2024.0)
    first, second = (checks_of(fit_of(KINDS["gaussian"].formula, "gaussian", frame)) for frame in (near, far))
    for name, check in first.items():
        assert check.value == pytest.approx(second[name].value, rel=1e-4)


def test_combinations_of_single_rows_tell_nothing_of_an_interaction() -> None:
    rng = np.random.default_rng(2)
    g, h = np.repeat(np.arange(10), 12), np.tile(np.arange(12), 10)
    frame = pd.DataFrame({"g": g.astype(str), "h": h.astype(str), "y": rng.normal(size=10)[g] + rng.normal(size=120)})
    [check] = checks_of(fit_of("y ~ 1 + (1 | g) + (1 | h)", "gaussian", frame)).values()
    assert check.value is None
    assert check.passed
    assert check.message.startswith("not calculated: the rows do not tell")


def test_a_category_is_one_predictor() -> None:
    rng = np.random.default_rng(4)
    g, c = rng.integers(0, 15, 4000), rng.integers(0, 4, 4000)
    frame = pd.DataFrame({"g": g.astype(str), "c": pd.Series(c).map("abcd".__getitem__)})
    frame["y"] = rng.normal(0, 0.5, (15, 4))[g, c] + rng.normal(size=4000)
    found = checks_of(fit_of("y ~ 1 + c + (1 | g)", "gaussian", frame))
    assert list(found) == ["omitted_slope[c, g]"]
    assert not found["omitted_slope[c, g]"].passed
    assert all(check.passed for check in checks_of(fit_of("y ~ 1 + c + (1 + c | g)", "gaussian", frame)).values())


def test_a_pair_is_looked_at_although_the_formula_has_its_combinations_with_a_third_factor() -> None:
    rng = np.random.default_rng(7)
    g, h, k = (np.repeat(code.ravel(), 15) for code in np.meshgrid(np.arange(8), np.arange(10), np.arange(6), indexing="ij"))
    common = rng.normal(0, 0.4, 8)[g] + rng.normal(0, 0.4, 10)[h] + rng.normal(0, 0.2, 6)[k] + rng.normal(0, 0.3, (8, 10, 6))[g, h, k]
    frame = pd.DataFrame({"g": g.astype(str), "h": h.astype(str), "k": k.astype(str), "y": rng.normal(common)})
    formula = "y ~ 1 + (1 | g) + (1 | h) + (1 | k) + (1 | g:h:k)"
    right = checks_of(fit_of(formula, "gaussian", frame))
    wrong = checks_of(fit_of(formula, "gaussian", frame.assign(y=frame.y + rng.normal(0, 0.3, (8, 10))[g, h])))
    assert set(right) == {"omitted_interaction[g, h]", "omitted_interaction[g, k]", "omitted_interaction[h, k]"}
    assert all(check.passed for check in right.values())
    assert [check.check for check in wrong.values() if not check.passed] == ["omitted_interaction[g, h]"]


def test_the_slope_is_added_to_what_the_factor_has() -> None:
    rng = np.random.default_rng(8)
    frame = faulty_shop("gaussian", Fault(slope=0.5), 3).assign(z=rng.normal(size=12_000))
    found = checks_of(fit_of("y ~ 1 + x + z + (1 + z | g) + (1 | h)", "gaussian", frame))
    assert "write (1 + z + x | g)" in found["omitted_slope[x, g]"].message


def test_a_posterior_of_counts_is_read_where_its_residuals_balance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Combinations that are constant within customers: the customers take nearly all of what there is to see, and means of a posterior
    are not where the likelihood balances."""
    monkeypatch.setattr("multilevel.bayesian.points_fit.MOST_FOR_BOUNDS", 0)
    rng = np.random.default_rng(5)
    customer = rng.integers(0, 120, 600)
    g, h = customer % 6, customer // 6 % 5
    eta = 0.5 + rng.normal(0, 0.6, 120)[customer] + rng.normal(0, 0.2, 6)[g] + rng.normal(0, 0.2, 5)[h]
    frame = pd.DataFrame({"y": rng.poisson(np.exp(eta))} | {name: own.astype(str) for name, own in {"g": g, "h": h, "c": customer}.items()})
    parsed = parse_formula("y ~ 1 + (1 | g) + (1 | h) + (1 | c)")
    design = build_design(parsed, cells_from_frame(parsed, frame, "poisson"))
    name = "omitted_interaction[g, h]"
    likelihood = checks_of(fit_by_likelihood(design, 0))[name]
    posterior = checks_of(fit_bayesian(design, "poisson", sampling={"form": "importance", "cores": 1}, seed=1))[name]
    assert likelihood.value is not None
    assert posterior.value == pytest.approx(likelihood.value, rel=0.2)
    assert posterior.passed


def test_effects_of_two_columns_share_what_their_levels_do() -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"g": rng.integers(0, 30, 900).astype(str), "x": rng.normal(size=900), "w": rng.normal(size=900)})
    frame["y"] = rng.normal(size=900) + rng.normal(size=30)[frame.g.astype(int)]
    scores = scores_of(fit_of("y ~ 1 + x + w + (1 | g)", "gaussian", frame))
    assert scores is not None
    codes, n = scores.fit.design.blocks[0].factor.codes[scores.rows.cell], scores.fit.design.blocks[0].factor.n_levels
    columns = tuple(np.ascontiguousarray(scores.rows.X[:, 1:].T))
    effects, marked = NewEffects(codes, columns, n), [np.arange(n) % 2 == 0, np.arange(n) % 3 == 0]
    dense = [np.zeros((len(codes), n)) for _ in columns]
    for own, column in zip(dense, columns, strict=True):
        own[np.arange(len(codes)), codes] = column
    K = np.hstack([own[:, mine] for own, mine in zip(dense, marked, strict=True)])
    found = np.hstack([effects.of(at, mine).toarray() for at, mine in enumerate(marked)])
    np.testing.assert_array_equal(found, K)
    np.testing.assert_allclose(scores._shared(effects, marked), K.T @ (scores.weight[:, None] * K), atol=1e-12)
