"""A published version: what is known of it, and the order of several."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from groupwise.publishing.address import Address
from groupwise.publishing.pointer import moment_of
from multilevel.errors import PublishError

log = logging.getLogger("groupwise.publishing")


@dataclass(frozen=True)
class Version:
    """One published version. ``folder`` holds its tables; ``published_at`` and ``started_at`` are ISO timestamps in UTC.

    ``started_at`` is empty for a version from before manifests had it. ``model``: its formula and family, empty where only the pointer was
    read.
    """

    as_of: str
    run_id: str
    published_at: str
    folder: Path | Address
    is_latest: bool
    started_at: str = ""
    model: str = ""


def find_version(known: Sequence[Version], study: str, run_id: str) -> Version:
    """The one that a run published; PublishError names the newest of those there are."""
    found = next((version for version in known if version.run_id == run_id), None)
    if found is None:
        newest = ", ".join(version.run_id for version in known[:5]) or "none"
        raise PublishError(f"{study}: no version has the run id {run_id}; the newest are {newest}.")
    return found


def check_keep(study: str, keep: int) -> None:
    """Raise PublishError where nothing would be kept."""
    if keep < 1:
        raise PublishError(f"{study}: --keep {keep}: keep at least one version.")


def in_order(found: Iterable[Version]) -> list[Version]:
    """Newest as_of first, then the run that started last, or was published last where no start is known."""
    return sorted(found, key=lambda version: (version.as_of, _moment(version), version.published_at, version.run_id), reverse=True)


def version_of(manifest: Mapping[str, Any], folder: Path | Address, pointed: tuple[str, str] | None) -> Version:
    """The version that a manifest describes; ``pointed`` is the one that the pointer names."""
    of = (str(manifest["as_of"]), str(manifest["run_id"]))
    return Version(*of, str(manifest["published_at"]), folder, of == pointed, str(manifest.get("started_at") or ""), _model(manifest))


def _model(manifest: Mapping[str, Any]) -> str:
    definition = manifest.get("study_definition")
    if not isinstance(definition, Mapping) or "formula" not in definition:
        return ""
    return f"{definition['formula']} ({definition.get('family')})"


def left_out(study: str, error: PublishError) -> None:
    """Name in the log what lies among the manifests and is none."""
    log.warning("%s: left out: %s", study, error)


def _moment(version: Version) -> datetime:
    moment = moment_of(version.started_at or version.published_at)
    return moment if moment is not None else datetime.min.replace(tzinfo=UTC)
