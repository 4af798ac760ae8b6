"""What columns and their levels are called for people. Numbers, tables and names in files stay as the data have them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from groupwise.study.level_text import Label
from groupwise.study.study_source import Part

NAMED_LEVEL = re.compile(r"(?P<column>[^:\[\]]+)\[(?P<level>[^\]]*)\]")


class ColumnLabel(Part):
    """What a column, and its levels, are called for people."""

    name: str | None = Field(None, min_length=1, max_length=120, description="the column's name; null: as the data have it")
    levels: Mapping[Label, Annotated[str, Field(min_length=1, max_length=120)]] = Field(
        default_factory=dict, description="level -> what it is called"
    )


def _label(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


type ColumnLabels = Mapping[str, Annotated[ColumnLabel, BeforeValidator(_label, json_schema_input_type=str | dict[str, Any])]]


@dataclass(frozen=True)
class Labels:
    """The labels of a study. names : column -> label. levels : column -> level -> label. order : column -> its levels in order."""

    names: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    order: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, study: Mapping[str, object]) -> Labels:
        """The labels of a study as a mapping, as a manifest keeps it; none where it has none."""
        found, order = study.get("labels"), study.get("levels")
        parts = {str(column): one for column, one in found.items() if isinstance(one, Mapping)} if isinstance(found, Mapping) else {}
        return cls(
            {column: str(one["name"]) for column, one in parts.items() if one.get("name")},
            {column: {str(k): str(v) for k, v in one["levels"].items()} for column, one in parts.items() if one.get("levels")},
            {str(column): tuple(map(str, levels)) for column, levels in order.items()} if isinstance(order, Mapping) else {},
        )

    def column(self, column: str) -> str:
        """What a column is called; its own name without a label."""
        return self.names.get(column, column)

    def level(self, column: str, level: str) -> str:
        """What a level of a column is called."""
        return self.levels.get(column, {}).get(level, level)

    def factor(self, factor: str) -> str:
        """A grouping factor such as ``department:category``, each of its columns by its label."""
        return ":".join(map(self.column, factor.split(":")))

    def level_of(self, factor: str, level: str | None) -> str | None:
        """What a level of a grouping factor's last column is called."""
        return None if level is None else self.level(factor.rpartition(":")[2], level)

    def parent_of(self, factor: str, parent: str | None, *, around: str | None = None) -> str | None:
        """What the outer level is called: of ``a:b:c`` it holds levels of a and b; ``around``: the column of one found in the data."""
        outer = factor.split(":")[:-1] or ([] if around is None else around.split(":"))
        if parent is None or not outer:
            return parent
        parts = parent.split(":", len(outer) - 1)
        return ":".join(map(self.level, outer, parts)) if len(parts) == len(outer) else parent

    def term(self, term: str) -> str:
        """A term such as ``size[L]`` or ``on_sale:size[L]`` with the labels of its columns and levels; arithmetic stays as it is."""
        if not (self.names or self.levels):
            return term
        return ":".join(self._part(part) for part in _parts(term))

    def place(self, column: str, level: str) -> tuple[int, str]:
        """Sorts levels by the study's order, others after those by name."""
        order = self.order.get(column, ())
        return (order.index(level) if level in order else len(order), level)

    def _part(self, part: str) -> str:
        found = NAMED_LEVEL.fullmatch(part)
        if found is None:
            return self.column(part)
        column = found["column"].removeprefix("C(").removesuffix(")")
        if column not in self.names and column not in self.levels:
            return part
        return f"{self.column(column)}[{self.level(column, found['level'])}]"


def _parts(term: str) -> list[str]:
    """The parts between the colons of an interaction that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(term):
        depth += (character in "[(") - (character in "])")
        if character == ":" and depth == 0:
            parts.append(term[start:at])
            start = at + 1
    return [*parts, term[start:]]
