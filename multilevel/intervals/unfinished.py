"""Limits that are missing: why each is, and what ``diagnostics`` says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from multilevel.fit.container import Check, VarianceComponent
from multilevel.intervals.profile import NUMERICAL, Limits


def component_or_note(profile: Callable[[VarianceComponent], VarianceComponent], found: VarianceComponent) -> VarianceComponent:
    """``found`` with its profile limits, or with none and a note where its profile cannot be built."""
    try:
        return profile(found)
    except NUMERICAL as error:
        return without_limits(found, error)


def limits_or_note(profile: Callable[[int], Limits], place: int) -> Limits:
    """The profile limits of a coefficient, or none and a note where its profile cannot be built."""
    try:
        return profile(place)
    except NUMERICAL as error:
        return Limits(None, None, no_profile(error))


def without_limits(found: VarianceComponent, error: Exception) -> VarianceComponent:
    """``found`` without an interval, and why."""
    return replace(found, lower=None, upper=None, interval_method=None, note=no_profile(error))


def no_profile(error: Exception) -> str:
    """Why there is no profile."""
    return f"no profile: {str(error).rstrip('.')}"


def notes_check(components: Sequence[VarianceComponent], notes: Mapping[str, str] | None = None) -> tuple[Check, ...]:
    """The check ``profile_intervals``, where a limit is missing: how many quantities miss one, and why each does.

    ``notes`` : what there is to say of population coefficients, by label.
    """
    found = {component_name(component): component.note for component in components if component.note} | dict(notes or {})
    if not found:
        return ()
    message = "limits that are null: " + "; ".join(f"{name}: {note}" for name, note in found.items())
    return (Check("profile_intervals", float(len(found)), 0.0, passed=False, message=message),)


def component_name(component: VarianceComponent) -> str:
    """As ``sd(g, x)``, ``correlation(g, x, z)`` or ``sigma``."""
    if component.block is None:
        return component.term
    terms = component.term if component.other_term is None else f"{component.term}, {component.other_term}"
    return f"{component.quantity}({component.grouping_factor}, {terms})"
