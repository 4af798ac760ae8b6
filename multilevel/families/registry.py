"""The families that a study may name; a family's file is read when it is first asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from multilevel.errors import StudyError

if TYPE_CHECKING:
    from multilevel.families.family import Family, Statistics
    from multilevel.families.two_part import TwoPart

_BUILT_IN = {
    "gaussian": "Gaussian",
    "binomial": "Binomial",
    "poisson": "Poisson",
    "negative_binomial": "NegativeBinomial",
    "gamma": "Gamma",
}
"""Family -> its class in ``multilevel.families.<family>``."""

_TWO_PART = ("hurdle_lognormal", "hurdle_gamma")
"""In ``multilevel.families.two_part``."""

_registered: dict[str, Family] = {}


def register(family: Family) -> None:
    """Make a family known to studies, tables and engines; StudyError where its name is taken by another."""
    known = _registered.get(family.name)
    if family.name in (*_BUILT_IN, *_TWO_PART) or (known is not None and type(known) is not type(family)):
        raise StudyError(f"family: {family.name!r} is taken.")
    _registered[family.name] = family


def family_named(name: str) -> Family:
    """The family of a one-part model. Raises StudyError, listing the known names, for any other."""
    if name in _registered:
        return _registered[name]
    if name in _TWO_PART:
        raise StudyError(f"family: {name!r} has two parts; here a family of one part is needed.")
    if name not in _BUILT_IN:
        raise StudyError(f"family: {name!r} is not one of {', '.join(family_names())}.")
    return _built_in(name)


def two_part_named(name: str) -> TwoPart | None:
    """The two-part family of that name, None where there is none."""
    if name not in _TWO_PART:
        return None
    from multilevel.families.two_part import TWO_PART

    return TWO_PART[name]


def has_two_parts(name: str) -> bool:
    """Whether the family of that name has two parts."""
    return name in _TWO_PART


def is_linear(name: str) -> bool:
    """Whether the model of the family is a linear one: one part, whose cells keep moments."""
    return name not in _TWO_PART and family_named(name).statistics.moments


def statistics_of(name: str) -> Statistics:
    """What cells keep under a family of one or two parts. Raises StudyError, listing the known names, for any other."""
    two = two_part_named(name)
    return family_named(name).statistics if two is None else two.statistics


_MEANT = {
    "normal": "gaussian",
    "lognormal": "gaussian, with log(y) in the formula",
    "bernoulli": "binomial",
    "logistic": "binomial",
    "logit": "binomial",
    "beta_binomial": "binomial",
    "nb": "negative_binomial",
    "negbin": "negative_binomial",
    "nbinom": "negative_binomial",
    "tweedie": "hurdle_gamma",
}
"""What others call a family -> what it is here."""


def meant_family(name: str) -> str | None:
    """The family that a name of another program stands for; None where there is none."""
    known = {each: each for each in family_names()} | _MEANT
    return known.get(name.strip().lower().replace(" ", "_").replace("-", "_"))


def family_names() -> tuple[str, ...]:
    """All that a study may write."""
    return (*_BUILT_IN, *_registered, *_TWO_PART)


@cache
def _built_in(name: str) -> Family:
    found: Family = getattr(import_module(f"multilevel.families.{name}"), _BUILT_IN[name])()
    return found
