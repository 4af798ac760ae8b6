"""Coefficients as people read them: something added, a percentage, or a factor on the odds."""

from __future__ import annotations

import altair as alt
import numpy as np

from tasks.report.subject import Subject, number

# more than this many levels apart, and factors on the odds are drawn on a logarithmic axis with these ticks
ODDS_TICKS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]


def effect(subject: Subject, coefficient: float) -> float:
    """What a coefficient adds to the outcome, by which share it changes it, or by what it multiplies the odds."""
    if subject.effect_kind in {"added", "link"}:
        return coefficient
    return float(np.expm1(coefficient)) if subject.effect_kind == "percent" else float(np.exp(coefficient))


def no_effect(subject: Subject) -> float:
    """Where a coefficient of zero lies on the axis of effects."""
    return effect(subject, 0.0)


def effect_words(subject: Subject, value: float) -> str:
    """An effect as prose writes it: +12.3 %, × 1.17, 0.4."""
    if subject.effect_kind in {"added", "link"}:
        return number(value)
    return f"{100 * value:+.1f} %".replace("-", "−") if subject.effect_kind == "percent" else f"× {number(value)}"


def effect_format(subject: Subject) -> str:
    """The d3 format of an effect."""
    return {"added": "+,.3~r", "link": "+,.3~r", "percent": "+.0%", "odds": ",.3~r"}[subject.effect_kind]


def effect_axis(subject: Subject, term: str) -> tuple[alt.Axis, alt.Scale]:
    """Axis and scale of effects of a term, in words."""
    if subject.effect_kind == "odds":
        label = alt.Axis(title=f"odds with {term}, times those without", values=ODDS_TICKS, labelExpr="'× ' + format(datum.value, ',.3~r')")
        return label, alt.Scale(type="log", nice=False)
    if subject.effect_kind == "link":
        title = f"coefficient of {term}: log odds (occurrence) or log of the amount"
        return alt.Axis(title=title, format=effect_format(subject), tickCount=6), alt.Scale(zero=False, nice=False)
    title = f"change of {subject.unit} with {term}" if subject.effect_kind == "percent" else f"{subject.unit} added by {term}"
    return alt.Axis(title=title, format=effect_format(subject), tickCount=6), alt.Scale(zero=False, nice=False)
