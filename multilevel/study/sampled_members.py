"""What is to be said of columns whose levels are a sample: one that the model leaves out, estimates of new members that cannot be made."""

from __future__ import annotations

from collections.abc import Sequence

from multilevel.design.nesting import Nesting
from multilevel.estimands.expected_outcome import ExpectedOutcome
from multilevel.estimands.population import has_population, units_of
from multilevel.fit.container import Check, fact


def sampled_checks(outcome: ExpectedOutcome, tree: Nesting, sampled: Sequence[str]) -> list[Check]:
    """A failed check for every sampled column that the formula lacks; a fact where a posterior's new members cannot be integrated."""
    used = {column for factor in tree.factors.values() for column in factor.columns}
    found = [Check(f"sampled[{column}]", None, None, False, _left_out(column, tree)) for column in sampled if column not in used]
    above = [name for name in tree.factors if units_of(tree, name, sampled) is not None]
    if above and not has_population(outcome):
        message = (
            f"{', '.join(above)}: what is expected of a new member needs every posterior draw's own variance under this link, which is not "
            "integrated yet: the population columns are null and the headline is the members'. engine: likelihood has them"
        )
        found.append(fact("population_estimates", None, message))
    return found


def _left_out(column: str, tree: Nesting) -> str:
    top = next(iter(tree.factors), "group")
    return (
        f"line items of one {column} may be alike, and the formula has no {column}: intervals can then be several times too narrow. Add "
        f"(1 | {top.split(':')[-1]}/{column}) where a {column} belongs to one {top}, else (1 | {column})"
    )
