"""Checks of the columns that a study names under ``sampled``: left out of the formula, or without a factor."""

from __future__ import annotations

from collections.abc import Sequence

from multilevel.design.nesting import Nesting
from multilevel.estimands.population import own_factor
from multilevel.fit.container import Check, fact


def sampled_checks(tree: Nesting, sampled: Sequence[str], measured: Sequence[str] = ()) -> list[Check]:
    """A failed check for every sampled column that the formula lacks, and whose design effects are not ``measured``.

    A fact, which cannot fail, for a sampled column that has no factor with one level for each of its values.
    """
    used = {column for factor in tree.factors.values() for column in factor.columns}
    found = [
        Check(f"sampled[{column}]", None, None, False, _left_out(column, tree)) for column in sampled if column not in {*used, *measured}
    ]
    found += [
        fact(f"sampled[{column}]", None, _without_factor(column))
        for column in sampled
        if column in used and own_factor(tree, column) is None
    ]
    return found


def _without_factor(column: str) -> str:
    return (
        f"no grouping factor has one level for each {column}: the formula has it in interactions only, or its labels repeat in other "
        f"groups. It has no population estimates. Make its labels unique, or add (1 | {column})"
    )


def _left_out(column: str, tree: Nesting) -> str:
    top = next(iter(tree.factors), "group")
    return (
        f"line items of one {column} may be alike, but the formula leaves {column} out, so intervals can be several times too narrow. Add "
        f"(1 | {top.split(':')[-1]}/{column}) if every {column} belongs to one {top}, else (1 | {column})"
    )
