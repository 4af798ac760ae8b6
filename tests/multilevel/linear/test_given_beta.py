"""What is known of effects given the coefficients, from what is known of them without."""

from dataclasses import replace

import numpy as np
import pytest

from multilevel.bayesian import conditionals
from multilevel.bayesian.conditionals import given_beta
from multilevel.linear.assemble import linear_system
from multilevel.linear.joint_normal import NormalJoint


@pytest.mark.parametrize(("levels", "widths"), [((60, 9), (1, 2)), ((60, 9), (2, 1)), ((12,), (1,))])
@pytest.mark.parametrize("digits", [conditionals.FEW_DIGITS, 1.0])
def test_variances_given_beta_are_those_of_the_factorisation(levels, widths, digits, rows_of, lambdas_of, monkeypatch) -> None:
    monkeypatch.setattr(conditionals, "FEW_DIGITS", digits)
    rows = rows_of(levels, widths, n=300)
    rows = replace(rows, X=np.column_stack([np.ones(300), np.random.default_rng(1).standard_normal((300, 2)) + 20.0]))
    joint = NormalJoint(linear_system(rows).factorise(lambdas_of(widths)), 1.4)
    found = given_beta(joint, joint.factor.effect_blocks(joint.factor.rest_covariance))
    for own, other in zip(found, joint.factor.conditional_blocks(), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-8, atol=1e-12)
