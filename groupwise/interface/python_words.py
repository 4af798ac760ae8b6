"""Errors as a caller in Python reads them: of the one family, and naming arguments where a command has options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from groupwise.faults import told
from multilevel.errors import GroupwiseError

_SETTING = re.compile(r"--set (?=[a-z_.]+=)")
_OPTION = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)(?: (?!(?:or|and|to|is|names)\b)(?=\S)|(?=[ :.,;)'\"]|$))")
_ARGUMENTS = {"at": "data", "run": "run_id"}
"""Options whose argument is called otherwise."""


@contextmanager
def python_words(doing: str) -> Iterator[None]:
    """Errors of the block as a caller in Python reads them: ``--as-of`` is ``as_of=``; also a decorator.

    Parameters
    ----------
    doing : what begins the message of an error that the machine or a library raised.
    """
    try:
        with told(doing):
            yield
    except GroupwiseError as error:
        text = in_python(str(error))
        if text != str(error):
            raise type(error)(text) from error
        raise


def in_python(message: str) -> str:
    """The message with arguments in place of a command's options: ``--of coefficient`` is ``of=coefficient``."""
    return _OPTION.sub(_argument, _SETTING.sub("", message))


def _argument(option: re.Match[str]) -> str:
    name = _ARGUMENTS.get(option[1], option[1].replace("-", "_"))
    return f"{name}=" if option[0].endswith(" ") else name
