"""What a connection that runs users' SQL can reach: the declared source, the run's folder, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from groupwise.source.source_files import exactly, is_remote, local_files

MOST_LISTED_FILES = 500
"""Files of one pattern up to which each is named; beyond that their folder is."""
_WILD = frozenset("*?[{")


def seal(connection: duckdb.DuckDBPyConnection, patterns: Sequence[str], folder: Path | None) -> None:
    """Close a connection to every file but those of ``patterns`` and what is in ``folder``, for good.

    What is attached already stays readable, spilling goes on, and no setting can be changed afterwards.
    """
    found = [place for pattern in patterns for place in places(pattern)] + ([f"{folder.absolute()}/"] if folder is not None else [])
    # DuckDB asks for the pattern first, then for each file that it matches
    named = dict.fromkeys(name for place in found for name in (place, exactly(place)))
    connection.execute("set allowed_paths = $files", {"files": [place for place in named if not place.endswith("/")]})
    folders = [place for place in named if place.endswith("/")]
    connection.execute("set allowed_directories = $folders", {"folders": folders})
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def places(pattern: str) -> list[str]:
    """The files of a path, an address or a glob; their folder, ending in ``/``, where they are many or cannot be listed.

    A folder stands for the files that are in it, so that those which links bring in from elsewhere are named besides.
    """
    if is_remote(pattern):
        return [_folder(pattern)] if _WILD & set(pattern) else [pattern]
    files = local_files(pattern)
    if len(files) > MOST_LISTED_FILES:
        folder = _folder(str(Path(pattern).absolute()))
        return [folder, *_linked(files, folder)]
    return [str(file.absolute()) for file in files]


def readable(pattern: str) -> list[str]:
    """How a pattern is written in a query on a sealed connection: its files, each meaning itself, or the pattern."""
    found = places(pattern)
    return [pattern] if any(place.endswith("/") for place in found) else [exactly(file) for file in found]


def _linked(files: Sequence[Path], folder: str) -> list[str]:
    """Those of the files that are not below the folder in truth."""
    inside = Path(folder).resolve()
    is_inside = {parent: parent.resolve().is_relative_to(inside) for parent in {file.parent for file in files}}
    return [
        str(file.absolute())
        for file in files
        if not is_inside[file.parent] or (file.is_symlink() and not file.resolve().is_relative_to(inside))
    ]


def _folder(pattern: str) -> str:
    """The part of a glob before its first wildcard, up to a slash."""
    fixed = pattern[: min(at for at, character in enumerate(pattern) if character in _WILD)]
    return fixed[: fixed.rindex("/") + 1]
