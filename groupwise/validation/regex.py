"""One meaning for a regular expression: DuckDB's (RE2), written so that Python finds the same rows.

Where the two differ: RE2's ``\\d``, ``\\w``, ``\\s`` and ``\\b`` know ASCII only and its ``$`` is the very end of the text, while Python's
know all of Unicode and let a line feed follow ``$``.
"""

from __future__ import annotations

import re

_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}
_ENDS = {"z": r"\Z", "b": r"(?a:\b)", "B": r"(?a:\B)"}
_SAME = frozenset("tnrfvaA") | frozenset(r"\.^$*+?{}[]|()-/ " + "\"'#&,:;<=>@_`~!%")


class UnclearRegexError(ValueError):
    """The expression has a part whose meaning in Python is not the same as in RE2."""


def python_regex(regex: str) -> str:
    """``regex``, read as RE2 reads it, for Python's ``re.search``.

    Raises
    ------
    UnclearRegexError : a part that the two read differently and that has no equal: POSIX and Unicode classes, flags but ``(?i)``.
    """
    _refuse_flags(regex)
    written: list[str] = []
    in_class = False
    position = 0
    while position < len(regex):
        character = regex[position]
        if character == "\\":
            written.append(_escape(regex[position + 1 : position + 2], in_class))
            position += 2
            continue
        if in_class and regex.startswith(("[:", "[="), position):
            raise UnclearRegexError("a class such as [:alpha:] is unknown to Python; write the characters")
        if character == "[" and not in_class:
            in_class = True
            opened = re.match(r"\[\^?\]?", regex[position:])
            written.append(opened.group(0).replace("]", r"\]") if opened else "[")
            position += opened.end() if opened else 1
            continue
        in_class = in_class and character != "]"
        written.append(r"\Z" if character == "$" and not in_class else character)
        position += 1
    return _compiled("".join(written))


def _escape(letter: str, in_class: bool) -> str:
    if letter.lower() in _CLASSES:
        inside = _CLASSES[letter.lower()]
        if not in_class:
            return f"[^{inside}]" if letter.isupper() else f"[{inside}]"
        if letter.islower():
            return inside
    elif letter in _ENDS and not in_class:
        return _ENDS[letter]
    elif letter in _SAME:
        return f"\\{letter}"
    raise UnclearRegexError(f"\\{letter} does not mean the same in Python")


def _refuse_flags(regex: str) -> None:
    for flags in re.findall(r"\(\?([a-zA-Z-]+)[:)]", regex):
        if flags != "i":
            raise UnclearRegexError(f"the flag (?{flags}) does not mean the same in Python")


def _compiled(regex: str) -> str:
    try:
        re.compile(regex)
    except re.error as error:
        raise UnclearRegexError(f"Python cannot read it: {error}") from error
    return regex
