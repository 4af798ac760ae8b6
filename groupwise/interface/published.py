"""``gw.open`` and ``gw.run``: a published version with everything that a fit in memory has, and a study's run from Python."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from groupwise.interface.estimates import Estimates
from groupwise.interface.python_words import python_words
from groupwise.interface.study_fields import StudyFields
from groupwise.kept_models import SavedModels, saved_of
from groupwise.progress import RunProgress
from groupwise.publishing.locate import locate
from groupwise.publishing.target import Target
from groupwise.publishing.version import Version
from groupwise.source.time_zones import local_day
from groupwise.study.study import Study
from groupwise.study.study_file import load_study, study_from
from multilevel.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa
    import xarray as xr


class Published(Estimates):
    """A published version; ``gw.open`` and ``gw.run`` give one.

    Attributes
    ----------
    study : Study
        The study as the version's manifest has it, with the place that the version was opened from.
    """

    def __init__(self, target: Target, version: Version) -> None:
        self._target, self._version = target, version
        self.manifest: Mapping[str, Any] = target.manifest(version)
        fields = {**self.manifest["study_definition"], "publish_to": target.place}
        self.study: Study = study_from(fields, f"{target.study}, run {version.run_id}: the manifest's study")

    @cached_property
    def arrow_tables(self) -> Mapping[str, pa.Table]:
        """The published tables by name, as Arrow tables, each held against the manifest; docs/tables.md describes every column."""
        return self._target.tables(self._version)

    @property
    def folder(self) -> str:
        """Where the version's tables are: a folder, or an address in object storage."""
        return str(self._version.folder)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the report that was published with the version.

        Parameters
        ----------
        path : path
            The HTML file to write.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        SourceError
            The version has no report. PublishError: it is damaged.
        """
        with self._attachment("report") as file:
            if file is None:
                raise SourceError(f"{self.study.name}: run {self.run_id} was published without a report.")
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            return Path(shutil.copyfile(file, path))

    @contextmanager
    def _attachment(self, name: str) -> Iterator[Path | None]:
        with tempfile.TemporaryDirectory(prefix="groupwise-") as folder:
            yield self._target.attachment(self._version, name, Path(folder))

    @contextmanager
    def _saved(self) -> Iterator[SavedModels]:
        with tempfile.TemporaryDirectory(prefix="groupwise-") as folder:
            yield saved_of(self.study, self._version, self._target.joint(self._version, Path(folder)))

    def to_arviz(self) -> xr.DataTree:
        """The posterior that was published with the version, as ArviZ reads it.

        Returns
        -------
        DataTree
            Groups as ``Fit.to_arviz`` has them; ``log_likelihood`` where it is not larger than 32 MB.

        Raises
        ------
        SourceError
            The version keeps no posterior: the study asks for ``draws``, and its engine is bayesian.
        """
        with self._attachment("posterior") as file:
            if file is None:
                raise SourceError(
                    f"{self.study.name}: run {self.run_id} keeps no posterior; run it with engine: bayesian and draws: {{rows: 1000}}."
                )
            import xarray as xr

            tree = xr.open_datatree(file, engine="h5netcdf")
            return tree.load()

    def _facts(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return {}, {}


@python_words("the published version cannot be opened")
def open_version(place: str | os.PathLike[str] | Study, *, run_id: str | None = None) -> Published:
    """Open a published version.

    Parameters
    ----------
    place : path, address or Study
        ``published/line_spend``, the folder of a version below it, the same in object storage (``s3://bucket/prefix/line_spend``), a study
        or its YAML file.
    run_id : str, optional
        The run that published the version. Default: the latest version.

    Returns
    -------
    Published
        The estimates of the version, each table held against the manifest as it is read.

    Raises
    ------
    SourceError
        Nothing is published there. PublishError: there is no such version, or what is there is damaged.

    Examples
    --------
    >>> import groupwise as gw
    >>> published = gw.open("published/sleep")
    >>> published.summary().n_rows
    180
    """
    return Published(*locate(place if isinstance(place, Study) else os.fspath(place), run_id))


@python_words("the study cannot be run")
def run(
    study: Study | str | os.PathLike[str],
    *,
    engine: Literal["bayesian", "likelihood"] | None = None,
    progress: Callable[[str, float], None] | None = None,
    force: bool = False,
    **fields: Unpack[StudyFields],
) -> Published:
    """Run a study in this process: validate, compress, fit, check, publish; what ``groupwise estimate`` does where Prefect has no server.

    Parameters
    ----------
    study : Study or path
        The study, or its YAML file.
    engine : {"bayesian", "likelihood"}, optional
        Override of the study's engine.
    progress : callable, optional
        Called with what is done and the share of the step that is done, 0 to 1.
    force : bool
        Run and publish although a version was made from the same inputs.
    **fields
        Fields of the study to override: ``as_of="2026-01-01"``, ``interval=0.8``, ``publish_to="elsewhere"``.

    Returns
    -------
    Published
        The version that the run published, or, unless ``force``, the one that was made from the same inputs.

    Raises
    ------
    GroupwiseError
        As ``groupwise estimate`` does; where a gate fails nothing is published.

    Examples
    --------
    >>> import groupwise as gw
    >>> source = {"parquet": "sleep.parquet"}
    >>> study = gw.Study(name="sleep", formula="Reaction ~ 1 + Days + (1 | Subject)", source=source, engine="likelihood")
    >>> gw.run(study, interval=0.8).summary().interval
    0.8
    """
    from groupwise.pipeline.own_process import run_here
    from groupwise.pipeline.run_start import begin_study
    from groupwise.retention import at_work
    from groupwise.run_folder import RunFolder, new_run_id

    loaded, file = (study, "") if isinstance(study, Study) else (load_study(os.fspath(study)), os.fspath(study))
    changed: dict[str, Any] = {**fields, **({} if engine is None else {"engine": engine})}
    if changed:
        loaded = study_from({**loaded.model_dump(mode="json"), **changed}, "gw.run")
    folder = begin_study(loaded, file, new_run_id(), force=force, overrides=_as_yaml(changed), made_by="gw.run")
    with at_work(RunFolder(Path(folder))):
        ended = run_here(folder, None, local_day(datetime.now(UTC), loaded.zone), _Told(progress))
    return Published(*locate(loaded, ended.run_id))


def _as_yaml(changed: Mapping[str, Any]) -> dict[str, str]:
    """Fields as ``--set`` takes them: JSON is YAML."""
    return {name: json.dumps(value, default=str, ensure_ascii=False) for name, value in changed.items()}


class _Told(RunProgress):
    """Progress of a run as one call of the caller's function after another."""

    def __init__(self, tell: Callable[[str, float], None] | None) -> None:
        self._tell = tell or (lambda doing, share: None)

    def begin(self, name: str, title: str) -> None:
        """A step begins."""
        self._tell(title, 0.0)

    def share(self, doing: str, done: float) -> None:
        """How much of the step is done."""
        self._tell(doing, done)
