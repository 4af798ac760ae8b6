"""Names of columns, and how many there are of something, as people say them: customer_id is a customer, of two there are customers."""

from __future__ import annotations

import re
from collections.abc import Sequence

_KEY = re.compile(r"_(?:id|key|code|no|nr|number)$", re.IGNORECASE)
_IRREGULAR = {"person": "people", "child": "children", "man": "men", "woman": "women"}
MOST_NAMED = 3


def column_words(column: str) -> str:
    """A column for people: its underscores spaces, without an ending that says it is a key."""
    return _KEY.sub("", column).replace("_", " ").strip() or column


def plural(words: str) -> str:
    """More than one of it; of several words the last one changes."""
    rest, _, last = words.rpartition(" ")
    if last.lower() in _IRREGULAR:
        many = _IRREGULAR[last.lower()]
    elif re.search(r"[^aeiou]y$", last, re.IGNORECASE):
        many = f"{last[:-1]}ies"
    else:
        many = f"{last}es" if re.search(r"(?:s|x|z|ch|sh)$", last, re.IGNORECASE) else f"{last}s"
    return f"{rest} {many}" if rest else many


def counted(n: int, words: str) -> str:
    """``5 households``, ``1 household``."""
    return f"{n:,} {words if n == 1 else plural(words)}"


def named(levels: Sequence[str]) -> str:
    """The first few of them, and how many more there are."""
    more = len(levels) - MOST_NAMED
    return ", ".join(levels[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def listed(words: Sequence[str]) -> str:
    """``a, b and c``; empty of none."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def sentence(words: str) -> str:
    """Its first letter a capital, the rest as it is."""
    return words[:1].upper() + words[1:]
