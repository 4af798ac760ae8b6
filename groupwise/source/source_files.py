"""The files behind a source: which they are, and whether they are still as they were."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from groupwise.source.listing import check_start, matching_files

FILE_ADDRESS = re.compile(r"file:(?:///|//localhost/|/(?!/))(?P<path>.+)", re.IGNORECASE | re.DOTALL)


def plain_path(text: str) -> str:
    """A path or glob without ``file:``, read as DuckDB reads such an address: no percent-encoding, no query. Anything else as it is.

    Raises
    ------
    ValueError : the address names another host, or no file.
    """
    if not text.lower().startswith("file:/"):
        return text
    found = FILE_ADDRESS.fullmatch(text)
    path = "" if found is None else found["path"].lstrip("/")
    if not path:
        raise ValueError("a file: address names a file of this machine (file:///folder/lines.parquet); write the path itself")
    return f"/{path}"


def plain_pattern(text: str) -> str:
    """``plain_path`` of what may be a glob; ValueError also where it begins in the root folder."""
    path = plain_path(text)
    return path if is_remote(path) else check_start(path)


def local_files(pattern: str) -> list[Path]:
    """Local files of a path or glob, sorted; the pattern itself where it is a file's own name. SourceError: too much to look at."""
    return [Path(pattern)] if Path(pattern).is_file() else matching_files(pattern)


def exactly(path: str) -> str:
    """A file's path as a pattern for DuckDB's readers, which would take ``a[1].parquet`` for ``a1.parquet``: this file and no other."""
    return path if is_remote(path) else re.sub(r"[*?\[]", r"[\g<0>]", path)


def is_remote(pattern: str) -> bool:
    """Whether this is an address rather than a path; such files are not listed."""
    return "://" in pattern


def source_state(database: str | None, files: Sequence[str]) -> str:
    """Names, sizes, modification times and inodes of a source's files, as one short text that changes with any of them.

    A run reads its source more than once (fingerprint, rules, cells); the same text each time means that no writer came between.
    """
    found: list[Path] = []
    if database is not None:
        # a writer's log lies beside the file until it is merged into it
        found = [Path(database), Path(database + ".wal")]
    for pattern in files:
        # an address of a scheme that DuckDB does not know (foo://x) is a path to it
        found += local_files(pattern)
    digest = hashlib.sha256("\n".join(files).encode())
    for file in found:
        if file.exists():
            status = file.stat()
            digest.update(f"\n{file}\t{status.st_size}\t{status.st_mtime_ns}\t{status.st_ino}".encode())
    return digest.hexdigest()[:16]
