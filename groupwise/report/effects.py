"""Coefficients as people read them: something added, a percentage, or a factor on the odds."""

from __future__ import annotations

from collections.abc import Iterable

import altair as alt
import numpy as np

from groupwise.report.subject import Subject, number

LEADS = ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
"""Leading digits of the ticks of a logarithmic axis, by how much of it is seen."""

FARTHEST = 700.0
"""Of a coefficient on a log or logit scale: the limit of a wide interval may lie farther, where exp() overflows."""

FEWEST_TICKS, NARROWEST = 4, 1e-4


def effect(subject: Subject, coefficient: float) -> float:
    """What a coefficient adds to the outcome, by which share it changes it, or by what it multiplies the odds."""
    if subject.effect_kind in {"added", "link"}:
        return coefficient
    within = float(np.clip(coefficient, -FARTHEST, FARTHEST))
    return float(np.expm1(within)) if subject.effect_kind == "percent" else float(np.exp(within))


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


def odds_ticks(shown: Iterable[float]) -> list[float]:
    """Ticks of a logarithmic axis over the values shown, 1 (no effect) among them: as few as tell them apart."""
    values = np.array([1.0, *(value for value in shown if value > 0)])
    low, high = float(values.min()), float(values.max())
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for leads in LEADS:
        ticks = [float(f"{lead * 10.0**decade:.6g}") for decade in decades for lead in leads]
        if sum(low <= tick <= high for tick in ticks) >= FEWEST_TICKS:
            return ticks
    width = max(high - low, NARROWEST)
    step = 10.0 ** np.floor(np.log10(width))
    step = next(step * part for part in (2.0, 1.0, 0.5, 0.2, 0.1) if width / (step * part) >= FEWEST_TICKS)
    steps = range(int(np.floor((low - 1.0) / step)), int(np.ceil((high - 1.0) / step)) + 1)
    return [float(f"{1.0 + count * step:.6g}") for count in steps if 1.0 + count * step > 0]


def effect_axis(subject: Subject, term: str, shown: Iterable[float]) -> tuple[alt.Axis, alt.Scale]:
    """Axis and scale of effects of a term, in words; ``shown`` is what will lie on it, on the scale of ``effect``."""
    if subject.effect_kind == "odds":
        title, words = f"odds with {term}, times those without", "'× ' + format(datum.value, ',.4~r')"
        label = alt.Axis(title=title, values=odds_ticks(shown), labelExpr=words, labelOverlap="greedy", labelSeparation=10)
        return label, alt.Scale(type="log", nice=False)
    if subject.effect_kind == "link":
        title = f"coefficient of {term}: log odds (occurrence) or log of the amount"
        return alt.Axis(title=title, format=effect_format(subject), tickCount=6), alt.Scale(zero=False, nice=False)
    title = f"change of {subject.unit} with {term}" if subject.effect_kind == "percent" else f"{subject.unit} added by {term}"
    return alt.Axis(title=title, format=effect_format(subject), tickCount=6), alt.Scale(zero=False, nice=False)
