"""Files that survive a crash: each step that publishing relies on is one of these functions, so that tests can fail it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def sync_file(path: Path) -> None:
    """Force a file's content to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Force a folder's entries to disk."""
    sync_file(path)


def rename(source: Path, target: Path) -> None:
    """Move within one file system, atomically, and force the entry to disk."""
    source.replace(target)
    sync_folder(target.parent)


def write_whole(path: Path, content: str) -> None:
    """Replace a file in one step: readers see the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.{os.getpid()}")
    building.write_text(content, encoding="utf-8")
    sync_file(building)
    rename(building, path)


def point_link(link: Path, target: Path) -> None:
    """Make ``link`` a relative symbolic link to ``target``, swapped by rename."""
    building = link.with_name(f".{link.name}.{os.getpid()}")
    building.unlink(missing_ok=True)
    building.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
    rename(building, link)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
