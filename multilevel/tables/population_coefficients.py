"""``population_coefficients``: the coefficients common to all groups, under complete, no and partial pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array, eye_array, hstack
from scipy.special import ndtri, stdtrit

from multilevel.arrays import Floats
from multilevel.design.model import Design, DesignColumn
from multilevel.fit import Fit, Summary
from multilevel.tables.assemble import Heading, Values, published_table, stack
from multilevel.tables.group_predictors import GROUP_KINDS


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
    summary = with_limits(fit.joint.combine(picks, fit.interval), fit)
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


def population_coefficients(heading: Heading, kinds: Sequence[Coefficients], without: Fit | None = None) -> pa.Table:
    """The whole table; ``without`` is the fit without group-level predictors, None where the model has none."""
    return published_table("population_coefficients", heading, stack([_rows(kind, without) for kind in kinds]) | {"part": None})


def has_group_predictors(design: Design) -> bool:
    """Whether any population column is a group-level predictor, a group mean, or a cross-level term."""
    return any(column.kind in GROUP_KINDS for column in design.population)


def without_group_predictors(design: Design) -> Design:
    """The same design less its group-level predictors and their cross-level terms."""
    return replace(design, population=tuple(column for column in design.population if column.kind not in GROUP_KINDS))


def _rows(kind: Coefficients, without: Fit | None) -> dict[str, Values]:
    labels = [column.label for column in kind.columns]
    bare = {}
    if kind.pooling == "partial" and without is not None:
        bare = dict(zip([column.label for column in without.design.population], without.joint.mean, strict=False))
    usable = np.isfinite(kind.summary.estimate) & np.isfinite(kind.summary.std_error)
    return {
        "pooling": np.full(len(labels), kind.pooling, dtype=object),
        "term": np.array(labels, dtype=object),
        "kind": np.array([column.kind for column in kind.columns], dtype=object),
        "grouping_factor": np.array([column.constant_within for column in kind.columns], dtype=object),
        **{name: np.where(usable, getattr(kind.summary, name), np.nan) for name in ("estimate", "std_error", "lower", "upper")},
        "degrees_of_freedom": _finite(kind.degrees_of_freedom),
        "estimate_without_group_predictors": np.array([bare.get(label, np.nan) for label in labels]),
        "ess_bulk": _finite(kind.ess_bulk),
        "ess_tail": _finite(kind.ess_tail),
        "r_hat": _finite(kind.r_hat),
    }


def _finite(values: Floats | None) -> Floats | None:
    """Infinite degrees of freedom belong to a normal interval: not applicable."""
    return None if values is None else np.where(np.isfinite(values), values, np.nan)
