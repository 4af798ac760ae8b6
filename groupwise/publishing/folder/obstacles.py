"""What keeps a publication from being written inside its own tree: looked for before a run spends anything, and again under the lock."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from groupwise.publishing.catalog_sql import CATALOG, CATALOG_LOCK
from groupwise.publishing.folder.own_files import in_the_way, kind_of
from groupwise.publishing.layout import Layout
from multilevel.errors import PublishError

MOST_NAMED = 3
INDEX = "index.html"
# folders of a day: dt=2026-01-01 below versions/, 2026-01-01 elsewhere
OF_A_DAY = re.compile(r"(dt=)?\d{4}-\d{2}-\d{2}")


def require_clear(layout: Layout) -> None:
    """Raise PublishError, naming up to three, where anything but files and folders of ours is in the way of writing.

    That is: a folder, link, pipe or socket in the place of a file; a file in the place of a folder; and a link, pipe, socket or device
    anywhere in the study's tree (a link to another folder of the tree would have the clean-up remove what is another version's). Foreign
    files and folders do no harm.
    """
    try:
        found = list(islice(_obstacles(layout), MOST_NAMED))
    except OSError as error:
        raise PublishError(f"{layout.study}: {error.filename or layout.home} cannot be looked at: {error.strerror or error}.") from error
    if found:
        raise PublishError(f"{layout.study}: nothing can be published to {layout.root}. " + "\n".join(found))


def _obstacles(layout: Layout) -> Iterator[str]:
    root = layout.root
    for path in (root / CATALOG, root / CATALOG_LOCK, root / INDEX, layout.pointer, layout.lock, layout.contract):
        if kind_of(path) not in ("a file", None):
            yield in_the_way(path, "a file")
    if kind_of(layout.current) not in ("a link", None):
        yield in_the_way(layout.current, "a link")
    for folder in layout.folders:
        if kind_of(folder) not in ("a folder", None):
            yield in_the_way(folder, "a folder")
        elif folder not in (layout.home, layout.staging) and folder.is_dir():
            yield from _inside(folder)


def _inside(folder: Path) -> Iterator[str]:
    """What is neither file nor folder at any depth below ``folder``, and a file that has the name of a day's folder."""
    with os.scandir(folder) as found:
        listed = sorted(found, key=lambda entry: entry.name)
    for entry in listed:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _inside(path)
        elif OF_A_DAY.fullmatch(entry.name):
            yield in_the_way(path, "a folder")
        elif not entry.is_file(follow_symlinks=False):
            yield in_the_way(path, "files and folders")
