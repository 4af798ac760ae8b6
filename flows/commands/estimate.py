"""``groupwise estimate``: the flow in this process, Prefect's log in the run's file, heavy imports while its server starts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import date
from importlib import import_module
from pathlib import Path

from flows.supervision.news import tell, told_last
from multilevel.errors import GroupwiseError, ResourceError, StudyError
from tasks.begin import parse_settings
from tasks.faults import as_ours
from tasks.run_folder import make_run_folder, new_run_id
from tasks.study import Study
from tasks.study_file import load_study


def run_estimate(
    study: str, *, as_of: date | None, engine: str | None, publish_to: str | None, settings: Sequence[str], verbose: bool
) -> str:
    """Published folder of the run. Raises GroupwiseError; any other exception carries the log's path as ``groupwise_log``."""
    checked = _check_first(study, engine, publish_to, settings)
    run = make_run_folder(new_run_id())
    tell(step="start", run_id=run.run_id)
    threading.Thread(target=_import_ahead, args=(_heavy(checked),), daemon=True).start()
    _quiet_libraries()
    from flows.commands.terminal import PlainFormatter
    from flows.publish_group_estimates import publish_group_estimates
    from flows.supervision.left_behind import on_record
    from flows.supervision.prefect_api import open_api, patience

    told = logging.StreamHandler()  # what a run says of itself is for the person who waits
    told.setFormatter(PlainFormatter())
    logging.getLogger("groupwise").addHandler(told)
    if not verbose:
        # what a log handler cannot write, Prefect's server included, is not for the terminal
        logging.raiseExceptions = False
        _log_to(run.log)
    tell(published=None)
    try:
        with patience():
            open_api(None if verbose else run.log)
            with on_record(run.run_id):
                publish_group_estimates(
                    study, as_of=as_of, engine=checked.engine, publish_to=publish_to, settings=list(settings), run_id=run.run_id
                )
    except GroupwiseError:
        raise
    except Exception as error:  # noqa: BLE001  raised again, but where the tables are published and Prefect alone failed
        failure = _failure(error)
        if failure is not None:
            failure.groupwise_log = str(run.log)  # type: ignore[attr-defined]
            raise failure from error.__cause__
    return str(told_last("published"))


def _failure(error: Exception) -> Exception | None:
    """What to raise where something else than a refusal of ours ended a run; None where only Prefect's record of a published run failed."""
    known, before = as_ours(error), error.__context__
    while before is not None and not isinstance(before, GroupwiseError):
        before = before.__context__
    if known is not None and told_last("published") is not None:
        logging.getLogger("groupwise").warning("The tables are published; Prefect's record of the run is not complete. %s", known)
        return None
    return error if known is None or before is None else ResourceError(f"{before}\nIts flow run may still say Running: {known}")


def _check_first(study: str, engine: str | None, publish_to: str | None, settings: Sequence[str]) -> Study:
    """The study with its overrides, before Prefect costs seconds."""
    overrides = parse_settings(settings)
    if engine is not None:
        if engine not in ("bayesian", "likelihood"):
            raise StudyError(f"--engine {engine}: write bayesian or likelihood.")
        overrides["engine"] = engine
    if publish_to is not None:
        import json

        overrides["publish_to"] = json.dumps(publish_to)
    checked = load_study(study, overrides)
    source = checked.source.database
    if source is not None and not Path(source).is_file():
        from multilevel.errors import SourceError

        raise SourceError(f"{checked.name}: source.database {source} does not exist (working directory {Path.cwd()}).")
    return checked


def _heavy(study: Study) -> list[str]:
    modules = ["duckdb", "pyarrow.parquet", "scipy.sparse", "scipy.optimize", "multilevel.study.fit", "tasks.report"]
    if study.engine == "bayesian":
        modules += ["arviz", "multilevel.bayesian.engine"]
        if not study.is_linear or study.sampling.form == "nuts":
            modules += ["pymc", "nutpie"]
    return modules


def _import_ahead(modules: Sequence[str]) -> None:
    """Import what the run will need while Prefect's server starts in its own process."""
    for name in modules:
        import_module(name)


def _quiet_libraries() -> None:
    import warnings

    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    # what it means for the run is told where Prefect's server is started
    warnings.filterwarnings("ignore", message="Failed to create the Prefect home directory")


class _RunLog(logging.FileHandler):
    """The run's log, which says nothing on the console when its disk is full: the step that the disk fails says so, once."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Leave the record out."""


def _log_to(path: Path) -> None:
    """Every console handler of Prefect's loggers writes to ``path`` instead."""
    from flows.commands.terminal import PlainFormatter

    handler = _RunLog(path, encoding="utf-8")
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    names = [name for name in logging.root.manager.loggerDict if name.startswith(("prefect", "uvicorn", "fastapi"))]
    for logger in [logging.getLogger(), *map(logging.getLogger, names)]:
        consoles = [own for own in logger.handlers if _is_console(own)]
        for console in consoles:
            logger.removeHandler(console)
        if consoles:
            logger.addHandler(handler)


def _is_console(handler: logging.Handler) -> bool:
    is_stream = isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    return is_stream or type(handler).__name__ == "PrefectConsoleHandler"
