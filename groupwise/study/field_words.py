"""What is wrong with a field of a study, in the words of the study, and what to write instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from groupwise.study.study_examples import EXAMPLES

type Context = Mapping[str, Any]

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "string": "a text",
    "bool": "true or false",
    "dict": "a mapping",
    "mapping": "a mapping",
    "tuple": "a list",
    "list": "a list",
    "date": "a day such as 2026-01-01",
}
_BOUNDS = {"greater_than": "above", "greater_than_equal": "at least", "less_than": "below", "less_than_equal": "at most"}
_BOUND_NAMES = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
_LENGTHS: Mapping[str, Callable[[Context], str]] = {
    "string_too_long": lambda found: f"write at most {found['max_length']:,} character{'s' if found['max_length'] > 1 else ''}",
    "string_too_short": lambda found: f"write at least {found['min_length']:,} character{'s' if found['min_length'] > 1 else ''}",
    "too_long": lambda found: f"write at most {found['max_length']:,}, not {found['actual_length']:,}",
    "too_short": lambda found: f"write at least {found['min_length']:,}, not {found['actual_length']:,}",
}


def plain_words(problem: Mapping[str, Any]) -> str:
    """What to write in the field of a problem, as pydantic describes one."""
    kind, context = str(problem["type"]), problem.get("ctx") or {}
    if kind == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    if kind in _BOUNDS:
        return f"write a number {_BOUNDS[kind]} {context[_BOUND_NAMES[kind]]:,.12g}{_such_as(problem['loc'])}"
    if kind in _LENGTHS:
        return _LENGTHS[kind](context)
    if kind == "literal_error":
        return f"write {_listed(str(context['expected']))}"
    wanted = _TYPES.get(kind.partition("_")[0])
    if wanted is None:
        return f"this cannot be used here{_such_as(problem['loc'])}"
    return f"write {wanted}{_such_as(problem['loc'])}"


def example_of(place: tuple[int | str, ...]) -> str | None:
    """A line of a study that has the field, or the part of the study that it is in."""
    names = [str(name) for name in place if not isinstance(name, int)]
    while names:
        if ".".join(names) in EXAMPLES:
            return EXAMPLES[".".join(names)]
        names.pop()
    return None


def _such_as(place: tuple[int | str, ...]) -> str:
    example = example_of(place)
    return "" if example is None else f", such as {example}"


def _listed(expected: str) -> str:
    """``'a', 'b' or 'c'`` without quotation marks, where these are not the point."""
    return expected.replace("'", "") if "." not in expected else expected
