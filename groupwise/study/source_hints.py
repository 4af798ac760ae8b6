"""What to write instead, where a study names its source in a way that cannot be read."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel

from groupwise.source.file_kinds import SOURCE_FORMS, kind_of
from multilevel.text import shorten


def unknown_field(model: type[BaseModel], place: Sequence[int | str]) -> str:
    """What the part of a study that has no such field has instead."""
    part = _part(model, place[:-1]) or model
    own, names = str(place[-1]), field_names(part)
    close = difflib.get_close_matches(own, names, n=1)
    if close:
        return f"no such field; did you mean {close[0]}?"
    return f"no such field; the fields{f' of {shown_place(place[:-1])}' if len(place) > 1 else ''} are {', '.join(names)}"


def shown_place(place: Sequence[int | str]) -> str:
    """A place in a study, for people: ``source.options.decimal``, ``rules no. 2, column``."""
    text = ""
    for before, part in zip((None, *place), place, strict=False):
        if isinstance(part, int):
            text += f" no. {part + 1}"
        else:
            text += f"{', ' if isinstance(before, int) else '.' if text else ''}{part}"
    return text


def not_a_part(model: type[BaseModel], place: Sequence[int | str], value: object) -> str:
    """What to write where one value stands in place of a mapping."""
    if tuple(place) == ("source",):
        return _source(value)
    part = _part(model, place)
    names = [] if part is None else [name for name, field in part.model_fields.items() if field.is_required()] or list(part.model_fields)
    written = f"{{{', '.join(f'{name}: ...' for name in names)}}}"
    if isinstance(place[-1], int):
        return f"write a mapping: {place[-2]}: [{written}]"
    return f"write a mapping: {place[-1]}: {written}"


def _source(value: object) -> str:
    if isinstance(value, str | list):
        names = [value] if isinstance(value, str) else value
        kinds = sorted({str(kind_of(str(name))) for name in names})
        if kinds == ["None"]:
            shown = shorten(str(names[0]), 60) if names else ""
            return f"the suffix of {shown!r} does not say what it is; write one of {SOURCE_FORMS}"
        return f"the files are of several kinds; write one of {SOURCE_FORMS}"
    return f"write one of {SOURCE_FORMS}"


def field_names(model: type[BaseModel]) -> list[str]:
    """The fields of a part of a study, as a study writes them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _part(model: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel] | None:
    """The model of a part of ``model``; None where the place is in no part."""
    for name in place:
        if isinstance(name, int):
            continue
        field = model.model_fields.get(str(name))
        found = [] if field is None else [kind for kind in _kinds(field.annotation) if issubclass(kind, BaseModel)]
        if not found:
            return None
        model = found[0]
    return model


def _kinds(annotation: Any) -> list[type]:
    """The classes in an annotation such as ``Window | None``."""
    return [annotation] if isinstance(annotation, type) else [kind for part in get_args(annotation) for kind in _kinds(part)]
