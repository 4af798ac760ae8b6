"""Rows that are mostly the same have the variances that their entries give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from multilevel.design.reduction import ReducedBlock, ReducedRows
from multilevel.fit.shared_rows import SharedRows
from multilevel.linear.assemble import linear_system
from multilevel.linear.joint_normal import NormalJoint
from multilevel.linear.shared_solves import is_worth_sharing, shared_covariance, shared_variance

MEMBERS, CATEGORIES = 120, 9
N_COEFFICIENTS = 1 + MEMBERS + CATEGORIES


@pytest.fixture
def joint() -> NormalJoint:
    rng = np.random.default_rng(5)
    n, one = 900, np.ones(900)
    member, category = rng.integers(0, MEMBERS, n).astype(np.int32), rng.integers(0, CATEGORIES, n).astype(np.int32)
    blocks = (ReducedBlock(member, one[:, None], MEMBERS), ReducedBlock(category, one[:, None], CATEGORIES))
    rows = ReducedRows(one[:, None], blocks, rng.normal(size=n), one, np.zeros(n), one, np.arange(n, dtype=np.int32), n, 0.0)
    return NormalJoint(linear_system(rows).factorise([np.array([[0.7]]), np.array([[0.4]])]), 1.3)


def of_categories() -> SharedRows:
    """One row per category: the intercept, the category's own effect, and a mix of all members."""
    rng = np.random.default_rng(6)
    own = np.zeros((CATEGORIES, N_COEFFICIENTS))
    own[:, 0] = 1.0
    own[:, 1 + MEMBERS :] = np.eye(CATEGORIES)
    shared = csr_array(random_array((3, N_COEFFICIENTS), density=0.6, rng=rng))
    return SharedRows(csr_array(own), csr_array(rng.dirichlet(np.ones(3), CATEGORIES)), shared)


def test_variances_are_those_of_all_entries(joint: NormalJoint) -> None:
    rows = of_categories()
    np.testing.assert_allclose(shared_variance(joint, rows), joint.variance(rows.csr()), rtol=1e-10)


@pytest.mark.parametrize("knows_theta", [True, False])
def test_covariances_about_a_centre_are_those_of_all_entries(joint: NormalJoint, knows_theta: bool) -> None:
    rows, joint = of_categories(), joint if knows_theta else replace(joint, extra=np.array([[0.2]]))
    centre = csr_array(rows.csr().sum(axis=0).reshape(1, -1) / CATEGORIES)
    expected = joint.covariance_about(rows.csr(), centre)
    np.testing.assert_allclose(shared_covariance(joint, rows.less(centre)), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(joint.spread_about(rows, centre) ** 2, np.diag(expected), rtol=1e-9)


def test_few_long_rows_are_worth_a_few_solves() -> None:
    long = SharedRows(csr_array((200, 1_000)), csr_array(np.ones((200, 4))), csr_array(np.ones((4, 1_000))))
    short = SharedRows(csr_array((200, 1_000)), csr_array(np.ones((200, 4))), csr_array(np.eye(4, 1_000)))
    assert is_worth_sharing(long, 300, 1_000)
    assert not is_worth_sharing(short, 300, 1_000)
