"""Posterior draws as a joint distribution."""

import numpy as np
import pytest
from scipy.sparse import csr_array

import multilevel.fit.joint_draws as module
from multilevel.errors import FitError
from multilevel.fit.joint_draws import DrawsJoint


@pytest.fixture
def joint() -> DrawsJoint:
    values = np.random.default_rng(3).normal([1.0, -2.0, 0.5], [0.1, 0.5, 1.0], size=(4000, 3))
    return DrawsJoint(values, n_chains=4)


def test_linear_combinations_are_summaries_of_the_combined_draws(joint: DrawsJoint) -> None:
    rows = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]])
    summary = joint.combine(csr_array(rows), 0.9)
    combined = joint.values @ rows.T
    np.testing.assert_allclose(summary.estimate, combined.mean(axis=0))
    np.testing.assert_allclose(summary.std_error, combined.std(axis=0, ddof=1))
    np.testing.assert_allclose(summary.lower, np.quantile(combined, 0.05, axis=0))
    np.testing.assert_allclose(summary.upper, np.quantile(combined, 0.95, axis=0))


def test_working_in_chunks_changes_nothing(joint: DrawsJoint, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = csr_array(np.random.default_rng(0).normal(size=(7, 3)))
    weights = csr_array(np.full((2, 7), 1 / 7))
    whole = joint.combine(rows, 0.95), joint.respond(rows, weights, np.exp, np.exp, 0.95)
    monkeypatch.setattr(module, "CHUNK_VALUES", 5000)
    pieces = joint.combine(rows, 0.95), joint.respond(rows, weights, np.exp, np.exp, 0.95)
    for a, b in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(a.estimate, b.estimate)
        np.testing.assert_allclose(a.upper, b.upper)


def test_a_response_is_averaged_draw_by_draw_and_not_at_the_mean(joint: DrawsJoint) -> None:
    rows = csr_array(np.array([[0.0, 0.0, 1.0]]))
    summary = joint.respond(rows, csr_array(np.array([[1.0]])), np.exp, np.exp, 0.95)
    np.testing.assert_allclose(summary.estimate, np.exp(joint.values[:, 2]).mean())
    assert summary.estimate[0] > 1.3 * np.exp(joint.mean[2])


def test_a_costly_response_is_thinned_to_evenly_spaced_draws(joint: DrawsJoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESPONSE_VALUES", 10)
    summary = joint.respond(csr_array(np.eye(3)), csr_array(np.eye(3)), np.exp, np.exp, 0.95)
    np.testing.assert_allclose(summary.estimate, np.exp(joint.values[4::8]).mean(axis=0))


def test_draws_come_in_stored_order_up_to_their_number_and_are_redrawn_beyond(joint: DrawsJoint) -> None:
    assert joint.draws(4000, seed=1) is not None
    np.testing.assert_array_equal(joint.draws(4000, seed=1), joint.values)
    np.testing.assert_array_equal(joint.draws(100, seed=1), joint.values[joint.kept(100)])
    assert joint.draws(9000, seed=1).shape == (9000, 3)
    assert joint.chains().shape == (4, 1000, 3)


def test_chains_of_unequal_length_are_refused() -> None:
    with pytest.raises(FitError, match="equally long"):
        DrawsJoint(np.zeros((10, 2)), n_chains=4)
