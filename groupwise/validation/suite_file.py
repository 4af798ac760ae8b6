"""The JSON file of an expectation suite, read within bounds: keys once, numbers of few digits, and the shape that rules need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expectations import read_suite
from groupwise.study.user_text import read_user_file, show_value
from multilevel.errors import StudyError
from multilevel.text import shorten, unusable_character

MOST_DIGITS = 40
MOST_CHARACTERS = 2_000
_PARTS: Mapping[str, type] = {"type": str, "kwargs": dict, "severity": str, "meta": dict}

_KWARGS: Mapping[str, tuple[type, str]] = {
    "column": (str, "a column, by its name"),
    "column_list": (list, "a list of columns"),
    "strict_min": (bool, "true or false"),
    "strict_max": (bool, "true or false"),
}
"""Keyword arguments of one type only, and what to write."""
_KEEPS = ("one", "first", "last")


def suite_entries(suite: str) -> list[dict[str, Any]]:
    """Expectations of ``expectations/<suite>.json``, each with type, kwargs, severity, meta.rule_id and meta.why; StudyError otherwise.

    A suite in the working directory's ``expectations/`` comes before the project's own of the same name.
    """
    own = Path("expectations") / f"{suite}.json"
    where = f"expectations: {suite}"
    try:
        text = read_user_file(own, "suite") if own.exists() else read_suite(suite)
    except FileNotFoundError as error:
        raise StudyError(f"{where}: there is no suite expectations/{suite}.json.") from error
    except StudyError as error:
        raise StudyError(f"{where}: {error}") from error
    try:
        content = json.loads(text, object_pairs_hook=_once, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else shorten(str(error))
        raise StudyError(f"{where}: expectations/{suite}.json is not readable as JSON: {what}") from error
    entries = content.get("expectations") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise StudyError(f"{where}: expectations/{suite}.json needs a list `expectations`.")
    for entry in entries:
        _check_shape(entry, where)
    return entries


def _check_shape(entry: Any, where: str) -> None:
    is_whole = isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in _PARTS.items())
    if not is_whole or not all(isinstance(entry["meta"].get(name), str) for name in ("rule_id", "why")):
        raise StudyError(f"{where}: every expectation needs type, kwargs, severity, meta.rule_id and meta.why: {show_value(entry)}")
    rule = f"{where}: rule {shorten(entry['meta']['rule_id'], 60)}"
    for name, value in (*entry["kwargs"].items(), *entry["meta"].items()):
        if isinstance(value, str) and (unusable_character(value) or len(value) > MOST_CHARACTERS):
            raise StudyError(
                f"{rule}: {shorten(name, 60)}: at most {MOST_CHARACTERS:,} characters, no control characters: {show_value(value)}"
            )
    for name, (kind, words) in _KWARGS.items():
        value = entry["kwargs"].get(name)
        if value is not None and not isinstance(value, kind):
            raise StudyError(f"{rule}: {name} {show_value(value)}: it needs {words}.")
    if ";" in entry["meta"]["rule_id"]:
        raise StudyError(f"{rule}: a rule_id has no semicolon, which separates ids in the quarantine's broken_rules.")
    _check_keep(entry, rule)


def _check_keep(entry: Mapping[str, Any], rule: str) -> None:
    """``meta.keep`` and ``meta.order_by``, which belong to rules about unique values."""
    keep, order_by = entry["meta"].get("keep"), entry["meta"].get("order_by")
    if keep is None and order_by is None:
        return
    if keep not in _KEEPS or not entry["type"].endswith("_unique") or entry["severity"] == "info":
        raise StudyError(f"{rule}: keep {show_value(keep)}: write one, first or last, for unique values and a severity other than info.")
    if not isinstance(order_by, str | None) or (keep == "one") != (order_by is None):
        raise StudyError(f"{rule}: keep first and keep last need order_by, the column that orders the rows; keep one goes without.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in made if names.count(name) > 1)
        raise ValueError(f"{shorten(repeated, 60)} is written twice in one object; keep one of them")
    return made


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"{shorten(text, 40)} has more than {MOST_DIGITS} digits")
    return int(text)
