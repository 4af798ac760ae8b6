"""A study file: read within bounds, changed by settings, and explained field by field where it is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from groupwise.source.file_kinds import kind_of
from groupwise.study.field_words import example_of, plain_words
from groupwise.study.source_hints import not_a_part, shown_place, unknown_field
from groupwise.study.study import Study
from groupwise.study.user_text import read_user_file, show_value
from groupwise.study.yaml_text import read_yaml
from groupwise.whole_files import write_whole
from multilevel.errors import StudyError
from multilevel.text import shorten

PATTERNS = {
    "name": "write letters, digits, underscores and hyphens, beginning with a letter, at most 63",
    "currency": "write the three letters of a currency, such as USD",
    "expectations": "write the name of a file in expectations/ without .json: small letters, digits and underscores",
}
"""What to write in fields of a pattern."""
DATA = ("csv", "parquet", "arrow", "database")
"""Kinds of files that are never a study: JSON may be one."""

MOST_PARTS = 8
"""Of a dotted field such as ``sampling.draws``."""


def load_study(path: Path | str, overrides: Mapping[str, str] | None = None) -> Study:
    """Read a study file; ``overrides`` are ``FIELD=VALUE`` settings, dotted for parts (``sampling.draws``), values read as YAML.

    Raises StudyError naming the file, the field, the value and what would be right.
    """
    file = Path(path)
    fields = _mapping(read_yaml(_text(file), str(file)), file)
    for key, value in (overrides or {}).items():
        _override(fields, key, value, file)
    return study_from(fields, str(file))


def study_from(fields: Mapping[str, Any], where: str) -> Study:
    """A study from its fields; StudyError beginning with ``where``, naming the field, the value and what would be right."""
    try:
        return Study.model_validate(fields)
    except ValidationError as error:
        raise StudyError(explain(error, where)) from error


def study_fields(study: Study) -> dict[str, Any]:
    """The fields of a study that are not as by default, in plain values, as a study file has them."""
    return dict(study.model_dump(mode="json", exclude_defaults=True, exclude_none=True))


def write_study_file(study: Study, path: Path) -> Path:
    """Write a study as YAML, whole or not at all; fields with their default are left out."""
    import yaml

    text = yaml.safe_dump(study_fields(study), sort_keys=False, allow_unicode=True, width=120)
    try:
        write_whole(path, text)
    except OSError as error:
        raise StudyError(f"{path}: the study cannot be written ({error.strerror or error}).") from error
    return path


def _text(file: Path) -> str:
    """The text of a study file; StudyError with what to name or to type where there is none."""
    if kind_of(file.name) in DATA and file.suffix != ".txt" and file.is_file():
        raise StudyError(f"{file}: these are data, and no study; groupwise init {file} writes a study for them.")
    try:
        return read_user_file(file, "study file")
    except StudyError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        there = {other.stem: other for other in sorted(file.parent.glob("*.y*ml"))} if file.parent.is_dir() else {}
        close = difflib.get_close_matches(file.stem, there, n=1)
        hint = f"did you mean {there[close[0]]}?" if close else "groupwise init DATA writes a first one for your data."
        raise StudyError(f"{str(error).rstrip('.')}; {hint}") from error


def _mapping(content: object, file: Path) -> dict[str, Any]:
    if content is None:
        raise StudyError(f"{file}: this file is empty; a study is a mapping of fields such as `name: line_spend`.")
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else show_value(content)
        raise StudyError(f"{file}: a study is a mapping of fields such as `name: line_spend`; this file holds {kind}.")
    return content


def _override(fields: dict[str, Any], key: str, value: str, file: Path) -> None:
    where = f"{file}: --set {shorten(key, 60)}"
    *parents, last = key.split(".")
    if len(parents) >= MOST_PARTS:
        raise StudyError(f"{where}: no field has more than {MOST_PARTS} parts.")
    here = fields
    for parent in parents:
        inner = here.get(parent)
        if inner is None:
            inner = here[parent] = {}
        if not isinstance(inner, dict):
            raise StudyError(f"{where}: {parent} is {show_value(inner)}, which has no parts.")
        here = inner
    here[last] = read_yaml(value, where)


def explain(error: ValidationError, where: str) -> str:
    """At most four lines: each a field, its value and what is wrong with it."""
    problems = error.errors(include_url=False)
    lines = [_problem(problem) for problem in problems[:3]]
    more = [f"and {len(problems) - 3} more"] if len(problems) > 3 else []
    return "\n".join([f"{where}: {lines[0]}", *lines[1:], *more])


def _problem(problem: Any) -> str:
    place = problem["loc"]
    field, value = shorten(shown_place(place)), problem.get("input")
    if problem["type"] == "extra_forbidden":
        return f"{field}: {unknown_field(Study, place)}"
    if problem["type"] == "missing" and isinstance(place[-1], int):
        return f"{shown_place(place[:-1])}: write {place[-1] + 1} of them, such as {example_of(place)}"
    if problem["type"] == "missing":
        return f"{field}: this field is needed"
    message = plain_words(problem)
    if problem["type"] == "string_pattern_mismatch":
        message = PATTERNS.get(field, f"write a text such as {example_of(place)}")
    if problem["type"] == "model_type":
        message = not_a_part(Study, place, value)
    if not field:
        return message
    # a formula is in the message already
    shown = "" if isinstance(value, dict | Study) or (field == "formula" and str(value) in message) else f" {show_value(value)}:"
    return f"{field}:{shown} {message}"
