"""What still holds line items that the source no longer has, or has otherwise: earlier versions, and what removes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import date
from typing import Any

from groupwise.publishing.manifest import FOLDERS
from groupwise.publishing.target import Target
from groupwise.run_folder import RunFolder
from groupwise.statistics.gather import SEGMENTS
from groupwise.statistics.partitions import bounds_of
from groupwise.study.study import Study
from multilevel.errors import DataError

logger = logging.getLogger("groupwise.run")

RECEIPT = "receipt"
ATTACHED = ("report", "validation", "joint", "average_cells", "posterior")
"""Files that a version has besides its tables; what it has in folders comes after them."""


def write_receipt(run: RunFolder, target: Target) -> None:
    """Write ``receipt.json`` into the run's folder, where partitions of the source are no longer as statistics of them were kept.

    It lists the partitions, every earlier version whose window meets one of them, with its files, and the command that removes them. A
    warning says so where line items are fewer than they were.
    """
    study = run.study()
    changed = [*run.read_json(SEGMENTS).get("changed", []), *_of_failed_runs(run, study)]
    if not changed:
        return
    held = [
        {"as_of": version.as_of, "run_id": version.run_id, "folder": str(version.folder), "files": _files(manifest)}
        for version in target.versions()
        if version.run_id != run.run_id and _meets(study, manifest := target.manifest(version), changed)
    ]
    command = f"groupwise prune {run.read_json('origin').get('file') or 'STUDY.yaml'} --keep 1"
    run.write_json(RECEIPT, {"study": study.name, "changed": changed, "versions": held, "remove": command if held else None})
    fewer = [one["partition"] for one in changed if (one["line_items_now"] or 0) < one["line_items_before"]]
    if fewer and held:
        logger.warning(
            "%s: line items of %s are no longer in the source. No statistics and no folder of an earlier run hold them; %d published "
            "versions with their reports and saved models do (%s). %s removes those.",
            study.name,
            ", ".join(fewer[:3]) + (f" and {len(fewer) - 3} more partitions" if len(fewer) > 3 else ""),
            len(held),
            run.path / f"{RECEIPT}.json",
            command,
        )


def _of_failed_runs(run: RunFolder, study: Study) -> list[dict[str, Any]]:
    """What earlier runs of the study have found changed that published nothing, and so wrote no receipt."""
    found: list[dict[str, Any]] = []
    for path in sorted(run.path.parent.iterdir()):
        other = RunFolder(path)
        is_earlier = path != run.path and path.is_dir() and not (path / f"{RECEIPT}.json").exists()
        if is_earlier and other.read_json("study").get("name") == study.name:
            found += other.read_json(SEGMENTS).get("changed", [])
    return found


def _files(manifest: Mapping[str, Any]) -> list[str]:
    attached = [manifest[name]["path"] for name in ATTACHED if manifest.get(name)]
    return [*attached, *(one["path"] for folder in FOLDERS for one in manifest.get(folder) or ())]


def _meets(study: Study, manifest: Mapping[str, Any], changed: list[dict[str, Any]]) -> bool:
    """Whether a version may have been made from line items of one of the partitions; where its window is not known, it may."""
    window = (manifest.get("source") or {}).get("window")
    if not window:
        return True
    start, end = map(date.fromisoformat, window)
    for one in changed:
        try:
            first, after = bounds_of(study, one["partition"])
        except DataError:
            return True
        if first is None or after is None or (first < end and start < after):
            return True
    return False
