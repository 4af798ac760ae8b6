"""What ``diagnostics`` says of limits that are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from multilevel.fit import Check, VarianceComponent


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
