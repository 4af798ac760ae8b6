"""Where everything of a study lies under ``publish_to``; nothing but Parquet lies under ``versions/``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from groupwise.publishing.address import has_scheme
from groupwise.publishing.folder.own_files import in_the_way, kind_of, read_file
from groupwise.publishing.pointer import read_pointer
from multilevel.errors import PublishError

STUDY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Layout:
    """Paths of one study's publications below ``root`` (the study's ``publish_to``)."""

    root: Path
    study: str

    @property
    def home(self) -> Path:
        """The study's folder."""
        return self.root / self.study

    @property
    def staging(self) -> Path:
        """Versions being written."""
        return self.home / ".staging"

    @property
    def versions(self) -> Path:
        """All versions; nothing but Parquet below it."""
        return self.home / "versions"

    @property
    def manifests(self) -> Path:
        """One file a version."""
        return self.home / "manifests"

    @property
    def reports(self) -> Path:
        """Reports and validation pages of all versions."""
        return self.home / "reports"

    @property
    def quarantines(self) -> Path:
        """Quarantined rows, by version."""
        return self.home / "quarantine"

    @property
    def pointer(self) -> Path:
        """The file that names the latest version; replaced last."""
        return self.home / "_latest.json"

    @property
    def current(self) -> Path:
        """A link to the latest version's folder."""
        return self.home / "current"

    @property
    def lock(self) -> Path:
        """Held by the run that publishes."""
        return self.home / ".lock"

    @property
    def contracts(self) -> Path:
        """The data contracts of all versions."""
        return self.home / "contracts"

    @property
    def joints(self) -> Path:
        """The joint distributions of all versions."""
        return self.home / "joint"

    @property
    def contract(self) -> Path:
        """The latest version's data contract, at one fixed path."""
        return self.home / "contract.odcs.yaml"

    def version(self, as_of: date | str, run_id: str) -> Path:
        """Folder of one version's Parquet files."""
        return self.versions / f"dt={as_of}" / f"rev={run_id}"

    def manifest(self, as_of: date | str, run_id: str) -> Path:
        """What made a version, and its files with sha256. A version is published when this exists."""
        return self.manifests / str(as_of) / f"{run_id}.json"

    def report(self, as_of: date | str, run_id: str) -> Path:
        """The version's report."""
        return self.reports / str(as_of) / f"{run_id}.html"

    def validation(self, as_of: date | str, run_id: str) -> Path:
        """The version's validation page."""
        return self.reports / str(as_of) / f"{run_id}.validation.html"

    def quarantine(self, as_of: date | str, run_id: str) -> Path:
        """Line items that the version's run quarantined."""
        return self.quarantines / str(as_of) / run_id

    def posterior(self, as_of: date | str, run_id: str) -> Path:
        """The version's posterior, for ArviZ, beside its report."""
        return self.reports / str(as_of) / f"{run_id}.posterior.nc"

    @property
    def folders(self) -> tuple[Path, ...]:
        """The study's folder and those directly below it."""
        return (
            self.home,
            self.staging,
            self.versions,
            self.manifests,
            self.reports,
            self.quarantines,
            self.contracts,
            self.joints,
        )

    def joint(self, as_of: date | str, run_id: str) -> Path:
        """The version's joint distribution, of before it was kept as tables."""
        return self.joints / str(as_of) / f"{run_id}.npz"

    def joint_tables(self, as_of: date | str, run_id: str) -> Path:
        """The version's joint distribution of coefficients and effects as tables, for contrasts and predictions."""
        return self.joints / str(as_of) / run_id

    def version_contract(self, as_of: date | str, run_id: str) -> Path:
        """The version's data contract."""
        return self.contracts / str(as_of) / f"{run_id}.odcs.yaml"

    def average_cells(self, as_of: date | str, run_id: str) -> Path:
        """The cells of the version's averages, by which two versions are compared."""
        return self.joints / str(as_of) / f"{run_id}.cells.parquet"

    def attachment(self, name: str, as_of: date | str, run_id: str) -> Path:
        """A file or folder of the version besides its tables, by the name of its entry in the manifest."""
        places = {
            "report": self.report,
            "validation": self.validation,
            "joint": self.joint,
            "posterior": self.posterior,
            "contract": self.version_contract,
            "average_cells": self.average_cells,
            "quarantine": self.quarantine,
            "joint_tables": self.joint_tables,
        }
        return places[name](as_of, run_id)

    def parts(self, as_of: date | str, run_id: str) -> tuple[Path, ...]:
        """Everything of one version, the manifest first: without it the rest does not count."""
        of = (as_of, run_id)
        return (
            self.manifest(*of),
            self.version(*of),
            self.report(*of),
            self.validation(*of),
            self.quarantine(*of),
            self.joint(*of),
            self.joint_tables(*of),
            self.posterior(*of),
            self.version_contract(*of),
            self.average_cells(*of),
        )

    def latest(self) -> dict[str, Any] | None:
        """The pointer's content, None before the first publication; PublishError where it cannot be read."""
        try:
            return read_pointer(read_file(self.pointer), self.pointer, self.study)
        except FileNotFoundError:
            return None

    def latest_folder(self) -> Path | None:
        """The latest version's folder, None before the first publication."""
        pointer = self.latest()
        return None if pointer is None else self.home / pointer["version"]


def open_layout(publish_to: str, study: str) -> Layout:
    """The layout of a study below ``publish_to``.

    Raises
    ------
    PublishError : no plain name, or in the place of a folder of ours lies something else or a link that leads out.
    """
    if not STUDY_NAME.fullmatch(study):
        raise PublishError(f"study {study!r}: a published name has letters, digits, underscores and hyphens, beginning with a letter.")
    layout = Layout(check_root(publish_to), study)
    inside = layout.root.resolve()
    for path in layout.folders:
        if not path.resolve().is_relative_to(inside):
            raise PublishError(f"publish_to {publish_to}: {path} is a link that leads out of it, to {path.resolve()}; remove the link.")
        if kind_of(path) is not None and not path.is_dir():
            raise PublishError(f"publish_to {publish_to}: {in_the_way(path, 'a folder')}")
    return layout


def check_root(publish_to: str) -> Path:
    """The folder to publish to; PublishError for ``..``, NUL, a file in its place, or a relative path whose links lead elsewhere."""
    if has_scheme(publish_to):
        raise PublishError(f"publish_to {publish_to}: this works on a local folder only, not yet on object storage.")
    if "\0" in publish_to or ".." in Path(publish_to).parts:
        raise PublishError(f"publish_to {publish_to!r}: write a folder below the working directory or an absolute path, without '..'.")
    root = Path(publish_to)
    above = next(path for path in (root.absolute(), *root.absolute().parents) if kind_of(path) is not None)
    if not above.is_dir():
        subject = "this" if above == root.absolute() else str(above)
        raise PublishError(f"publish_to {publish_to}: {subject} is {kind_of(above)}; name a folder.")
    if not root.is_absolute() and not root.resolve().is_relative_to(Path.cwd().resolve()):
        raise PublishError(
            f"publish_to {publish_to}: a link leads out of the working directory, to {root.resolve()}; write that path itself."
        )
    return root.absolute()
