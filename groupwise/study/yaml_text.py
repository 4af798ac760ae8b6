"""YAML that users write, read within bounds: plain values, lists and mappings, without aliases, tags and repeated keys.

PyYAML's SafeLoader runs no code, but a study needs far less than it reads: an alias can stand for any amount of data, a second key of the
same name replaces the first silently, and a date such as 2026-13-01 ends in whatever exception its constructor meets.
"""

from __future__ import annotations

import math
import re
from typing import Any, NoReturn

import yaml

from groupwise.study.user_text import MOST_BYTES, show_value
from multilevel.errors import StudyError
from multilevel.text import shorten, unusable_character

MOST_NODES = 10_000
DEEPEST = 20
MOST_DIGITS = 40
_TAG = "tag:yaml.org,2002:"
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")
_WHOLE = re.compile("[-+]?(0|[1-9][0-9]*)")


def read_yaml(text: str, where: str) -> Any:
    """The value that one YAML document stands for.

    Parameters
    ----------
    text : the document. where : what begins a message, such as the file's name.

    Raises
    ------
    StudyError
        Not readable, beyond the bounds, or with an anchor, an alias, a tag, a key that is repeated or no text; the message says where.
    """
    if len(text) > MOST_BYTES:
        raise StudyError(f"{where}: longer than {MOST_BYTES // 1024} KB, which no study needs.")
    # a character that YAML does not know is refused when the loader is made
    try:
        loader = _BoundedLoader(text)
        return loader.get_single_data()
    except _Refused as error:
        raise StudyError(f"{where}: {error}") from error
    except yaml.YAMLError as error:
        raise StudyError(f"{where}: not readable as YAML: {_told(error)}") from error
    except (ValueError, OverflowError) as error:
        # the scanner's own: an escape such as "\U00110000" beyond Unicode
        raise StudyError(f"{where}: not readable as YAML: {shorten(str(error))}") from error


class _Refused(Exception):  # noqa: N818  never leaves this module
    """What the document holds and should not; the message says in which line, and what to write."""


class _BoundedLoader(yaml.SafeLoader):
    """SafeLoader that counts nodes and depth while it composes, and constructs nothing that it has not checked."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node, refused where it goes beyond the bounds or is written with an anchor, an alias or a tag."""
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            _refuse(event, f"{sign}{shorten(event.anchor, 40)} is an anchor or an alias; write the value itself (text goes in quotes)")
        if event.tag is not None:
            _refuse(event, f"the tag {shorten(event.tag, 60)} has no meaning here; write the value alone (text goes in quotes)")
        self._nodes += 1
        self._depth += 1
        if self._nodes > MOST_NODES:
            _refuse(event, f"more than {MOST_NODES:,} values, which no study needs")
        if self._depth > DEEPEST:
            _refuse(event, f"nested more than {DEEPEST} deep, which no study needs")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A value; dates and numbers that cannot be read are refused with their line."""
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.construct_object(child) for child in node.value]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        made: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_TAG}str":
                shown = shorten(key_node.value, 40) if isinstance(key_node, yaml.ScalarNode) else "a list or a mapping"
                _refuse(key_node, f"the name of a field is text, this is {shown}; write it in quotes")
            key = self._scalar(key_node)
            if key in made:
                first = f"first in line {lines[key]}" if lines[key] != _line(key_node) else "in the same line"
                _refuse(key_node, f"{shorten(key, 60)} is written twice ({first}); keep one of them")
            made[key], lines[key] = self.construct_object(value_node), _line(key_node)
        return made

    def _scalar(self, node: yaml.Node) -> Any:
        unusable = unusable_character(node.value)
        if unusable is not None:
            _refuse(node, f"a value holds the character {unusable}, which no field can hold; leave it out")
        if _is_text(node):
            return node.value
        if node.tag in _NUMBERS and sum(char.isalnum() for char in node.value) > MOST_DIGITS:
            _refuse(node, f"{shorten(node.value, 40)} has more than {MOST_DIGITS} digits; write fewer, or text in quotes")
        try:
            value = super().construct_object(node)
        except (ValueError, OverflowError, AttributeError, KeyError, IndexError):
            _refuse(node, f"{show_value(node.value)} looks like a number or a date but is none; mend it, or write it in quotes")
        if isinstance(value, float) and not math.isfinite(value):
            _refuse(node, f"{shorten(node.value, 40)} is no finite number; write one, or text in quotes")
        return value


def _is_text(node: yaml.Node) -> bool:
    """Whether a plain scalar is text here although YAML 1.1 reads more into it: NO, 12:30, 0012 and 1_000 may be levels of a factor."""
    if node.tag == f"{_TAG}bool":
        return node.value.lower() not in ("true", "false")
    if node.tag == f"{_TAG}int":
        return _WHOLE.fullmatch(node.value) is None
    return node.tag in (f"{_TAG}value", f"{_TAG}merge") or (node.tag == f"{_TAG}float" and bool({":", "_"} & set(node.value)))


def _refuse(at: Any, what: str) -> NoReturn:
    raise _Refused(f"line {_line(at)}: {what}.")


def _line(at: Any) -> int:
    return int(at.start_mark.line) + 1


def _told(error: yaml.YAMLError) -> str:
    """The parser's own description and its place, without the excerpt of the text that it carries."""
    mark = getattr(error, "problem_mark", None)
    place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
    if str(problem).startswith("but "):
        problem = f"{getattr(error, 'context', None)} {problem}"
    if "character '\\t'" in str(problem):
        return f"{place}a tab stands where spaces should; YAML is indented with spaces"
    character = getattr(error, "character", None)
    if isinstance(character, int):
        return f"the character U+{character:04X} is not allowed; leave it out"
    return place + shorten(" ".join(str(problem).split()))
