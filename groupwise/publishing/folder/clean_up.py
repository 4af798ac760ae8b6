"""Clean-up: what runs that died have left behind, removed by the next run of the study while it holds the lock."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from groupwise.publishing import durable
from groupwise.publishing.contract import put_contract
from groupwise.publishing.layout import Layout
from groupwise.publishing.verify import checked_file, read_manifest
from multilevel.errors import PublishError

log = logging.getLogger("groupwise.publishing")


def clean_up(layout: Layout) -> None:
    """Remove staging, half-built files and whatever belongs to a version without a manifest; set ``current`` back to the pointer."""
    durable.remove(layout.staging)
    for path in list(_half_built(layout)):
        durable.remove(path)
    for path in list(_unpublished(layout)):
        durable.remove(path)
    restore_current(layout)


def restore_current(layout: Layout) -> None:
    """Let ``current`` and the contract be those of the pointer's version: a run that died before the pointer had swapped them already."""
    latest, folder = layout.latest(), layout.latest_folder()
    if latest is None:
        durable.remove(layout.contract)
    else:
        _restore_contract(layout, latest)
    if folder is None:
        durable.remove(layout.current)
    elif not leads_to(layout.current, folder):
        durable.point_link(layout.current, folder)


def leads_to(link: Path, folder: Path) -> bool:
    """Whether ``link`` is one, and of this folder."""
    return link.is_symlink() and link.resolve() == folder.resolve()


def _restore_contract(layout: Layout, latest: Mapping[str, Any]) -> None:
    of = (str(latest["as_of"]), str(latest["run_id"]))
    try:
        checked_file(layout, read_manifest(layout, *of), "contract")
    except PublishError as error:
        log.warning("%s\n%s stays as it is.", error, layout.contract)
    else:
        put_contract(layout, *of)


def withdraw(layout: Layout, as_of: object, run_id: str) -> None:
    """Take back a version that did not get as far as the pointer: ``current`` first, so that no reader is led to it."""
    restore_current(layout)
    for path in layout.parts(str(as_of), run_id):
        durable.remove(path)
    durable.remove(layout.staging)


def _half_built(layout: Layout) -> Iterator[Path]:
    for folder in (layout.home, *sorted(layout.manifests.glob("*"))):
        yield from folder.glob(f"{durable.BUILDING}*")


def _unpublished(layout: Layout) -> Iterator[Path]:
    """Versions, reports and quarantines whose manifest was never written."""
    manifests = {(path.parent.name, path.stem) for path in layout.manifests.glob("*/*.json")}
    for path in layout.versions.glob("dt=*/rev=*"):
        if (path.parent.name.removeprefix("dt="), path.name.removeprefix("rev=")) not in manifests:
            yield path
    for path in layout.reports.glob("*/*.*"):
        if (path.parent.name, path.name.split(".", 1)[0]) not in manifests:
            yield path
    for path in layout.quarantines.glob("*/*"):
        if (path.parent.name, path.name) not in manifests:
            yield path
    for path in layout.contracts.glob("*/*.odcs.yaml"):
        if (path.parent.name, path.name.split(".", 1)[0]) not in manifests:
            yield path
    for path in layout.joints.glob("*/*"):
        if (path.parent.name, path.name.split(".", 1)[0]) not in manifests:
            yield path
