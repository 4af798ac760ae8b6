"""Publish: all tables of a run or none of them. Staged, synced, read again, renamed into place; manifest, link and, last, the pointer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from groupwise.publishing import durable
from groupwise.publishing.catalog_sql import write_catalog
from groupwise.publishing.contract import contract_text, put_contract
from groupwise.publishing.folder import lock
from groupwise.publishing.folder.clean_up import clean_up, withdraw
from groupwise.publishing.folder.obstacles import require_clear
from groupwise.publishing.layout import Layout, open_layout
from groupwise.publishing.manifest import ATTACHMENTS, FOLDERS, manifest_of
from groupwise.publishing.pointer import MANIFEST_SCHEMA, as_text, outranked
from groupwise.publishing.publication import Confirm, Publication, check_contract, check_run_id, nobody_asks, unconfirmed
from groupwise.publishing.sealed import sealed
from groupwise.publishing.stage import NO_ATTACHMENTS, Attachments, Staged, placed, stage
from groupwise.publishing.verify import read_manifest
from multilevel.errors import PublishError


@dataclass(frozen=True)
class Run:
    """What is published: a run's tables, and what the run says of itself (parameters as of ``publish``)."""

    tables: Mapping[str, pa.Table]
    as_of: date
    run_id: str
    started_at: datetime
    provenance: Mapping[str, Any]
    attachments: Attachments
    confirm: Confirm


def publish(
    tables: Mapping[str, pa.Table],
    *,
    publish_to: str,
    study: str,
    as_of: date,
    run_id: str,
    provenance: Mapping[str, Any],
    attachments: Attachments = NO_ATTACHMENTS,
    waiting: Callable[[str], None] | None = None,
    started_at: datetime | None = None,
    confirm: Confirm = nobody_asks,
) -> Publication:
    """Put a run's tables in place as one version.

    Parameters
    ----------
    tables : the six published tables by name, and the optional ones that the study asks for, each sorted by its key.
    publish_to : root folder.
    study, as_of, run_id : name the version.
    provenance : goes into the manifest (source fingerprint, counts, gates); JSON-able. Its ``study_definition`` words the contract.
    attachments : files to keep beside the tables.
    waiting : told when another run of the study holds the lock.
    started_at : when the run started, with its timezone; None: now. Within one ``as_of`` the run that started last is the latest.
    confirm : asked just before the version counts whether the run is still wanted.

    Raises
    ------
    PublishError
        A table breaks its contract, the disk is full or not writable, something else is in the way, the version exists, or the run is
        over. What was published before is untouched. Where nobody can tell whether the run is over, its version stays and the pointer too.
    """
    check_run_id(study, run_id)
    layout = open_layout(publish_to, study)
    check_contract(tables)
    try:
        durable.make_folder(layout.home)
        with locked(layout, waiting):
            require_clear(layout)
            clean_up(layout)
            if layout.version(as_of, run_id).exists():
                raise PublishError(f"{study}: version {layout.version(as_of, run_id)} exists already; a run publishes once.")
            return _put_in_place(layout, Run(tables, as_of, run_id, started_at or datetime.now(UTC), provenance, attachments, confirm))
    except OSError as error:
        raise PublishError(
            f"{study}: cannot publish to {layout.home}: {error.strerror or error}. Nothing was replaced: the last good version stands."
        ) from error


def locked(layout: Layout, waiting: Callable[[str], None] | None = None) -> AbstractContextManager[None]:
    """The study's turn: one run at a time publishes it, rolls it back or prunes it."""
    return lock.hold_lock(layout.lock, layout.study, waiting)


def _put_in_place(layout: Layout, run: Run) -> Publication:
    of = (run.as_of, run.run_id)
    why_not = outranked(layout.latest(), str(run.as_of), run.run_id, run.started_at)
    contract = contract_text(layout.study, run.provenance.get("study_definition", {}), run.tables)
    try:
        staged = stage(run.tables, run.attachments, contract, layout.staging / run.run_id)
        _move(layout, staged, run)
        manifest = _manifest(layout, staged, run)
        unsure = run.confirm()
        durable.replace_text(layout.manifest(*of), sealed(manifest))
        if why_not is None and unsure is None:
            point_at(layout, *of)
        durable.remove(layout.staging)
    except BaseException:
        if not _is_pointed_at(layout, run.run_id):
            withdraw(layout, *of)
        raise
    if unsure is not None:
        raise PublishError(unconfirmed(layout.study, run.run_id, unsure))
    report = layout.report(*of) if staged.report is not None else None
    return Publication(layout.version(*of), layout.manifest(*of), report, why_not)


def _move(layout: Layout, staged: Staged, run: Run) -> None:
    """Give what is staged its final names, the tables first."""
    for source, target in placed(layout, staged, run.as_of, run.run_id):
        durable.make_folder(target.parent)
        durable.rename(source, target)


def _manifest(layout: Layout, staged: Staged, run: Run) -> dict[str, Any]:
    of = (run.as_of, run.run_id)
    return manifest_of(
        layout,
        *of,
        staged.files,
        run.provenance,
        started_at=run.started_at,
        attachments={name: layout.attachment(name, *of) for name in ATTACHMENTS},
        folders={name: layout.attachment(name, *of) for name in FOLDERS},
    )


def _is_pointed_at(layout: Layout, run_id: str) -> bool:
    latest = layout.latest()
    return latest is not None and latest["run_id"] == run_id


def point_at(layout: Layout, as_of: date | str, run_id: str, rolled_back_at: datetime | None = None) -> None:
    """Make a version the latest one: the link, the catalog, the contract, and last the pointer that readers follow."""
    of = (str(as_of), run_id)
    manifest = read_manifest(layout, *of)
    durable.point_link(layout.current, layout.version(*of))
    write_catalog(layout.root)
    put_contract(layout, *of)
    pointer = {
        "schema": MANIFEST_SCHEMA,
        # which may be older than this program's after a rollback
        "tables_version": manifest["tables_version"],
        "study": layout.study,
        "as_of": str(as_of),
        "run_id": run_id,
        "started_at": manifest.get("started_at"),
        "rolled_back_at": None if rolled_back_at is None else as_text(rolled_back_at),
        "version": str(layout.version(*of).relative_to(layout.home)),
        "manifest": str(layout.manifest(*of).relative_to(layout.home)),
        "manifest_sha256": durable.sha256(layout.manifest(*of)),
        "report": str(layout.report(*of).relative_to(layout.home)) if layout.report(*of).exists() else None,
    }
    durable.replace_text(layout.pointer, sealed(pointer))
