"""Population coefficients of a fit, with the limits that the fit has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array, eye_array, hstack
from scipy.special import ndtri, stdtrit

from multilevel.arrays import Floats
from multilevel.design.model import DesignColumn
from multilevel.fit.container import Fit, Summary
from multilevel.fit.interval_estimates import combined


@dataclass(frozen=True)
class Coefficients:
    """Coefficients of one kind of pooling: columns, their summary and, where there are any, degrees of freedom and draw statistics."""

    pooling: str
    columns: Sequence[DesignColumn]
    summary: Summary
    degrees_of_freedom: Floats | None = None
    ess_bulk: Floats | None = None
    ess_tail: Floats | None = None
    r_hat: Floats | None = None


def coefficients_of(fit: Fit, pooling: str) -> Coefficients:
    """The population coefficients of a fit; those without a finite estimate or standard error come out as nulls."""
    p = len(fit.design.population)
    picks = csr_array(hstack([eye_array(p), csr_array((p, fit.design.n_effects))], format="csr"))
    summary = combined(fit, picks)
    if not fit.is_posterior:
        summary = replace(summary, std_error=fit.joint.combine(picks, fit.interval).std_error)
    summary = with_limits(summary, fit)
    return Coefficients(pooling, fit.design.population, summary, fit.degrees_of_freedom, fit.ess_bulk, fit.ess_tail, fit.r_hat)


def with_limits(summary: Summary, fit: Fit) -> Summary:
    """Profile or bootstrap limits where the fit has them; else Student's t where there are degrees of freedom (Satterthwaite 1946)."""
    if fit.coefficient_limits is not None:
        return replace(summary, lower=fit.coefficient_limits[:, 0], upper=fit.coefficient_limits[:, 1])
    if fit.degrees_of_freedom is None:
        return summary
    probability = 0.5 + fit.interval / 2.0
    finite = np.isfinite(fit.degrees_of_freedom)
    quantile = np.where(finite, stdtrit(np.where(finite, fit.degrees_of_freedom, 1.0), probability), ndtri(probability))
    half = quantile * summary.std_error
    return replace(summary, lower=summary.estimate - half, upper=summary.estimate + half)
