"""Publish: all tables of a run or none of them. Staged, synced, read again, renamed into place; manifest, link and, last, the pointer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from multilevel.errors import PublishError
from multilevel.tables.catalogue import OPTIONAL_TABLES, TABLES, check_table
from tasks.object_storage.address import Address
from tasks.publishing import durable, locking
from tasks.publishing.catalog_sql import write_catalog
from tasks.publishing.contract import contract_text, put_contract
from tasks.publishing.layout import MANIFEST_SCHEMA, RUN_ID, Layout, open_layout
from tasks.publishing.manifest import manifest_of
from tasks.publishing.stage import NOTHING_BESIDE, Beside, Staged, placed, stage
from tasks.publishing.sweep import sweep, withdraw


@dataclass(frozen=True)
class Publication:
    """One version in place. ``is_latest`` is False where a later as_of is published already (a backfill)."""

    folder: Path | Address
    manifest: Path | Address
    report: Path | Address | None
    is_latest: bool


def publish(
    tables: Mapping[str, pa.Table],
    *,
    publish_to: str,
    study: str,
    as_of: date,
    run_id: str,
    provenance: Mapping[str, Any],
    beside: Beside = NOTHING_BESIDE,
    waiting: Callable[[str], None] | None = None,
) -> Publication:
    """Put a run's tables in place as one version.

    Parameters
    ----------
    tables : the six published tables by name, and the optional ones that the study asks for, each sorted by its key.
    publish_to : root folder.
    study, as_of, run_id : name the version.
    provenance : goes into the manifest (source fingerprint, counts, gates); JSON-able. Its ``study_definition`` words the contract.
    beside : files to keep beside the tables.
    waiting : told when another run of the study holds the lock.

    Raises
    ------
    PublishError
        A table breaks its contract, the disk is full or not writable, or the version exists. What was published before is untouched.
    """
    check_run_id(study, run_id)
    layout = open_layout(publish_to, study)
    check_contract(tables)
    try:
        durable.make_folder(layout.home)
        with turn(layout, waiting):
            sweep(layout)
            if layout.version(as_of, run_id).exists():
                raise PublishError(f"{study}: version {layout.version(as_of, run_id)} exists already; a run publishes once.")
            return _put_in_place(layout, tables, as_of, run_id, provenance, beside)
    except OSError as error:
        raise PublishError(
            f"{study}: cannot publish to {layout.home}: {error.strerror or error}. Nothing was replaced: the last good version stands."
        ) from error


def check_run_id(study: str, run_id: str) -> None:
    """Raise PublishError unless the run's id is a plain name."""
    if not RUN_ID.fullmatch(run_id):
        raise PublishError(f"{study}: run id {run_id!r}: write letters, digits, underscores and hyphens.")


def check_contract(tables: Mapping[str, pa.Table]) -> None:
    """Raise PublishError unless these are the published tables, and each keeps its contract."""
    if set(tables) - set(OPTIONAL_TABLES) != set(TABLES):
        raise PublishError(f"The tables to publish are {', '.join(sorted(TABLES))}; this run has {', '.join(sorted(tables)) or 'none'}.")
    problems = [problem for name, table in tables.items() for problem in check_table(name, table)]
    if problems:
        more = f" (and {len(problems) - 2} more)" if len(problems) > 2 else ""
        raise PublishError("Tables break their contract, nothing is published: " + "; ".join(problems[:2]) + more)


def turn(layout: Layout, waiting: Callable[[str], None] | None = None) -> AbstractContextManager[None]:
    """The study's turn: one run at a time publishes it, rolls it back or prunes it."""
    return locking.turn(layout.lock, layout.study, waiting)


def _put_in_place(
    layout: Layout, tables: Mapping[str, pa.Table], as_of: date, run_id: str, provenance: Mapping[str, Any], beside: Beside
) -> Publication:
    latest = layout.latest()
    is_latest = latest is None or str(latest["as_of"]) <= str(as_of)
    contract = contract_text(layout.study, provenance.get("study_definition", {}), tables)
    try:
        staged = stage(tables, beside, contract, layout.staging / run_id)
        report = _move(layout, staged, as_of, run_id)
        manifest = manifest_of(
            layout,
            as_of,
            run_id,
            staged.files,
            provenance,
            contract=layout.version_contract(as_of, run_id),
            joint=layout.joint(as_of, run_id),
            posterior=layout.posterior(as_of, run_id),
        )
        durable.replace_text(layout.manifest(as_of, run_id), json.dumps(manifest, indent=1, default=str))
        if is_latest:
            point_at(layout, as_of, run_id)
        durable.remove(layout.staging)
    except BaseException:
        if not _is_pointed_at(layout, run_id):
            withdraw(layout, as_of, run_id)
        raise
    return Publication(layout.version(as_of, run_id), layout.manifest(as_of, run_id), report, is_latest)


def _move(layout: Layout, staged: Staged, as_of: date, run_id: str) -> Path | None:
    """Give what is staged its final names, the tables first; returns the report's."""
    for source, target in placed(layout, staged, as_of, run_id):
        durable.make_folder(target.parent)
        durable.rename(source, target)
    return layout.report(as_of, run_id) if staged.report is not None else None


def _is_pointed_at(layout: Layout, run_id: str) -> bool:
    latest = layout.latest()
    return latest is not None and latest["run_id"] == run_id


def _tables_version(manifest: Path) -> str:
    """The catalogue's version under which a version was published, which may be older than this program's after a rollback."""
    return str(json.loads(manifest.read_text(encoding="utf-8"))["tables_version"])


def point_at(layout: Layout, as_of: date | str, run_id: str) -> None:
    """Make a version the latest one: the link, the catalog, the contract, and last the pointer that readers follow."""
    of = (as_of, run_id)
    durable.point_link(layout.current, layout.version(*of))
    write_catalog(layout.root)
    put_contract(layout, *of)
    pointer = {
        "schema": MANIFEST_SCHEMA,
        "tables_version": _tables_version(layout.manifest(*of)),
        "study": layout.study,
        "as_of": str(as_of),
        "run_id": run_id,
        "version": str(layout.version(*of).relative_to(layout.home)),
        "manifest": str(layout.manifest(*of).relative_to(layout.home)),
        "report": str(layout.report(*of).relative_to(layout.home)) if layout.report(*of).exists() else None,
    }
    durable.replace_text(layout.pointer, json.dumps(pointer, indent=1))
