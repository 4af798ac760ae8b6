"""Where statistics are kept: a folder, or a bucket. Every file is there whole or not at all, and its name holds a digest of its content.

Names, below the place and the study's own name: ``<recipe>/<partition>/<fingerprint>/<what>.<digest>.parquet``. What a name says does not
change, so that concurrent runs may write the same and nobody needs a lock; a file whose content is not that of its name counts as missing.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Protocol

from groupwise.faults import told
from groupwise.publishing.address import has_scheme, read_address
from groupwise.study.study import Study

DIGEST = 16
SUFFIX = ".parquet"
PARTIAL = ".partial-"
LEFT_OVER = timedelta(days=1)
TRIES = 5


@dataclass(frozen=True)
class Listed:
    """A file: its size in bytes, and when it was written."""

    size: int
    written: datetime


class Place(Protocol):
    """Files by name, below a study's own part of the place."""

    def names(self) -> dict[str, Listed]:
        """Every file."""

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The content of files by name; one that is not there is left out."""

    def write(self, name: str, data: bytes) -> None:
        """Write it whole; one that is there already has the same content."""

    def remove(self, name: str) -> None:
        """Remove it; nothing where it is not there."""


class Folder:
    """Files of a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> dict[str, Listed]:
        """Every file."""
        return dict(_files_below(str(self._root), ""))

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The content of files by name; one that is not there is left out."""
        found = {}
        for name in names:
            with suppress(FileNotFoundError):
                found[name] = (self._root / name).read_bytes()
        return found

    def write(self, name: str, data: bytes) -> None:
        """Write it whole."""
        path = self._root / name
        partial = path.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
        for tries_left in reversed(range(TRIES)):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                partial.write_bytes(data)
                partial.replace(path)
                break
            except FileNotFoundError:
                # another run has just removed the folder, which was empty
                if not tries_left:
                    raise
            finally:
                partial.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove it; nothing where it is not there."""
        path = self._root / name
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self._root:
                break
            try:
                folder.rmdir()
            except OSError:
                # another file is in it
                break


def _files_below(folder: str, prefix: str) -> Iterator[tuple[str, Listed]]:
    """Names begin with ``prefix``; what another run removes meanwhile is left out."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files_below(entry.path, f"{prefix}{entry.name}/")
                continue
            with suppress(FileNotFoundError):
                status = entry.stat()
                yield prefix + entry.name, Listed(status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


class Bucket:
    """Objects below an address."""

    def __init__(self, root: str) -> None:
        # obstore comes with it, which studies that keep nothing in a bucket need not have
        from groupwise.publishing.object_store.store import ObjectStore

        self._objects = ObjectStore(read_address(root))

    def names(self) -> dict[str, Listed]:
        """Every file."""
        return {name: Listed(found.size, found.modified) for name, found in sorted(self._objects.names("").items())}

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The content of objects by name, several at a time; one that is not there is left out."""
        return self._objects.read_all(names)

    def write(self, name: str, data: bytes) -> None:
        """Write it whole."""
        self._objects.create(name, data)

    def remove(self, name: str) -> None:
        """Remove it; nothing where it is not there."""
        self._objects.remove(name)


class Keep:
    """The statistics of one study, by the folder that they are in and what they are."""

    def __init__(self, place: Place) -> None:
        self._place = place

    @cached_property
    def _listed(self) -> dict[str, Listed]:
        return {name: found for name, found in self._everything.items() if name.endswith(SUFFIX) and PARTIAL not in name}

    @cached_property
    def _everything(self) -> dict[str, Listed]:
        return self._place.names()

    @cached_property
    def _names(self) -> dict[str, str]:
        """Folder and what -> the file's name, as they were when they were first asked for."""
        return {name.rsplit(".", 2)[0]: name for name in self._listed}

    @told("the statistics that are kept cannot be read")
    def listed(self, folder: str) -> Listed:
        """Bytes of a folder's files, and when the last of them was written."""
        files = [found for name, found in self._listed.items() if name.rpartition("/")[0] == folder]
        return Listed(sum(one.size for one in files), max(one.written for one in files))

    @told("the statistics that are kept cannot be read")
    def folders(self) -> list[str]:
        """Every folder with files in it."""
        return sorted({name.rpartition("/")[0] for name in self._names})

    @told("the statistics that are kept cannot be read")
    def files(self, folder: str) -> list[str]:
        """What is in a folder."""
        return sorted(name.rpartition("/")[2] for name in self._names if name.rpartition("/")[0] == folder)

    @told("the statistics that are kept cannot be read")
    def read(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """Files by folder and what; one that is not there, or has another content than its name says, is left out."""
        names = {self._names[f"{folder}/{what}"]: (folder, what) for folder, what in wanted if f"{folder}/{what}" in self._names}
        found = self._place.read_all(sorted(names))
        return {names[name]: data for name, data in found.items() if name == _name(*names[name], data)}

    @told("the statistics cannot be kept")
    def write(self, folder: str, what: str, data: bytes) -> None:
        """Keep a file; one of another content in its place goes."""
        name = _name(folder, what, data)
        before = self._names.get(f"{folder}/{what}")
        self._place.write(name, data)
        self._names[f"{folder}/{what}"] = name
        if before not in (None, name):
            self._place.remove(str(before))

    @told("statistics that are kept cannot be removed")
    def remove(self, folders: Iterable[str]) -> None:
        """Remove everything in these folders, and what runs that were killed long ago have left half-written."""
        old = datetime.now(UTC) - LEFT_OVER
        for name in [name for name, found in self._everything.items() if PARTIAL in name and found.written < old]:
            self._place.remove(name)
        gone = set(folders)
        # all of a name's contents: runs at the same time may have written the same statistics in another order of rows
        for name in sorted({*self._listed, *self._names.values()}):
            if name.rpartition("/")[0] in gone:
                self._place.remove(name)
                self._names.pop(name.rsplit(".", 2)[0], None)


def keep_of(study: Study) -> Keep:
    """Where the study keeps its statistics."""
    kept = study.statistics
    if kept is None:
        raise TypeError(f"{study.name} keeps no statistics")
    if has_scheme(kept.keep):
        return Keep(Bucket(f"{kept.keep}/{study.name}"))
    return Keep(Folder(Path(os.path.abspath(kept.keep)) / study.name))  # noqa: PTH100  a link stays one


def _name(folder: str, what: str, data: bytes) -> str:
    return f"{folder}/{what}.{hashlib.sha256(data).hexdigest()[:DIGEST]}{SUFFIX}"
