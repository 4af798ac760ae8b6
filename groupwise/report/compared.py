"""What an effect compares, in words that name the reference: on sale (yes, against no); income twice as high."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groupwise.report.label_words import sentence
from groupwise.report.subject import POINTS, Subject, number, term_words
from multilevel.design.parts import PARTS

SHARE_STEP = 0.1
"""Of the share of line items for which something is true: ten percentage points."""

_TRUTH = {"true": "yes", "false": "no"}
_MISSING = "_missing"


@dataclass(frozen=True)
class Compared:
    """Words for what is compared, and how many units of the term that is."""

    words: str
    step: float = 1.0


def compared(subject: Subject, term: str, coded: Mapping[str, Any] | None) -> Compared | None:
    """What the coefficient of a term compares; None where no single comparison is what it says (interactions, arithmetic)."""
    if coded is None:
        # in a report from before this was told, a term may be a column, of yes and no or of numbers
        name = term_words(term)
        how = "higher by 1" if name == term else "(yes, against no)"
        is_column = "coded_terms" not in subject.report and re.fullmatch(r"\w+", name)
        return Compared(f"{sentence(subject.bare(name))} {how}") if is_column else None
    predictor, words = str(coded["predictor"]), sentence(subject.bare(str(coded["predictor"])))
    if coded.get("level") is not None:
        level, reference = (_level(subject, predictor, coded[name]) for name in ("level", "reference"))
        return Compared(f"{words} ({level}, against {reference})")
    if is_fill(subject, predictor):
        filled = subject.column(predictor.removesuffix(_MISSING))
        return Compared(f"{sentence(filled)} not known, against the average {filled}")
    return _about_means(subject, coded, subject.bare(predictor)) if coded.get("means") else _about_number(coded, words)


def _about_number(coded: Mapping[str, Any], words: str) -> Compared:
    if coded.get("is_flag"):
        return Compared(f"{words} (yes, against no)")
    step = float(coded.get("step", 1.0))
    more = "twice as high" if coded.get("is_log") else f"higher by {number(step, 1)}"
    return Compared(f"{words} {'higher by one standard deviation' if coded.get('is_standard') else more}", step)


def effect_name(subject: Subject, term: str) -> str:
    """A term in headings: a column as people say it, anything else as the formula has it."""
    name = term_words(term)
    part = next((f" ({part})" for part in PARTS if subject.has_two_parts and name.endswith(f" ({part})")), "")
    name = name.removesuffix(part)
    return f"{subject.bare(name) if re.fullmatch(r'\w+', name) else subject.labels.term(name)}{part}"


def facts(subject: Subject, name: str) -> Mapping[str, Mapping[str, Any]]:
    """What the fit says of terms under this name (``coded_terms``, ``average_differences``), by term."""
    found = subject.report.get(name)
    rows = found if isinstance(found, Sequence) and not isinstance(found, str) else ()
    return {str(row["term"]): row for row in rows if isinstance(row, Mapping) and row.get("estimate", 0.0) is not None}


def predictor_name(subject: Subject, term: str) -> str:
    """A group-level predictor on an axis: log of income, share of store brand, mean price."""
    coded = facts(subject, "coded_terms").get(term)
    if coded is None or coded.get("level") is not None:
        return effect_name(subject, term)
    name = subject.bare(str(coded["predictor"]))
    if coded.get("means"):
        return f"{'share of' if coded.get('is_flag') else 'mean'} {'log ' if coded.get('is_log') else ''}{name}"
    return f"log of {name}" if coded.get("is_log") else name


def is_fill(subject: Subject, predictor: str) -> bool:
    """Whether a predictor marks the values that were missing and are the mean (``missing: {income: mean_and_indicator}``)."""
    rules = subject.study.get("missing")
    filled = predictor.removesuffix(_MISSING)
    return filled != predictor and isinstance(rules, Mapping) and rules.get(filled) == "mean_and_indicator"


def _level(subject: Subject, column: str, level: object) -> str:
    named = subject.labels.level(column, str(level))
    return _TRUTH.get(named, named)


def _about_means(subject: Subject, coded: Mapping[str, Any], name: str) -> Compared:
    """``within(x, g)``: the same group, another x; ``between(x, g)``: another group, whose x is higher on average."""
    group, step = subject.column(str(coded["group"]).rpartition(":")[2]), float(coded["step"])
    if coded["means"] == "within":
        if coded.get("is_flag"):
            return Compared(f"{sentence(name)} (yes, against no) in the same {group}")
        more = "twice as high" if coded.get("is_log") else f"higher by {number(step, 1)}"
        return Compared(f"{sentence(name)} {more} in the same {group}", step)
    if coded.get("is_flag"):
        return Compared(f"A {group} with a share of {name} higher by {100 * SHARE_STEP:.0f}{POINTS}", SHARE_STEP)
    more = "typically twice as high" if coded.get("is_log") else f"higher on average by {number(step, 1)}"
    return Compared(f"A {group} whose {name} is {more}", step)
