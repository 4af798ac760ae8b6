"""Files of ours, read: looked at before anything is read, so that nothing waits at a named pipe or follows a link away."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import IO

from multilevel.errors import PublishError

KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)
LONGEST = 300
"""Characters of a path that a message repeats."""


def kind_of(path: Path) -> str | None:
    """``a file``, ``a folder``, ``a link`` (never followed), ...; None where there is nothing. PublishError where nobody may look."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        name = str(path) if len(str(path)) <= LONGEST else f"{str(path)[:LONGEST]}..."
        raise PublishError(
            f"{name} cannot be looked at: {error.strerror or error}; check the folders above it, or name another."
        ) from error
    return next((words for is_it, words in KINDS if is_it(mode)), "a device")


def open_file(path: Path) -> IO[bytes]:
    """A regular file, opened for reading.

    Raises
    ------
    FileNotFoundError : there is nothing. PublishError : something else than a file is there, or it may not be read.
    """
    try:
        # without O_NONBLOCK opening a named pipe waits for its other end
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except OSError as error:
        raise PublishError(_refusal(path, error)) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise PublishError(in_the_way(path, "a file"))
    return os.fdopen(handle, "rb")


def read_file(path: Path) -> bytes:
    """A regular file's content; errors as of ``open_file``."""
    with open_file(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise PublishError(_refusal(path, error)) from error


def digest_of(file: IO[bytes]) -> str:
    """Hex sha256 of an open file, which is left at its beginning."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return digest


def in_the_way(path: Path, wanted: str) -> str:
    """What to say of something else than ``wanted`` (a file, a folder, a link)."""
    found = kind_of(path) or "nothing"
    led = f" to {path.readlink()}" if found == "a link" else ""
    return f"{path} is {found}{led}, where groupwise keeps {wanted} of its own; move it away (mv or rm), then run the command again."


def _refusal(path: Path, error: OSError) -> str:
    if kind_of(path) not in ("a file", None):
        return in_the_way(path, "a file")
    return f"{path} cannot be read: {error.strerror or error}."
