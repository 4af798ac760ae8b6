"""Text that users write, read within bounds and shown within bounds: neither a huge file nor a huge value costs time or memory."""

from __future__ import annotations

import os
import re
import reprlib
import stat
from pathlib import Path

from multilevel.errors import StudyError
from multilevel.text import shorten

MOST_BYTES = 256 * 1024
"""Of a study file or a suite; the shipped ones have about a thousandth of it."""

SHOWN = 120

# credentials that were written into an address are not repeated in a message
_CREDENTIALS = re.compile(r"//[^/@]*@")


def read_user_file(file: Path, what: str) -> str:
    """The text of a file that a user wrote.

    Parameters
    ----------
    file : path. what : what it should be, for messages, such as ``study file``.

    Raises
    ------
    StudyError
        No such file, a folder or a pipe, no permission, larger than ``MOST_BYTES``, or not UTF-8.
    """
    try:
        # looked at once it is open, so that nothing else can take its place; without waiting for who writes into a pipe
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise StudyError(f"{shorten(str(file))}: this is no regular file; name a {what}.")
            content = stream.read(MOST_BYTES + 1) or b""
    except FileNotFoundError as error:
        raise StudyError(f"{shorten(str(file))}: no such {what} (working directory {Path.cwd()}).") from error
    except IsADirectoryError as error:
        raise StudyError(f"{shorten(str(file))}: this is a folder; name a {what}.") from error
    except (OSError, ValueError) as error:
        raise StudyError(f"{shorten(str(file))}: the {what} cannot be read ({_reason(error)}).") from error
    if len(content) > MOST_BYTES:
        raise StudyError(f"{file}: larger than {MOST_BYTES // 1024} KB, which no {what} needs; is it the right file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(f"{file}: not UTF-8 text (byte {error.start + 1} is {content[error.start]:#04x}); save it as UTF-8.") from error


def show_value(value: object) -> str:
    """A value for a message, however large: cut while it is written, not after; credentials in addresses left out."""
    return _CREDENTIALS.sub("//***@", _shown.repr(value))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class _Shown(reprlib.Repr):
    def repr_str(self, x: str, level: int) -> str:
        """The beginning of a text, where reprlib would leave out its middle."""
        return repr(x) if len(x) <= self.maxstring else repr(x[: self.maxstring - 3]) + "..."

    def repr_int(self, x: int, level: int) -> str:
        """The digits of a number, unless there are so many that writing them takes time."""
        return repr(x) if x.bit_length() < 4 * self.maxlong else f"a number of about {int(x.bit_length() * 0.30103):,} digits"


_shown = _Shown()
_shown.maxlevel, _shown.maxstring, _shown.maxlong, _shown.maxother = 3, SHOWN, 40, SHOWN
_shown.maxdict = _shown.maxlist = _shown.maxtuple = _shown.maxset = 6
