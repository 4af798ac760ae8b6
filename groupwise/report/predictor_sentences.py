"""What the predictors change, in units that people count in: dollars, items, per cent, percentage points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from groupwise.report.compared import Compared, compared, facts
from groupwise.report.effects import effect, effect_words
from groupwise.report.part_labels import INTERCEPTS, of_part
from groupwise.report.subject import POINTS, Subject, overall_average

MOST = 5
"""Predictors that the answer tells of; the others are in the table."""


@dataclass(frozen=True)
class _Told:
    """An effect to tell: whether it differs between groups, how clear it is (estimate over its error), and its sentence."""

    varies: bool
    clearness: float
    words: str


def predictor_sentences(subject: Subject) -> list[str]:
    """The clearest effects, those that differ between groups first; empty without predictors."""
    differences, coded = facts(subject, "average_differences"), facts(subject, "coded_terms")
    rows = _coefficients(subject)
    if not rows:
        return []
    varying = set(subject.tables["group_coefficients"].column("term").unique().to_pylist())
    told: dict[str, _Told | None] = {}
    for row in rows:
        plain = _plain(subject, row)
        if plain in told and plain in differences:
            continue
        what = compared(subject, plain, coded.get(plain))
        key = plain if plain in differences else row["term"]
        told[key] = None if what is None else _told(subject, row, what, differences.get(plain), varies=row["term"] in varying)
    ordered = sorted((each for each in told.values() if each), key=lambda each: (each.varies, each.clearness), reverse=True)[:MOST]
    return [each.words for each in ordered] + _rest(len(told) - len(ordered), len(ordered))


def _rest(n: int, shown: int) -> list[str]:
    """Where the effects are that the answer does not tell of."""
    if n == 0:
        return []
    other = " other" if shown else ""
    return [f"{f'One{other} effect is' if n == 1 else f'{n:,}{other} effects are'} under “Complete, no and partial pooling”."]


def _coefficients(subject: Subject) -> list[dict[str, Any]]:
    return [
        row
        for row in subject.tables["population_coefficients"].to_pylist()
        if row["pooling"] == "partial" and row["term"] not in INTERCEPTS and row["std_error"] and row["lower"] is not None
    ]


def _plain(subject: Subject, row: Mapping[str, Any]) -> str:
    """The term without the part that the page adds to it."""
    return str(row["term"]).removesuffix(f" ({row['part']})") if subject.has_two_parts else str(row["term"])


def _told(subject: Subject, row: Mapping[str, Any], what: Compared, difference: Mapping[str, Any] | None, *, varies: bool) -> _Told:
    """The sentence of one term, and how clear the effect is."""
    if difference is not None:
        error = float(difference["std_error"] or 0.0)
        clearness = abs(float(difference["estimate"])) / error if error else 0.0
        where = ", averaged over all line items with their groups and other predictors as they are"
        more = _elsewhere(subject, row["term"]) if varies else ""
        return _Told(varies, clearness, f"{_change(subject, what.words, difference, subject.signed_outcome)}{where}.{more}")
    clearness = abs(row["estimate"]) / row["std_error"]
    own = of_part(subject, row["part"]) if subject.has_two_parts else subject
    if own.effect_kind in {"odds", "link"}:
        return _Told(varies, clearness, _direction(subject, what.words, row))
    values = {name: effect(own, what.step * row[name]) for name in ("estimate", "lower", "upper")}
    whose = f"{what.words}, where the outcome is above zero" if subject.has_two_parts else what.words
    same = ", all else the same" + (", in the average group" if varies else "")
    words = _change(own, whose, values, lambda value: _effect_words(own, value))
    money = _in_money(subject, values["estimate"]) if own.effect_kind == "percent" and not subject.has_two_parts else ""
    return _Told(varies, clearness, f"{words}{same}{money}{_range(subject, own, row['term'], what.step) if varies else ''}.")


def _effect_words(subject: Subject, value: float) -> str:
    return effect_words(subject, value) if subject.effect_kind == "percent" else subject.signed_outcome(value)


def _change(subject: Subject, what: str, values: Mapping[str, Any], words: Callable[[float], str]) -> str:
    """``On sale (yes, against no): -10 % (95 % interval ... to ...)``; associations, not causes."""
    estimate, lower, upper = (float(values[name]) for name in ("estimate", "lower", "upper"))
    interval = f"({subject.interval} interval {words(lower).removesuffix(POINTS)} to {words(upper).removesuffix(POINTS)})"
    if lower > 0 or upper < 0:
        return f"{what}: {words(estimate)} {interval}"
    return f"{what}: {words(estimate)}, whether more or less is not settled {interval}"


def _in_money(subject: Subject, share: float) -> str:
    """A share of the outcome as an amount, of the estimate over all groups together."""
    table = subject.seen_estimates
    overall = overall_average(table.column("complete_pooling_estimate").to_pylist(), table.column("n").to_pylist())
    return "" if overall is None else f"; of {subject.outcome(overall)} that is {subject.signed_outcome(share * overall)}"


def _direction(subject: Subject, what: str, row: Mapping[str, Any]) -> str:
    """Where no size in natural units is known, the direction alone."""
    outcome = "the outcome is above zero" if subject.has_two_parts else f"the outcome ({subject.unit}) is"
    low, high = ("less often", "more often") if subject.has_two_parts else ("lower", "higher")
    if row["lower"] <= 0 <= row["upper"]:
        return f"{what}: whether {outcome} {high} or {low} is not settled."
    return f"{what}: {outcome} {high if row['estimate'] > 0 else low}; by how much depends on the group and the other predictors."


def _elsewhere(subject: Subject, term: str) -> str:
    levels = subject.levels_words(_finest(subject, term))
    return f" How it differs between {levels} is shown under “Effects that differ between groups”."


def _finest(subject: Subject, term: str) -> str:
    """The factor with most levels by which the term varies."""
    varying = subject.tables["group_coefficients"].filter((pc.field("term") == term) & ~pc.field("is_new"))
    sizes = varying.group_by("grouping_factor").aggregate([("level", "count")]).sort_by([("level_count", "descending")])
    return str(sizes.column("grouping_factor")[0])


def _range(subject: Subject, own: Subject, term: str, step: float) -> str:
    """How the term's effect ranges over the levels of the finest factor by which it varies, the ends with their intervals."""
    finest = _finest(subject, term)
    table = subject.tables["group_coefficients"]
    varying = table.filter((pc.field("term") == term) & ~pc.field("is_new") & (pc.field("grouping_factor") == finest))
    ranked = varying.sort_by([("estimate", "ascending")]).to_pylist()
    ends = []
    for row in (ranked[0], ranked[-1]):
        estimate, lower, upper = (_effect_words(own, effect(own, step * row[name])) for name in ("estimate", "lower", "upper"))
        ends.append(f"{estimate} ({row['level']}; {lower} to {upper})")
    return f"; by {subject.factor_words(finest)} it is estimated from {ends[0]} to {ends[1]}"
