"""Where everything of a study lies under ``publish_to``; nothing but Parquet lies under ``versions/``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from multilevel.errors import PublishError

MANIFEST_SCHEMA = "1.0.0"


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

    def version(self, as_of: date | str, run_id: str) -> Path:
        """Folder of one version's Parquet files."""
        return self.home / "versions" / f"dt={as_of}" / f"rev={run_id}"

    def manifest(self, as_of: date | str, run_id: str) -> Path:
        """What made a version, and its files with sha256."""
        return self.home / "manifests" / str(as_of) / f"{run_id}.json"

    def report(self, as_of: date | str, run_id: str) -> Path:
        """The version's report."""
        return self.home / "reports" / str(as_of) / f"{run_id}.html"

    def quarantine(self, as_of: date | str, run_id: str) -> Path:
        """Line items that the version's run set aside."""
        return self.home / "quarantine" / str(as_of) / run_id

    def latest(self) -> dict[str, Any] | None:
        """The pointer's content, None before the first publication."""
        try:
            content = json.loads(self.pointer.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except json.JSONDecodeError as error:
            raise PublishError(
                f"{self.pointer}: not readable as JSON; restore it from a manifest under {self.home / 'manifests'}."
            ) from error
        return dict(content)

    def latest_folder(self) -> Path | None:
        """The latest version's folder, None before the first publication."""
        pointer = self.latest()
        return None if pointer is None else self.home / pointer["version"]


def check_root(publish_to: str) -> Path:
    """The folder to publish to; PublishError for ``..``, NUL, a file in its place, or a link that leaves it."""
    if "\0" in publish_to or ".." in Path(publish_to).parts:
        raise PublishError(f"publish_to {publish_to!r}: write a folder below the working directory or an absolute path, without '..'.")
    root = Path(publish_to)
    if root.exists() and not root.is_dir():
        raise PublishError(f"publish_to {publish_to}: this is a file; name a folder.")
    if not root.is_absolute() and not root.resolve().is_relative_to(Path.cwd().resolve()):
        raise PublishError(
            f"publish_to {publish_to}: a link leads out of the working directory, to {root.resolve()}; write that path itself."
        )
    return root.absolute()
