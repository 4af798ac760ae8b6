"""``gw.fit``: a formula fitted to data in memory, by the same steps as a study's run."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from groupwise.interface.estimates import Estimates
from groupwise.interface.kept_rows import ROWS_FILE, keep_rows, source_of
from groupwise.interface.python_words import python_words
from groupwise.interface.study_fields import StudyFields
from groupwise.kept_models import SavedModels, saved_of
from groupwise.pipeline.line_items import cells_of
from groupwise.pipeline.model_fit import fit as fit_run
from groupwise.publishing.version import Version
from groupwise.redaction import protect
from groupwise.run_folder import RunFolder, new_run_id
from groupwise.source.describe import extract
from groupwise.source.time_zones import local_day
from groupwise.statistics.gather import counting
from groupwise.statistics.one_scan import scanned_cells
from groupwise.study.study import Study
from groupwise.study.study_file import study_from
from groupwise.validation.validate import validate
from groupwise.validation.window_counts import noted_counts
from multilevel.errors import GateWarning, StudyError

if TYPE_CHECKING:
    import pyarrow as pa
    import xarray as xr

    from groupwise.interface.published import Published
    from multilevel.study.options import StudyFit

UNNAMED = "fit"


class Fit(Estimates):
    """A model fitted to data in memory; ``gw.fit`` makes one.

    The rows that it was fitted to stay in a temporary folder for as long as the fit is in use.

    Attributes
    ----------
    study : Study
        The study that this fit is of, every field with the value that it had.
    """

    def __init__(self, run: RunFolder, fitted: StudyFit) -> None:
        self.study: Study = run.study()
        self._run, self._fitted = run, fitted
        weakref.finalize(self, shutil.rmtree, run.path.parent, ignore_errors=True)

    @cached_property
    def arrow_tables(self) -> Mapping[str, pa.Table]:
        """The tables by name, as Arrow tables; docs/tables.md describes every column."""
        return self._run.read_tables()

    @python_words("the report cannot be written")
    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the report of the fit, one HTML file that needs no network.

        Parameters
        ----------
        path : path
            The file to write; its folder is made.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        PublishError
            The file cannot be written.

        Examples
        --------
        >>> fit.report("report.html").name
        'report.html'
        """
        from groupwise.report import write_report

        report, validation = self._facts()
        fields = {**self.study.model_dump(mode="json"), "file": "", **_origin(self._run)}
        return write_report(self.arrow_tables, report, validation, Path(path), study=fields)

    @python_words("the tables cannot be published")
    def publish(self, publish_to: str | os.PathLike[str] | None = None) -> Published:
        """Publish the tables as a version of the study that ``name`` names, with report, manifest and all that a run publishes.

        Parameters
        ----------
        publish_to : path or address, optional
            The folder, or ``s3://bucket/prefix``. Default: the study's ``publish_to``.

        Returns
        -------
        Published
            The version.

        Raises
        ------
        StudyError
            The fit has no name. GateError: it failed a gate. PublishError: the place refuses.

        Examples
        --------
        >>> fit.publish("published").summary().n_rows
        180
        """
        from groupwise.interface.published import open_version
        from groupwise.pipeline.model_fit import check
        from groupwise.pipeline.release import release
        from groupwise.pipeline.steps import record
        from groupwise.publishing.target import open_target
        from groupwise.validation.validation_page import write_validation_page

        if self.study.name == UNNAMED:
            raise StudyError(f"The fit has no name to be published under: gw.fit(..., name='line_spend') instead of {UNNAMED!r}.")
        place = self.study.publish_to if publish_to is None else os.fspath(publish_to)
        self.study = study_from({**self.study.model_dump(mode="json"), "publish_to": place}, "publish")
        open_target(place, self.study.name).check()
        self._run.write_study(self.study, "", **_origin(self._run))
        check(self._run)
        record(str(self._run.path))
        write_validation_page(self._run)
        release(self._run)
        return open_version(self.study, run_id=self.run_id)

    @python_words("the posterior cannot be handed over")
    def to_arviz(self) -> xr.DataTree:
        """The posterior as ArviZ reads it.

        Returns
        -------
        DataTree
            Group ``posterior``, every variable by chain and draw, coordinates named by level: ``beta``, per grouping factor f
            ``effects_f``, ``sd_f`` and ``correlation_f``, and ``sigma``, ``phi`` or ``shape``. Group ``observed_data``: the cells, which
            are the observations of a fit (all rows alike in groups and predictors). Group ``log_likelihood``: of all rows of a cell
            together, of discrete outcomes. Group ``sample_stats``: what NUTS says of every draw; independent draws have none.

        Raises
        ------
        StudyError
            The fit has no posterior, or a two-part model has one for each part.

        Examples
        --------
        >>> of_posterior = gw.fit(fit.study.formula, sleepstudy, sampling={"draws": 1500, "chains": 2})
        >>> of_posterior.to_arviz()["posterior"]["beta"].dims
        ('chain', 'draw', 'term')
        """
        from multilevel.prediction.posterior_file import posterior_tree

        if self.study.engine != "bayesian" or self._fitted.fit is None:
            what = "two posteriors, one of each part" if self._fitted.fit is None else "no posterior"
            raise StudyError(f"{self.study.name}: the fit has {what}; write engine='bayesian' and a family of one part.")
        if self.study.privacy is not None:
            raise StudyError(f"{self.study.name}: under privacy nothing of single groups is kept besides the tables.")
        named = {"study": self.study.name, "as_of": str(self.as_of), "run_id": self.run_id, "formula": self.study.formula}
        return posterior_tree(self._fitted.fit, {**named, "family": self.study.family})

    def _facts(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return self._run.read_json("report"), self._run.read_json("validation")

    @contextmanager
    def _saved(self) -> Iterator[SavedModels]:
        version = Version(str(self.as_of), self.run_id, "", self._run.path, is_latest=True)
        yield saved_of(self.study, version, self._run.joint if self._run.joint.exists() else None)


@python_words("the model cannot be fitted")
def fit(
    formula: str,
    data: object,
    *,
    family: str = "gaussian",
    engine: Literal["bayesian", "likelihood"] = "bayesian",
    name: str = UNNAMED,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[str, float], None] | None = None,
    **fields: Unpack[StudyFields],
) -> Fit:
    """Fit a multilevel model to a table.

    The rows go through the same steps as those of a study: checked, compressed to cells, fitted, checked again; ``groupwise estimate``
    gives the same numbers for the same rows. A formula that names a categorical column takes its levels in the order that the column's type
    gives them (pandas categoricals, Polars and DuckDB enums): the first is the reference.

    Parameters
    ----------
    formula : str
        The model in lme4's language: ``"Reaction ~ 1 + Days + (1 + Days | Subject)"``. Put a name that has spaces in backticks.
    data : table or path
        A pandas, Polars or Arrow table, anything with Arrow's C stream, a DuckDB relation, a mapping of columns, or the path of a Parquet,
        CSV, JSON or Arrow file, which is read as a study reads it. The named levels of a pandas index count as columns. Only the columns
        that are named are read.
    family : str
        gaussian, binomial, poisson, negative_binomial, gamma, hurdle_lognormal or hurdle_gamma.
    engine : {"bayesian", "likelihood"}
        The posterior, or (RE)ML and Laplace.
    name : str
        Names the published folder, where the fit is to be published.
    options : mapping, optional
        With the path of CSV files, how their text is read: ``{"delimiter": ";", "decimal": ",", "date_format": "%d/%m/%Y"}``,
        ``encoding`` and ``nulls``.
    progress : callable, optional
        Called with what is done and the share of it, 0 to 1.
    **fields
        Any other field of a study, with its meaning and its default there: ``interval=0.9``, ``where="price > 0"``,
        ``missing={"age": "exclude"}``, ``sampled=["household"]``, ``draws={"rows": 1000}``, ``seed=7``; ``help(gw.Study)`` has them all.

    Returns
    -------
    Fit
        The estimates. A fit that fails a gate of the computation is returned with a ``GateWarning``.

    Raises
    ------
    StudyError
        A field, the family or the formula is wrong. SourceError: the data are no table, or lack a column. DataError: the rows break what
        the model needs, such as missing values that ``missing`` says nothing of. FitError: the model cannot be fitted.

    Examples
    --------
    >>> import groupwise as gw
    >>> fit = gw.fit("Reaction ~ 1 + Days + (1 + Days | Subject)", sleepstudy, engine="likelihood", name="sleep")
    >>> fit
    <groupwise Fit of sleep: Reaction ~ 1 + Days + (1 + Days | Subject), gaussian, likelihood>
    """
    if not isinstance(formula, str):
        kind = type(formula).__name__
        raise StudyError(f"gw.fit: formula: a {kind} stands where the formula should; it comes first: gw.fit('y ~ 1 + (1 | g)', data).")
    home = Path(tempfile.mkdtemp(prefix="groupwise-fit-"))
    try:
        run = RunFolder(home / new_run_id())
        run.path.mkdir()
        return _fitted(run, options, {**fields, "formula": formula, "family": family, "engine": engine, "name": name}, data, progress)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _fitted(
    run: RunFolder, options: Mapping[str, Any] | None, fields: dict[str, Any], data: object, progress: Callable[[str, float], None] | None
) -> Fit:
    tell = progress or (lambda doing, share: None)
    named = source_of(data)
    source: dict[str, Any] = {
        **(named or {"parquet": str(run.path / ROWS_FILE)}),
        **({} if options is None else {"options": dict(options)}),
    }
    study = study_from({**fields, "source": source}, "gw.fit")
    if named is None:
        tell("reading the data", 0.0)
        orders = keep_rows(data, study, run.path)
        study = study.model_copy(update={"levels": {**study.levels, **orders}}) if orders else study
    run.write_study(study, "", made_by="gw.fit", in_memory=named is None)
    run.write_json("start", {"started_at": datetime.now(UTC).isoformat(timespec="microseconds")})
    tell("checking the rows", 0.0)
    relation = extract(study, None, run.path, today=local_day(datetime.now(UTC), study.zone), survey=counting(study, run.path))
    counted = noted_counts(run.path)
    validated = validate(study, relation, run.path, counted=counted)
    tell("compressing to cells", 0.0)
    known = None if counted is None else counted.values()
    cells = cells_of(study, relation, validated.study_sql, run.path, with_units=True, known=known, scanned=scanned_cells(run.path))
    run.write_json("compression", {"n_cells": cells.n_cells, "n_rows": cells.n_rows, "ratio": cells.compression_ratio, "sql": cells.sql})
    fitted = fit_run(run, progress)
    protect(run)
    for gate in fitted.failed_gates:
        warnings.warn(
            f"{study.name}: {gate.check}: {gate.message.rstrip('.')}. The fit can be looked at; it is not published.",
            GateWarning,
            stacklevel=4,
        )
    return Fit(run, fitted)


def _origin(run: RunFolder) -> dict[str, Any]:
    """What ``write_study`` kept besides the file."""
    return {name: value for name, value in run.read_json("origin").items() if name != "file"}
