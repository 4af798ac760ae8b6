"""Rows of ``group_estimates``: levels that were seen, and levels that never were."""

from __future__ import annotations

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.catalogue.table_assembly import Values
from multilevel.design.model import Factor
from multilevel.estimands.level_comparison import LevelComparison
from multilevel.estimands.new_levels import NewLevels
from multilevel.fit.container import Summary

IN_PARENT = ("rank_in_parent", "rank_in_parent_lower", "rank_in_parent_upper")


def seen_rows(
    name: str,
    factor: Factor,
    n: Integers,
    summary: Summary,
    *,
    observed: tuple[Floats, Floats] | None,
    unpooled: tuple[Floats, Floats] | None,
    complete: Floats,
    compared: LevelComparison,
) -> dict[str, Values]:
    """A row a level; ``observed``: plain means with their standard errors, None where nobody counted; ``unpooled``: no pooling with its
    standard errors, None where it was not fitted; ``compared``: the headline beside that of the other levels."""
    in_parent = (None, None, None) if compared.in_parent is None else compared.in_parent
    return {
        **_labels(name, factor.levels, factor.parents),
        **_columns(summary),
        "no_pooling_estimate": None if unpooled is None else unpooled[0],
        "no_pooling_std_error": None if unpooled is None else unpooled[1],
        "complete_pooling_estimate": complete,
        "n": n,
        "rank_lower": compared.ranks[0],
        "rank_upper": compared.ranks[1],
        "probability_above_average": compared.above,
        **dict(zip(IN_PARENT, in_parent, strict=True)),
        "is_new": np.zeros(factor.n_levels, dtype=bool),
        "observed_mean": None if observed is None else observed[0],
        "observed_std_error": None if observed is None else observed[1],
    }


def new_rows(name: str, factor: Factor, n: Integers, new: NewLevels, summary: Summary, complete: Floats) -> dict[str, Values]:
    """A row a level never seen; complete pooling expects of it what it does of its parent's levels, ``complete`` (L,), by line items."""
    group = np.zeros(factor.n_levels, np.int64) if factor.parents is None else np.unique(factor.parents.astype(str), return_inverse=True)[1]
    expected = np.bincount(group, n * complete) / np.bincount(group, n)
    return {
        **_labels(name, new.level, new.parent),
        **_columns(summary),
        "no_pooling_estimate": None,
        "no_pooling_std_error": None,
        "complete_pooling_estimate": expected[group[new.sibling]],
        "n": np.zeros(len(new), dtype=np.int64),
        "rank_lower": None,
        "rank_upper": None,
        "probability_above_average": None,
        **dict.fromkeys(IN_PARENT),
        "is_new": np.ones(len(new), dtype=bool),
        "observed_mean": None,
        "observed_std_error": None,
    }


def _labels(name: str, levels: Values, parents: Values) -> dict[str, Values]:
    assert levels is not None
    return {
        "grouping_factor": np.full(len(levels), name, dtype=object),
        "level": levels,
        "parent_level": parents if parents is not None else np.full(len(levels), None, dtype=object),
    }


def _columns(summary: Summary) -> dict[str, Values]:
    return {"estimate": summary.estimate, "std_error": summary.std_error, "lower": summary.lower, "upper": summary.upper}
