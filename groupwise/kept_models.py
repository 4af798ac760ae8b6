"""The saved models of a published version, and where they are kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from groupwise.study.study import Study
from multilevel.errors import SourceError

if TYPE_CHECKING:
    from groupwise.publishing.target import Target
    from groupwise.publishing.version import Version
    from multilevel.prediction.saved_averages import SavedAverages
    from multilevel.prediction.saved_model import SavedFactor, SavedModel


class SavedSource(Protocol):
    """Where saved models are kept: ``SavedFolder``, or ``NpzFile`` of versions from before; each reads what a question needs."""

    def bare(self) -> tuple[SavedModel, ...]:
        """The models, with at least what the formula needs of a table."""

    def at_rows(self, texts: Mapping[str, Sequence[str | None]]) -> tuple[SavedModel, ...]:
        """The models with at least the levels of rows with these labels by column."""

    def at_labels(self, labels: Sequence[str]) -> tuple[SavedModel, ...]:
        """The models with at least the levels that ``labels`` name."""

    def factors(self) -> Mapping[str, SavedFactor]:
        """Every factor with all of its levels."""

    def averages(self, factor: str, labels: Sequence[str]) -> tuple[SavedAverages, ...]:
        """The published averages of at least the levels that ``labels`` name, the headline's first."""

    def highest(self, factor: str, of: str | None, size: int, parent: str | None) -> list[str]:
        """The levels with the highest averages, of those below ``parent`` if it is named."""


@dataclass(frozen=True)
class SavedModels:
    """The saved models of one published version: one, or the two parts of a two-part model; and its published averages."""

    version: Version
    source: SavedSource


@contextmanager
def reading_saved(study: Study, run_id: str | None = None) -> Iterator[SavedModels]:
    """The saved models of the latest version, or of that of ``run_id``; of a store they are fetched, and there until the block ends.

    Raises
    ------
    SourceError
        Nothing is published, no such version, or the version keeps nothing; the message says why.
    """
    from groupwise.publishing.target import open_target

    target = open_target(study.publish_to, study.name)
    version = _version(study, target, run_id)
    with tempfile.TemporaryDirectory(prefix="groupwise-") as folder:
        yield saved_of(study, version, target.joint(version, Path(folder)))


def saved_of(study: Study, version: Version, kept: Path | None) -> SavedModels:
    """The saved models in a version's folder or file; SourceError where it has none, with the reason."""
    if kept is None:
        raise SourceError(f"{study.name}: run {version.run_id} has no saved joint distribution: {_why(study)}.")
    if kept.is_dir():
        from multilevel.prediction.saved_folder import SavedFolder

        return SavedModels(version, SavedFolder(kept))
    from multilevel.prediction.npz_file import NpzFile

    return SavedModels(version, NpzFile(kept))


def _version(study: Study, target: Target, run_id: str | None) -> Version:
    if run_id is None:
        latest = target.latest()
        if latest is None:
            raise SourceError(f"{study.name}: nothing is published in {study.publish_to} yet; run groupwise estimate first.")
        return latest
    found = [version for version in target.versions() if version.run_id == run_id]
    if not found:
        raise SourceError(f"{study.name}: no version of run {run_id!r} in {study.publish_to}; groupwise diff lists them.")
    return found[0]


def _why(study: Study) -> str:
    if study.privacy is not None:
        return "under privacy nothing of single groups is kept besides the tables"
    return (
        "it was published under privacy, before groupwise kept one, or has too many coefficients to keep; its row joint_kept of "
        "diagnostics says which (run groupwise estimate again where there is none)"
    )
