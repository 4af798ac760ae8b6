"""A version's manifest: the run, the code, the source's fingerprint, and every published table with its sha256."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from multilevel.errors import PublishError
from multilevel.tables.catalogue import CATALOGUE_VERSION
from tasks.publishing import durable
from tasks.publishing.layout import MANIFEST_SCHEMA, Layout, require_readable


def manifest_of(
    layout: Layout,
    as_of: date,
    run_id: str,
    files: list[dict[str, Any]],
    provenance: Mapping[str, Any],
    *,
    contract: Path | None,
    joint: Path | None,
    posterior: Path | None,
) -> dict[str, Any]:
    """The manifest's content.

    Parameters
    ----------
    layout, as_of, run_id : name the version.
    files : the tables' entries. provenance : what the run says of itself; JSON-able.
    contract, joint, posterior : those files as they are on this disk now, to be measured; None or missing: the version has none.
    """
    return {
        "schema": MANIFEST_SCHEMA,
        "study": layout.study,
        "as_of": str(as_of),
        "run_id": run_id,
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": installed_version("groupwise"),
        "tables_version": CATALOGUE_VERSION,
        "version": str(layout.version(as_of, run_id).relative_to(layout.home)),
        "files": files,
        "contract": _entry(layout, layout.version_contract(as_of, run_id), contract),
        "joint": _entry(layout, layout.joint(as_of, run_id), joint),
        "posterior": _entry(layout, layout.posterior(as_of, run_id), posterior),
        **provenance,
    }


def parse_manifest(text: bytes, file: object) -> dict[str, Any]:
    """A manifest's content; PublishError where ``file`` holds something else, or is a newer program's."""
    try:
        manifest = json.loads(text)
        require_readable(manifest, file)
        return {**manifest, **{key: manifest[key] for key in ("as_of", "run_id", "published_at", "version", "files")}}
    except (ValueError, TypeError, KeyError) as error:
        raise PublishError(f"{file}: not a manifest of a version; restore it, or remove it with the version it belongs to.") from error


def _entry(layout: Layout, place: Path, file: Path | None) -> dict[str, Any] | None:
    """A file beside the tables, None where the version has none."""
    if file is None or not file.exists():
        return None
    return {"path": str(place.relative_to(layout.home)), "bytes": file.stat().st_size, "sha256": durable.sha256(file)}
