"""The arrow form of a normal joint distribution: each eliminated effect as a regression on what was eliminated after it."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse import csr_array, vstack

from multilevel.fit.arrow_form import ArrowForm, Step, scalar_steps
from multilevel.linear.arrow_matrices import narrowed
from multilevel.linear.joint_normal import NormalJoint


def arrow_form(joint: NormalJoint) -> ArrowForm:
    """The covariance of (beta, b) in the coordinates of the fit.

    The core is the effects of the factors that are not eliminated, then beta. What a GLMM's beta has beyond the factor's own covariance is
    in the core alone: the conditional means of the other effects follow it.
    """
    system, sigma = joint.factor.system, joint.sigma
    p, q = system.n_population, system.rest_starts[-1]
    total = p + system.n_effects
    core = np.concatenate([*(joint.places([index]) for index in system.rest), np.arange(p)])
    # gamma = T beta
    back = np.eye(q + p)
    back[q:, q:] = solve_triangular(system.triangle, np.eye(p)) if p else np.zeros((0, 0))
    covariance = sigma**2 * back @ joint.factor.rest_covariance @ back.T
    if joint.extra is not None:
        moved = joint.sensitivity[core]
        covariance += moved @ joint.extra @ moved.T
    picked = csr_array((np.ones(q), (np.arange(q), core[:q])), shape=(q, total))
    on_beta = csr_array(np.hstack([system.triangle, np.zeros((p, total - p))]))
    onto = narrowed(csr_array(vstack([picked, on_beta])))
    kernels = [joint.factor.kernels, *(one.kernels for one in joint.factor.chain)]
    steps: list[Step] = []
    for at, (one, own) in enumerate(zip(joint.eliminated, kernels, strict=False)):
        given = one.times_rest(onto)
        for link, above in zip(one.links, joint.eliminated[at + 1 :], strict=True):
            given = given + link @ above.places
        steps += scalar_steps(one.places.indices.astype(np.int64), csr_array(narrowed(-one.kernels) @ given), sigma**2 * own)
    return ArrowForm(total, tuple(steps), core, (covariance + covariance.T) / 2.0)
