"""What the predictors change, in units that people count in: dollars, items, per cent, percentage points."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from groupwise.report.effects import effect, effect_words
from groupwise.report.label_words import column_words, sentence
from groupwise.report.part_labels import INTERCEPTS, of_part
from groupwise.report.subject import POINTS, Subject, term_words

MOST = 2
"""Predictors that the answer tells of; the others are in the table."""

type Facts = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class _Told:
    """An effect to tell: of which term, how clear (estimate over its error), whether it differs between groups, and its sentence."""

    term: str
    varies: bool
    clearness: float
    words: str


def predictor_sentences(subject: Subject) -> list[str]:
    """The clearest effects, those that differ between groups first; empty without predictors."""
    differences, coded = _facts(subject, "average_differences"), _facts(subject, "coded_terms")
    rows = _coefficients(subject)
    if not rows:
        return []
    varying = set(subject.tables["group_coefficients"].column("term").unique().to_pylist())
    told: dict[str, _Told] = {}
    for row in rows:
        plain = _plain(subject, row)
        if plain in told and plain in differences:
            continue
        varies = row["term"] in varying
        words, clearness = _sentence(subject, row, coded.get(plain), differences.get(plain), varies=varies)
        told[plain if plain in differences else row["term"]] = _Told(row["term"], varies, clearness, words)
    ordered = sorted(told.values(), key=lambda each: (each.varies, each.clearness), reverse=True)
    rest = len(ordered) - MOST
    more = f"{'One other is' if rest == 1 else f'{rest:,} others are'} under “Complete, no and partial pooling”, on the scale of the model."
    return [each.words for each in ordered[:MOST]] + ([more] if rest > 0 else [])


def predictor_words(term: str, coded: Mapping[str, Any] | None) -> str:
    """What is compared: on sale, against not on sale; channel web, against shop; one unit more of price."""
    if coded is not None and coded.get("level") is not None:
        level, reference, words = str(coded["level"]), str(coded["reference"]), column_words(str(coded["predictor"]))
        if {level, reference} == {"true", "false"}:
            bare = words.removeprefix("is ")
            with_, without = ("with", "without") if words.startswith("has ") else ("", "not")
            bare = bare.removeprefix("has ")
            pair = f"{with_} {bare}".strip(), f"{without} {bare}"
            return f"{pair[0]}, against {pair[1]}" if level == "true" else f"{pair[1]}, against {pair[0]}"
        return f"{words} {level}, against {reference}"
    if coded is not None:
        return f"one unit more of {column_words(str(coded['predictor']))}"
    name = term_words(term)
    return column_words(name) if re.fullmatch(r"\w+", name) else name


def _facts(subject: Subject, name: str) -> Facts:
    found = subject.report.get(name)
    rows = found if isinstance(found, Sequence) and not isinstance(found, str) else ()
    return {str(row["term"]): row for row in rows if isinstance(row, Mapping) and row.get("estimate", 0.0) is not None}


def _coefficients(subject: Subject) -> list[dict[str, Any]]:
    return [
        row
        for row in subject.tables["population_coefficients"].to_pylist()
        if row["pooling"] == "partial" and row["term"] not in INTERCEPTS and row["std_error"] and row["lower"] is not None
    ]


def _plain(subject: Subject, row: Mapping[str, Any]) -> str:
    """The term without the part that the page adds to it."""
    return str(row["term"]).removesuffix(f" ({row['part']})") if subject.has_two_parts else str(row["term"])


def _sentence(
    subject: Subject, row: Mapping[str, Any], coded: Mapping[str, Any] | None, difference: Mapping[str, Any] | None, *, varies: bool
) -> tuple[str, float]:
    """The sentence of one term, and how clear the effect is."""
    what = sentence(predictor_words(_plain(subject, row), coded))
    if difference is not None:
        error = float(difference["std_error"] or 0.0)
        clearness = abs(float(difference["estimate"])) / error if error else 0.0
        where = ", averaged over all line items with their groups and other predictors as they are"
        more = _elsewhere(subject, row["term"]) if varies else ""
        return f"{_change(subject, what, subject.unit, difference, subject.signed_outcome)}{where}.{more}", clearness
    clearness = abs(row["estimate"]) / row["std_error"]
    own = of_part(subject, row["part"]) if subject.has_two_parts else subject
    unit = f"{subject.unit}, where the outcome is above zero" if subject.has_two_parts else subject.unit
    if own.effect_kind in {"odds", "link"}:
        return _direction(subject, what, row), clearness
    values = {name: effect(own, row[name]) for name in ("estimate", "lower", "upper")}
    same = ", groups and other predictors the same" + (", in the average group" if varies else "")
    words = _change(own, what, unit, values, lambda value: _effect_words(own, value))
    return f"{words}{same}{_range(subject, own, row['term']) if varies else ''}.", clearness


def _effect_words(subject: Subject, value: float) -> str:
    return effect_words(subject, value) if subject.effect_kind == "percent" else subject.signed_outcome(value)


def _change(subject: Subject, what: str, unit: str, values: Mapping[str, Any], words: Callable[[float], str]) -> str:
    """``On sale, against not on sale: the outcome (...) differs by ... (95 % interval ... to ...)``; associations, not causes."""
    estimate, lower, upper = (float(values[name]) for name in ("estimate", "lower", "upper"))
    interval = f"({subject.interval} interval {words(lower).removesuffix(POINTS)} to {words(upper).removesuffix(POINTS)})"
    if lower > 0 or upper < 0:
        return f"{what}: the outcome ({unit}) differs by {words(estimate)} {interval}"
    return f"{what}: whether the outcome ({unit}) is higher or lower is not settled, {words(estimate)} {interval}"


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


def _range(subject: Subject, own: Subject, term: str) -> str:
    """How the term's effect ranges over the levels of the finest factor by which it varies, the ends with their intervals."""
    finest = _finest(subject, term)
    table = subject.tables["group_coefficients"]
    varying = table.filter((pc.field("term") == term) & ~pc.field("is_new") & (pc.field("grouping_factor") == finest))
    ranked = varying.sort_by([("estimate", "ascending")]).to_pylist()
    ends = []
    for row in (ranked[0], ranked[-1]):
        estimate, lower, upper = (_effect_words(own, effect(own, row[name])) for name in ("estimate", "lower", "upper"))
        ends.append(f"{estimate} ({row['level']}; {lower} to {upper})")
    return f"; by {subject.factor_words(finest)} it is estimated from {ends[0]} to {ends[1]}"
