"""Levels never seen: one per parent without a name, and those a study names in ``predict_for``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.design.model import Factor
from multilevel.design.nesting import Nesting
from multilevel.errors import StudyError
from multilevel.fit.container import Fit, Summary
from multilevel.fit.interval_estimates import moments, summary_of
from multilevel.fit.joint_draws import summary_about


@dataclass(frozen=True)
class NewLevel:
    """A level to estimate although it was never seen: of which factor, its name, and under which parent (None where not nested)."""

    grouping_factor: str
    level: str
    parent_level: str | None = None


@dataclass(frozen=True)
class NewLevels:
    """M rows for levels never seen of one factor.

    level, parent : (M,) labels or None. sibling : (M,) a seen level with the same parent. ancestors : ancestor -> (M,) its level, for
    the ancestors that the parent settles.
    """

    level: NDArray[np.object_]
    parent: NDArray[np.object_]
    sibling: Integers
    ancestors: Mapping[str, Integers]

    def __len__(self) -> int:
        return len(self.level)


def new_levels(nesting: Nesting, name: str, named: Sequence[NewLevel]) -> NewLevels:
    """One unnamed level per parent (one in all where the factor is not nested), then the named ones that were never seen."""
    factor = nesting.factors[name]
    parents, sibling, group = _parents(factor)
    wanted = [level for level in named if level.grouping_factor == name and not _is_seen(factor, level)]
    places = np.array([_place(parents, level) for level in wanted], dtype=np.int64)
    row = np.concatenate([np.arange(len(parents)), places])
    settled = {
        other: levels[sibling][row] for other, levels in nesting.ancestors[name].items() if np.array_equal(levels, levels[sibling][group])
    }
    labels = np.array([*[None] * len(parents), *[level.level for level in wanted]], dtype=object)
    return NewLevels(labels, parents[row], sibling[row], settled)


def check_named(nesting: Nesting, named: Sequence[NewLevel]) -> None:
    """Refuse a ``predict_for`` that names a factor the model does not have, or a level twice."""
    repeated = next((level for level in named if named.count(level) > 1), None)
    if repeated is not None:
        raise StudyError(f"predict_for names the level {repeated.level!r} of {repeated.grouping_factor} twice; write it once.")
    for level in named:
        if level.grouping_factor not in nesting.factors:
            known = ", ".join(nesting.factors) or "none"
            raise StudyError(f"predict_for names the grouping factor {level.grouping_factor!r}; the formula's are: {known}.")


def new_effect(fit: Fit, block: int, column: int, rows: csr_array, *, seed: int) -> Summary:
    """(M,) of ``rows @ (beta, b)`` + a new b ~ N(0, Sigma): of the mixture over Sigma, aligned with the draws where the engine keeps any;
    the standard errors of the likelihood engine are given its estimate of Sigma."""
    variance = fit.covariances[block][column, column]
    if fit.covariance_draws is None:
        known = moments(fit, rows)
        found = known.wider(_variances(fit, block, column), fit.theta_weights)
        summary = summary_of(np.asarray(rows @ fit.joint.mean), found, fit.interval)
        plain = known.total if fit.is_posterior else fit.joint.combine(rows, fit.interval).std_error ** 2
        return replace(summary, std_error=np.sqrt(plain + variance))
    spread = np.sqrt(fit.covariance_draws[block][:, column, column])
    new = spread * np.random.default_rng(seed).standard_normal(len(spread))
    values = np.asarray(rows @ fit.joint.draws(len(spread), seed).T) + (new - new.mean())
    return summary_about(np.asarray(rows @ fit.joint.mean), values, fit.interval)


def _variances(fit: Fit, block: int, column: int) -> Floats:
    """(1, T) of a new effect at each point of theta."""
    term = np.zeros((1, len(fit.covariances[block])))
    term[0, column] = 1.0
    return fit.effect_variances(block, term)


def _parents(factor: Factor) -> tuple[NDArray[np.object_], Integers, Integers]:
    """Distinct parents, a level of each, and the parent's place for every level."""
    if factor.parents is None:
        return np.array([None], dtype=object), np.zeros(1, np.int64), np.zeros(factor.n_levels, np.int64)
    labels, first, group = np.unique(factor.parents.astype(str), return_index=True, return_inverse=True)
    return labels.astype(object), first.astype(np.int64), group.astype(np.int64)


def _is_seen(factor: Factor, level: NewLevel) -> bool:
    same = factor.levels == level.level
    if factor.parents is not None:
        same &= factor.parents == level.parent_level
    return bool(np.any(same))


def _place(parents: NDArray[np.object_], level: NewLevel) -> int:
    match = np.flatnonzero(parents == level.parent_level)
    if len(match) == 0:
        shown = ", ".join(str(parent) for parent in parents[:5])
        raise StudyError(
            f"predict_for: level {level.level!r} of {level.grouping_factor} needs a parent_level that was seen; "
            f"{level.parent_level!r} was not (seen: {shown}{', ...' if len(parents) > 5 else ''})."
        )
    return int(match[0])
