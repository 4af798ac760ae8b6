"""The joint distribution of (beta, b) of a Laplace fit.

b given beta is normal about its conditional modes with the inverse of the penalised Hessian; beta has the covariance of the Hessian of the
Laplace deviance over (theta, beta, log dispersion), lme4's and glmmTMB's; the modes follow beta. So Var(b) = Var(b | beta) + S V S', with
S = db/dbeta at fixed theta. What theta's uncertainty adds to b beyond beta's is left out, as in the linear engine: ``Fit.theta`` has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.generalised.laplace import LaplaceFit
from multilevel.linear.joint_normal import NormalJoint


@dataclass(frozen=True)
class LaplaceJoint(NormalJoint):
    """``NormalJoint`` whose ``extra`` is what the Hessian's covariance of beta (p, p), ``beta_covariance``, has over the factor's own."""

    beta_covariance: Floats | None = None

    def draws(self, size: int, seed: int) -> Floats:
        """(size, p + q) draws: beta of its own covariance, then b given beta."""
        assert self.beta_covariance is not None and self.location is not None
        rng = np.random.default_rng(seed)
        values = self.factor.draw(size, 1.0, rng) - np.concatenate([self.factor.beta, self.factor.effects])
        p = len(self.beta_covariance)
        beta = rng.multivariate_normal(np.zeros(p), self.beta_covariance, size, method="eigh") if p else np.zeros((size, 0))
        # the factor's own draw of beta is taken out together with what it moved in b
        return self.location + values + (beta - values[:, :p]) @ self.sensitivity.T


def laplace_joint(fit: LaplaceFit) -> LaplaceJoint:
    """The joint distribution of a fit."""
    location = np.concatenate([fit.beta, fit.effects])
    own = _own_covariance(fit)
    return LaplaceJoint(fit.factor, 1.0, fit.beta_covariance - own, location, fit.beta_covariance)


def _own_covariance(fit: LaplaceFit) -> Floats:
    """(p, p) covariance of beta given theta, from the factor."""
    from multilevel.linear.uncertainty import coefficient_covariance

    return coefficient_covariance(fit.factor, 1.0)
