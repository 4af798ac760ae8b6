"""The files that a glob of a study matches, found by looking at a bounded number of files and folders.

``pathlib`` matches the same files, but looks for as long as it takes: ``/**/lines.parquet`` would walk through every disk of the machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import translate
from itertools import groupby
from pathlib import Path

from multilevel.errors import SourceError

MOST_ENTRIES = 1_000_000
"""Files and folders looked at for one glob; a local disk gives so many in about ten seconds."""
WILD = frozenset("*?[")
EVERY_DEPTH = "**"


def check_start(pattern: str) -> str:
    """The pattern; ValueError where its wildcards begin in the root folder, so that it would look through the whole machine."""
    parts = Path(pattern).parts
    first = next((at for at, part in enumerate(parts) if WILD & set(part)), None)
    # unlike Path.is_file, false where no file can have such a name
    if first is None or os.path.isfile(pattern):  # noqa: PTH113
        return pattern
    start = Path(*parts[:first])
    if os.path.realpath(start) == os.path.realpath("/"):
        raise ValueError(
            f"{pattern} looks through the root folder of the machine; write the folder that holds the files (/data/**/*.parquet)"
        )
    return pattern


def matching_files(pattern: str) -> list[Path]:
    """Files that a glob matches, sorted; links to files are followed everywhere, links to folders where ``**`` does not stand for them.

    Raises
    ------
    SourceError : it would have to look at more than ``MOST_ENTRIES`` files and folders.
    """
    path = Path(pattern)
    parts = path.parts[1:] if path.is_absolute() else path.parts
    # ** twice in a row is ** once
    steps = [part for part, alike in groupby(parts) for part in ([part] if part == EVERY_DEPTH else alike)]
    return sorted(set(_Search(pattern).files(Path(path.anchor or "."), steps))) if steps else []


class _Search:
    """One glob, and how much it has looked at."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._looked_at = 0

    def files(self, folder: Path, steps: list[str]) -> Iterator[Path]:
        step, rest = steps[0], steps[1:]
        if step == EVERY_DEPTH:
            yield from self._at_every_depth(folder, rest)
        elif not WILD & set(step):
            yield from self._of(folder / step, rest)
        else:
            matches = re.compile(translate(step)).match
            for entry in self._entries(folder):
                if matches(entry.name):
                    yield from self._of(folder / entry.name, rest)

    def _of(self, path: Path, rest: list[str]) -> Iterator[Path]:
        # unlike Path.is_dir, false where nobody may look
        if rest and os.path.isdir(path):  # noqa: PTH112
            yield from self.files(path, rest)
        elif not rest and os.path.isfile(path):  # noqa: PTH113
            yield path

    def _at_every_depth(self, folder: Path, rest: list[str]) -> Iterator[Path]:
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            if rest:
                yield from self.files(here, rest)
            for entry in self._entries(here):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(here / entry.name)
                elif not rest and entry.is_file():
                    yield here / entry.name

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as found:
                entries = list(found)
        except OSError:
            return []  # no folder, or one of another user: nothing of it matches
        self._looked_at += len(entries)
        if self._looked_at > MOST_ENTRIES:
            raise SourceError(
                f"{self._pattern} looks at more than {MOST_ENTRIES:,} files and folders (it has come to {folder}); write the folder that "
                "holds the files, with fewer wildcards."
            )
        return entries
