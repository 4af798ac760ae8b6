"""A two-part (hurdle) outcome: whether there is any, by one family, and how much where there is, by another (Cragg 1971; Mullahy 1986)."""

from __future__ import annotations

from dataclasses import dataclass

from multilevel.families.family import Family, Statistics, Support
from multilevel.families.notation import EQUALS, EXP_ETA, MU, PLUS, SIGMA, TIMES, P, Written, Y, applied, call, over_two, squared, text
from multilevel.families.registry import family_named


@dataclass(frozen=True)
class TwoPart:
    """Two families of the same rows, without a parameter in common.

    occurrence : of whether there is any. amount : of the rows above zero, under ``log_amount`` of their logarithms.
    expected : E y[i] of both parts together. instead : the study to write where all rows are above zero, with ``{y}``.
    """

    name: str
    occurrence: Family
    amount: Family
    log_amount: bool
    expected: Written
    instead: str

    @property
    def statistics(self) -> Statistics:
        """What cells keep of the amounts; the rows above zero are always counted."""
        return self.amount.statistics

    @property
    def support(self) -> Support:
        """Zero or more."""
        return Support("{y} < 0", f"family {self.name} needs an outcome of zero or more")


_EXPECTED = applied("E", Y) + EQUALS + P + TIMES

TWO_PART = {
    family.name: family
    for family in (
        TwoPart(
            "hurdle_lognormal",
            occurrence=family_named("binomial"),
            amount=family_named("gaussian"),
            log_amount=True,
            expected=_EXPECTED + call("exp", MU + PLUS + over_two(squared(SIGMA))) + text(", published with a σ of each level"),
            instead="log({y}) ~ ... with family: gaussian",
        ),
        TwoPart(
            "hurdle_gamma",
            occurrence=family_named("binomial"),
            amount=family_named("gamma"),
            log_amount=False,
            expected=_EXPECTED + EXP_ETA,
            instead="{y} ~ ... with family: gamma",
        ),
    )
}
