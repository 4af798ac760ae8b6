"""``index.html`` over all studies and dates of a folder: which versions there are, which is the latest, and their reports.

Written anew after each publication; a run that dies between the pointer and the index leaves it one version behind until the next.
"""

from __future__ import annotations

import logging
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote as url

from groupwise.html_page import static_page
from groupwise.publishing import durable
from groupwise.publishing.catalog_sql import CATALOG_LOCK
from groupwise.publishing.folder.folder_versions import versions
from groupwise.publishing.folder.lock import hold_lock
from groupwise.publishing.folder.obstacles import INDEX
from groupwise.publishing.layout import STUDY_NAME, Layout
from groupwise.publishing.verify import checked_file, latest_manifest, read_manifest
from groupwise.publishing.version import Version
from multilevel.errors import PublishError

log = logging.getLogger("groupwise.publishing")


def write_index(root: Path) -> Path:
    """Replace ``root / index.html`` in one step; links are relative, so that the folder can be served or moved as it is."""
    with hold_lock(root / CATALOG_LOCK, f"{root / INDEX}"):
        layouts = [Layout(root, folder.name) for folder in sorted(root.iterdir()) if STUDY_NAME.fullmatch(folder.name)]
        studies = [_study(layout) for layout in layouts if layout.pointer.is_file()]
        durable.replace_text(root / INDEX, static_page(files("groupwise.report") / "templates", "index", studies=studies))
    return root / INDEX


def latest_report(layout: Layout) -> Path | None:
    """The report of the version that the pointer names, held against its manifest; None where there is no version or it has none."""
    latest = layout.latest()
    if latest is None:
        return None
    manifest = latest_manifest(layout, latest)
    if "report" in manifest:
        return checked_file(layout, manifest, "report")
    # of a version from before manifests listed it
    report = layout.report(latest["as_of"], latest["run_id"])
    return report if report.is_file() else None


def _study(layout: Layout) -> dict[str, Any]:
    try:
        found = versions(layout)
    except PublishError as error:
        log.warning("%s\nThe index names no version of %s.", error, layout.study)
        found = []
    title = _title(layout, found[0]) if found else layout.study
    return {"name": layout.study, "title": title, "versions": [_version(layout, version) for version in found]}


def _title(layout: Layout, version: Version) -> str:
    manifest = read_manifest(layout, version.as_of, version.run_id)
    return str(_inner(manifest, "study_definition").get("title") or layout.study)


def _inner(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    found = manifest.get(name) or manifest.get("provenance", {}).get(name) or {}
    return dict(found)


def _version(layout: Layout, version: Version) -> dict[str, Any]:
    report = layout.report(version.as_of, version.run_id)
    return {
        "as_of": version.as_of,
        "published_at": version.published_at[:19].replace("T", " "),
        "run_id": version.run_id,
        "is_latest": version.is_latest,
        "report": url(str(report.relative_to(layout.root))) if report.is_file() else None,
    }
