"""What the machine and the libraries below refuse, told as errors of our own family: full disks, folders that are files, memory, values.

A step is wrapped once, so that no place in it has to foresee every way in which a disk or a library can fail. What is none of these is a
fault of the program and passes as it is.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

from groupwise.source.query_errors import in_plain_words
from multilevel.errors import DataError, FitError, GroupwiseError, ResourceError
from multilevel.text import shorten

SHOWN = 300

ADVICE = {
    errno.ENOSPC: "free some room on that disk",
    errno.EDQUOT: "free some room within the quota",
    errno.EROFS: "it is read-only: work in another folder, or mount it so that it can be written to",
    errno.EACCES: "let this user read and write there, or work in another folder",
    errno.EPERM: "let this user read and write there, or work in another folder",
    errno.EEXIST: "a file is where a folder should be: move it away",
    errno.ENOTDIR: "a file is where a folder should be: move it away",
    errno.EISDIR: "a folder is where a file should be: move it away",
    errno.ENOENT: "it was removed while the run needed it, or its folder is missing",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.EPIPE: "the program that reads this output has ended",
}

NO_MEMORY = "There is not enough memory: take a shorter window, a coarser grouping factor or bins, or a larger machine."


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Raise what is known to go wrong outside the program as an error of the family; also a decorator.

    Parameters
    ----------
    doing : what begins the message, such as ``the line items cannot be read``.
    """
    try:
        yield
    except (GroupwiseError, TimeoutError):
        # the time limit of a step is Prefect's to tell
        raise
    except Exception as error:
        known = as_ours(error, doing)
        if known is None:
            raise
        raise known from error


def as_ours(error: BaseException, doing: str = "") -> GroupwiseError | None:
    """The error as one of the family; None where it can only be a fault of the program."""
    begin = f"{doing}: " if doing else ""
    if isinstance(error, GroupwiseError):
        return error
    if isinstance(error, MemoryError):
        return ResourceError(begin + NO_MEMORY)
    if isinstance(error, TimeoutError):
        return ResourceError(f"{begin}a time limit was reached ({_first(error)}); take a shorter window, or start the run again.")
    if isinstance(error, OSError):
        return ResourceError(begin + _disk(error))
    if isinstance(error, UnicodeError):
        return DataError(f"{begin}text that is not valid Unicode ({_first(error)}); mend the column or the file.")
    return _of_library(error, begin) or _of_numbers(error, begin)


def _disk(error: OSError) -> str:
    """Which file, what the system says, and what helps."""
    names = [shorten(str(name)) for name in (error.filename, error.filename2) if name is not None]
    said = error.strerror or _first(error)
    advice = ADVICE.get(error.errno or 0, f"look at this file or folder (working directory {Path.cwd()}, which holds .groupwise)")
    if not names:
        advice += f" (the working directory is {Path.cwd()}; runs are kept in .groupwise below it)"
    return f"{' -> '.join(names)}: {said}; {advice}." if names else f"{said}; {advice}."


def _of_library(error: BaseException, begin: str) -> GroupwiseError | None:
    """DuckDB, Arrow, and Prefect with what it stands on."""
    module = _library(error)
    if module in ("duckdb", "_duckdb"):
        return _of_duckdb(error, begin)
    if module == "pyarrow":
        return DataError(f"{begin}a table cannot be read or written ({_first(error)}). Look for a damaged file, or start the run again.")
    if module in ("prefect", "httpx", "httpcore", "sqlalchemy", "sqlite3", "anyio"):
        said = _first(error).partition(" - For more")[0]
        home = os.environ.get("PREFECT_HOME", "~/.prefect")
        return ResourceError(
            f"{begin}Prefect, which runs the steps, failed: {type(error).__name__}: {said}. See whether its server answers, and its folder "
            f"{home} (PREFECT_HOME) has room, can be written to and is not locked by another program."
        )
    return None


def _library(error: BaseException) -> str:
    """The top package of the error's type; for a plain RuntimeError, of the code that raised it."""
    raised = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    module = raised[-1] if raised and type(error) is RuntimeError else type(error).__module__
    return str(module).partition(".")[0]


def _of_duckdb(error: BaseException, begin: str) -> GroupwiseError:
    kind = type(error).__name__
    if kind == "OutOfMemoryException":
        return ResourceError(f"{begin}{_first(error)}. {NO_MEMORY}")
    if kind == "IOException":
        return ResourceError(f"{begin}{_first(error)}; see whether the disk has room and the file can be read.")
    if kind in ("InternalException", "FatalException"):
        return ResourceError(f"{begin}DuckDB itself failed: {_first(error)}; see whether the source is damaged.")
    return DataError(f"{begin}{_first(error)}; mend the source, or leave such rows out with `where`.")


def _of_numbers(error: BaseException, begin: str) -> GroupwiseError | None:
    """Arithmetic that left the range of numbers: the statistics are far out of scale."""
    is_linear_algebra = type(error).__name__ == "LinAlgError"
    is_not_finite = isinstance(error, ValueError) and "infs or NaNs" in str(error)
    if not (is_linear_algebra or is_not_finite or isinstance(error, ArithmeticError)):
        return None
    return FitError(
        f"{begin}the numbers leave the range that can be calculated with ({_first(error)}): the outcome, a predictor, a weight or an "
        "offset is far out of scale, or two columns say the same. Rescale or center predictors, or leave extreme rows out with `where`."
    )


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return shorten(in_plain_words(lines[0]), SHOWN).rstrip(".") if lines else type(error).__name__
