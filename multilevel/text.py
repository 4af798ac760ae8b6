"""Text from outside, in messages: cut to a length, and without characters that a terminal would act on."""

from __future__ import annotations

import re

# control characters but tab and line ends, and half of a surrogate pair: no name, no value and no file holds them on purpose
_UNUSABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def shorten(text: str, length: int = 120) -> str:
    """Text for a message; what is cut shows as dots, what cannot be printed as its escape."""
    cut = text if len(text) <= length else text[: length - 3] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in cut)


def unusable_character(text: str) -> str | None:
    """The first character that no name and no value can hold, such as ``U+0000``; None where there is none."""
    found = _UNUSABLE.search(text)
    return None if found is None else f"U+{ord(found[0]):04X}"
