"""Nested factors are eliminated one after the other under Laplace's approximation, with the numbers of the dense factor."""

from __future__ import annotations

import numpy as np
import pytest

from multilevel.design.model import Design
from multilevel.design.reduction import outcome_of, reduce_design
from multilevel.families.registry import family_named
from multilevel.generalised.joint_laplace import laplace_joint
from multilevel.generalised.laplace import LaplaceFit, fit_laplace
from multilevel.generalised.objective import Objective
from multilevel.generalised.reweighting import reweighting
from multilevel.linear import assemble
from multilevel.linear.theta import Theta
from tests.multilevel.generalised.nested_sales import NEVER, THREE_DEEP, design_of

SHAPES = {
    "two deep": ("y ~ x + (1 | area/town) + (1 + x | category)", 1),
    "three deep, slopes inside": (THREE_DEEP, 2),
    "two terms of one factor": ("y ~ x + (1 | area/town) + (0 + x | area:town) + (1 | category)", 1),
    "pairs in both trees": ("y ~ x + (1 | area/town) + (1 | area:town:category) + (1 + x | category)", 2),
}


def objective_of(design: Design, family: str, worth: int) -> Objective:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "WORTH_ELIMINATING", worth)
        rows = reduce_design(design)
        layout = reweighting(rows)
    likelihood = family_named(family).likelihood(outcome_of(design.cells, rows, family))
    return Objective(layout, likelihood, Theta(tuple(len(block.columns) for block in design.blocks)), layout.zero())


@pytest.mark.parametrize("family", ["binomial", "poisson", "negative_binomial", "gamma"])
@pytest.mark.parametrize("shape", SHAPES)
def test_modes_deviance_and_gradient_are_those_of_the_dense_factor(family: str, shape: str) -> None:
    text, depth = SHAPES[shape]
    design = design_of(text, family)
    apart, dense = objective_of(design, family, 1), objective_of(design, family, NEVER)
    assert len(apart.layout.template.chain) == depth
    assert not dense.layout.template.chain
    theta = 0.4 + 0.2 * np.random.default_rng(2).standard_normal(apart.theta_layout.n)
    beside = 0.1 + apart.mode(theta, 0.3, None).effects.basis

    for basis in (None, beside):
        one, two = apart.mode(theta, 0.3, basis), dense.mode(theta, 0.3, basis)
        assert apart.value(one) == pytest.approx(dense.value(two), rel=1e-10)
        np.testing.assert_allclose(one.eta, two.eta, atol=1e-7)
        for own, other in zip(apart.layout.by_block(one.spherical), dense.layout.by_block(two.spherical), strict=True):
            np.testing.assert_allclose(own, other, atol=1e-7)
        np.testing.assert_allclose(apart.layout.leverages(one.factor), dense.layout.leverages(two.factor), rtol=1e-8)
        slopes = [objective.gradient(mode, 0.3, profiled=basis is None) for objective, mode in ((apart, one), (dense, two))]
        for name in ("theta", "basis", "log_dispersion"):
            np.testing.assert_allclose(getattr(slopes[0], name), getattr(slopes[1], name), rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("shape", ["two deep", "pairs in both trees"])
def test_a_variance_of_zero_is_that_of_the_dense_factor(shape: str) -> None:
    design = design_of(SHAPES[shape][0], "binomial")
    apart, dense = objective_of(design, "binomial", 1), objective_of(design, "binomial", NEVER)
    for zero in range(apart.theta_layout.n):
        theta = np.full(apart.theta_layout.n, 0.4)
        theta[zero] = 0.0
        one, two = apart.mode(theta, 0.0, None), dense.mode(theta, 0.0, None)
        assert apart.value(one) == pytest.approx(dense.value(two), rel=1e-10)
        slopes = [objective.gradient(mode, 0.0, profiled=True).theta for objective, mode in ((apart, one), (dense, two))]
        np.testing.assert_allclose(*slopes, rtol=1e-7, atol=1e-6)


def test_a_fit_with_its_joint_distribution_is_that_of_the_dense_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    design = design_of("y ~ x + (1 | area/town/store) + (1 | category)", "poisson")

    def fitted(worth: int) -> LaplaceFit:
        monkeypatch.setattr(assemble, "WORTH_ELIMINATING", worth)
        return fit_laplace(design, reduce_design(design), "poisson")

    apart, dense = fitted(1), fitted(NEVER)
    assert (len(apart.factor.chain), len(dense.factor.chain)) == (2, 0)
    assert apart.log_likelihood == pytest.approx(dense.log_likelihood, abs=1e-7)
    np.testing.assert_allclose(apart.beta, dense.beta, atol=1e-6)
    np.testing.assert_allclose(apart.effects, dense.effects, atol=1e-5)
    for own, other in zip(apart.covariances, dense.covariances, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-5)
    for own, other in zip(apart.factor.conditional_variance(), dense.factor.conditional_variance(), strict=True):
        np.testing.assert_allclose(own, other, atol=1e-5)
    np.testing.assert_allclose(
        *(laplace_joint(fit).covariance_root().T @ laplace_joint(fit).covariance_root() for fit in (apart, dense)), atol=1e-5
    )
