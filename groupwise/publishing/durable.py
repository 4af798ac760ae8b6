"""Changes to the disk that survive a crash: every step of publishing is one of these functions, so that a test can fail any of them.

Each announces itself just before it acts. In production nobody listens; tests put a full disk or a kill there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def announce(step: str, path: Path) -> None:
    """Called with the step's name and its path just before it is taken; does nothing."""


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, each forced to disk."""
    if path.is_dir():
        return
    make_folder(path.parent)
    announce("mkdir", path)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Force a file's content, or a folder's entries, to disk."""
    announce("fsync", path)
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(source: Path, target: Path) -> None:
    """Move within one file system, atomically, and force the entry to disk."""
    announce("rename", target)
    source.replace(target)
    sync(target.parent)


def write_text(path: Path, content: str) -> None:
    """Write a new file and force it to disk."""
    announce("write", path)
    # never through a link, and never into a named pipe, that somebody left under this name
    with path.open("x", encoding="utf-8") as file:
        file.write(content)
    sync(path)


def write_table(path: Path, table: pa.Table, **options: Any) -> None:
    """Write a new Parquet file and force it to disk."""
    announce("write", path)
    pq.write_table(table, path, **options)
    sync(path)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file and force the copy to disk."""
    announce("write", target)
    shutil.copyfile(source, target)
    sync(target)


def replace_text(path: Path, content: str) -> None:
    """Replace a file in one step: readers see the old content or the new, never a part."""
    make_folder(path.parent)
    building = building_name(path)
    _discard(building)
    write_text(building, content)
    rename(building, path)


def point_link(link: Path, target: Path) -> None:
    """Make ``link`` a relative symbolic link to ``target``, swapped by rename."""
    building = building_name(link)
    _discard(building)
    announce("link", building)
    building.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
    rename(building, link)


def remove(path: Path) -> None:
    """Remove a folder with all that is in it, or a link (never what it leads to), file or pipe; nothing if it is not there."""
    if not os.path.lexists(path):
        return
    announce("remove", path)
    _discard(path)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


BUILDING = ".building-"


def building_name(path: Path) -> Path:
    """Where a file is built before it is renamed to ``path``."""
    return path.with_name(f"{BUILDING}{path.name}")


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
