"""Text from a user's data as it may be shown: what would act on a terminal, or turn the order of other letters round, is written out.

The published tables keep every name as it is. Whatever is shown to a person (terminal, report, validation page, Prefect's pages) goes
through here, so that a level called ``ESC ]0;...`` changes no window title and one with U+202E reads in the order of its letters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_CONTROLS = "\x00-\x1f\x7f-\x9f"
# soft hyphen, Arabic letter mark, zero width space, marks and embeddings of direction, separators of lines and paragraphs, isolates, byte
# order mark, interlinear annotations, lone surrogates, tags; the two joiners (U+200C, U+200D) belong to the spelling of words and stay
_INVISIBLE = "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
_UNSAFE = re.compile(f"[{_CONTROLS}{_INVISIBLE}]")
_UNSAFE_IN_LINES = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_INVISIBLE}]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&:])")


def printable(name: str) -> str:
    r"""One name on one line: control and invisible characters, line breaks too, as ``\x1b`` or ``\u202e``."""
    return _UNSAFE.sub(_written_out, name)


def printable_lines(text: str) -> str:
    """Text of several lines: as ``printable``, line breaks and tabs left alone."""
    return _UNSAFE_IN_LINES.sub(_written_out, text)


def printable_value(value: object) -> object:
    """``value`` with ``printable_lines`` of every text in it: mappings (keys too) and sequences to any depth; other values as they are."""
    if isinstance(value, str):
        return printable_lines(value)
    if isinstance(value, Mapping):
        return {printable_value(key): printable_value(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [printable_value(inner) for inner in value]
    return value


def markdown_text(text: str) -> str:
    """``text`` on one line such that Markdown shows its characters: no link, image, heading, emphasis or HTML of the text takes effect."""
    return _MARKDOWN.sub(r"\\\1", printable(text))


def _written_out(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
