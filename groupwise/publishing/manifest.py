"""A version's manifest: the run, the code, the source's fingerprint, and every published file with its sha256."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from groupwise.publishing import durable
from groupwise.publishing.layout import Layout
from groupwise.publishing.pointer import MANIFEST_SCHEMA, Day, RunId, Sha256, as_text, require_readable
from groupwise.publishing.sealed import DamagedError, unsealed
from multilevel.catalogue.published_tables import CATALOGUE_VERSION
from multilevel.errors import PublishError

ATTACHMENTS = ("report", "validation", "posterior", "contract", "average_cells")
"""Files that a version may have besides its tables, each by the name of its entry and of the layout's method."""

EARLIER = ("joint",)
"""Files that versions had before: nothing writes them any more."""

FOLDERS = ("quarantine", "joint_tables")
"""Folders of files that a version may have, likewise."""


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")

    path: str
    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class _Table(_File):
    table: Annotated[str, StringConstraints(pattern="^[a-z_]{1,63}$")]
    rows: int


class _Manifest(BaseModel):
    """The fields that programs read. Manifests before 1.1 have no ``started_at``, no entry of report, validation page and quarantine."""

    model_config = ConfigDict(extra="ignore")

    study: str
    as_of: Day
    run_id: RunId
    published_at: AwareDatetime
    started_at: AwareDatetime | None = None
    tables_version: str
    version: str
    files: Annotated[tuple[_Table, ...], Field(min_length=1)]
    report: _File | None = None
    validation: _File | None = None
    joint: _File | None = None
    posterior: _File | None = None
    contract: _File | None = None
    average_cells: _File | None = None
    quarantine: tuple[_File, ...] = ()
    joint_tables: tuple[_File, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A file of a version: its path below the study's folder, its size in bytes, its sha256."""

    path: str
    bytes: int
    sha256: str


def manifest_of(
    layout: Layout,
    as_of: date,
    run_id: str,
    files: list[dict[str, Any]],
    provenance: Mapping[str, Any],
    *,
    started_at: datetime,
    attachments: Mapping[str, Path | None],
    folders: Mapping[str, Path | None],
) -> dict[str, Any]:
    """The manifest's content.

    Parameters
    ----------
    layout, as_of, run_id : name the version.
    files : the tables' entries. provenance : what the run says of itself; JSON-able. started_at : when the run started.
    attachments : the files of ``ATTACHMENTS`` as they are on this disk now, to be measured; None or missing: the version has none.
    folders : those of ``FOLDERS``, likewise.
    """
    of = (as_of, run_id)
    return {
        "schema": MANIFEST_SCHEMA,
        "study": layout.study,
        "as_of": str(as_of),
        "run_id": run_id,
        "started_at": as_text(started_at),
        "published_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": installed_version("groupwise"),
        "tables_version": CATALOGUE_VERSION,
        "version": str(layout.version(*of).relative_to(layout.home)),
        "files": files,
        **{name: _entry(layout, layout.attachment(name, *of), attachments.get(name)) for name in ATTACHMENTS},
        **{name: _entries(layout, layout.attachment(name, *of), folders.get(name)) for name in FOLDERS},
        **provenance,
    }


def parse_manifest(text: bytes, file: object, layout: Layout, as_of: str, run_id: str) -> dict[str, Any]:
    """The manifest of a version; PublishError where ``file`` holds something else, was changed, or is a newer program's."""
    try:
        content = unsealed(text)
        if content["run_id"] != run_id:
            raise DamagedError("it speaks of another version")
        require_readable(content, file)
        _require_agreement(_Manifest.model_validate(content), layout, as_of, run_id)
    except (ValueError, TypeError, KeyError) as error:
        why = f" ({error})" if isinstance(error, DamagedError) else ""
        raise BrokenManifestError(
            f"{file}: not the manifest of a version{why}; restore it, or remove it: the next run then removes the version it belongs to."
        ) from error
    return content


class BrokenManifestError(PublishError):
    """A file in the place of a manifest that is none, or no longer what was written."""


def entries(manifest: Mapping[str, Any]) -> Iterator[Entry]:
    """Every file that the manifest speaks of, the tables first."""
    for each in manifest["files"]:
        yield Entry(f"{manifest['version']}/{each['path']}", each["bytes"], each["sha256"])
    inside = (each for name in FOLDERS for each in manifest.get(name) or ())
    for each in (*(manifest.get(name) for name in (*ATTACHMENTS, *EARLIER)), *inside):
        if each is not None:
            yield Entry(each["path"], each["bytes"], each["sha256"])


def entry_of(manifest: Mapping[str, Any], name: str) -> Entry | None:
    """The entry of one of ``ATTACHMENTS`` or ``EARLIER``; None where the version has none."""
    found = manifest.get(name)
    return None if found is None else Entry(found["path"], found["bytes"], found["sha256"])


def entries_of(manifest: Mapping[str, Any], name: str) -> list[Entry]:
    """The entries of one of ``FOLDERS``; none where the version has none."""
    return [Entry(each["path"], each["bytes"], each["sha256"]) for each in manifest.get(name) or ()]


def _require_agreement(manifest: _Manifest, layout: Layout, as_of: str, run_id: str) -> None:
    """Names and paths are those of this version, so that no manifest leads to files of another, or out of the study's folder."""
    of = (as_of, run_id)
    if (manifest.study, manifest.as_of, manifest.run_id) != (layout.study, *of) or manifest.version != _inside(layout, layout.version(*of)):
        raise DamagedError("it speaks of another version")
    kept = [
        (found, _inside(layout, layout.attachment(name, *of)))
        for name in (*ATTACHMENTS, *EARLIER)
        if (found := getattr(manifest, name)) is not None
    ]
    for name in FOLDERS:
        folder = _inside(layout, layout.attachment(name, *of))
        kept += [(found, f"{folder}/{Path(found.path).name}") for found in getattr(manifest, name)]
    kept += [(found, f"{found.table}.parquet") for found in manifest.files]
    if any(found.path != path for found, path in kept):
        raise DamagedError("it speaks of files of another version")


def _inside(layout: Layout, path: Path) -> str:
    return path.relative_to(layout.home).as_posix()


def _entries(layout: Layout, place: Path, folder: Path | None) -> list[dict[str, Any] | None]:
    """The files of a folder beside the tables."""
    files = [] if folder is None or not folder.is_dir() else sorted(folder.iterdir())
    return [_entry(layout, place / file.name, file) for file in files]


def _entry(layout: Layout, place: Path, file: Path | None) -> dict[str, Any] | None:
    """A file beside the tables, None where the version has none."""
    if file is None or not file.exists():
        return None
    return {"path": _inside(layout, place), "bytes": file.stat().st_size, "sha256": durable.sha256(file)}
