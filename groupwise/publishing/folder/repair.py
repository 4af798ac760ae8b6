"""After a run that died between two steps: what follows the pointer is brought to its version by whoever reads next.

The pointer is the truth: it is replaced last, so that ``current``, the contract and the catalog can be ahead of it, and the index behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groupwise.publishing import durable
from groupwise.publishing.catalog_sql import write_catalog
from groupwise.publishing.folder.clean_up import leads_to, restore_current
from groupwise.publishing.folder.lock import turn_if_free
from groupwise.publishing.folder.obstacles import INDEX
from groupwise.publishing.folder.own_files import kind_of
from groupwise.publishing.folder.report_index import write_index
from groupwise.publishing.layout import Layout
from groupwise.publishing.manifest import entry_of
from groupwise.publishing.verify import read_manifest
from multilevel.errors import PublishError


def repair(layout: Layout) -> None:
    """Bring ``current``, contract, catalog and index to the pointer's version where they speak of another.

    A reader that may not write, or comes while a run publishes, leaves them: what it reads itself is the pointer's version.
    """
    if not layout.home.is_dir() or _agrees(layout):
        return
    with turn_if_free(layout.lock) as is_held:
        # looked at again: the run that held the lock a moment ago may have been about to move the pointer
        if not is_held or _agrees(layout):
            return
        try:
            restore_current(layout)
            write_catalog(layout.root)
            write_index(layout.root)
        except (OSError, PublishError):
            # a folder that may only be read; the command says itself what it cannot read
            return


def _agrees(layout: Layout) -> bool:
    try:
        latest = layout.latest()
        if latest is None:
            return kind_of(layout.current) != "a link" and kind_of(layout.contract) != "a file"
        folder = layout.home / latest["version"]
        if not folder.is_dir() or kind_of(layout.current) not in ("a link", None):
            return True
        return leads_to(layout.current, folder) and _has_contract(layout, latest) and _is_newer(layout.root / INDEX, layout.pointer)
    except (OSError, PublishError):
        return True


def _has_contract(layout: Layout, latest: Mapping[str, Any]) -> bool:
    entry = entry_of(read_manifest(layout, latest["as_of"], latest["run_id"]), "contract")
    if entry is None or kind_of(layout.contract) != "a file":
        return entry is None and kind_of(layout.contract) is None
    return durable.sha256(layout.contract) == entry.sha256


def _is_newer(file: Path, other: Path) -> bool:
    return file.exists() and file.stat().st_mtime_ns >= other.stat().st_mtime_ns
