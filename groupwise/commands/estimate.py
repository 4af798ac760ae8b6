"""``groupwise estimate``: a run in this process, or a flow run where Prefect has a server; what it logs is in the run's file."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from groupwise.commands.flow_runs import RUN_AS_FLOW, has_api, load
from groupwise.commands.run_log import log_consoles_to, log_steps, say_on_stderr
from groupwise.commands.second_process import SecondProcess
from groupwise.faults import as_ours
from groupwise.pipeline.run_start import begin, parse_settings
from groupwise.progress import run_progress
from groupwise.retention import at_work
from groupwise.run_folder import RunFolder, make_run_folder, new_run_id
from groupwise.source.time_zones import local_day
from groupwise.study.study import Study
from groupwise.study.study_file import load_study
from groupwise.supervision.news import tell, told_last
from multilevel.errors import GroupwiseError, ResourceError, StudyError


def run_estimate(
    study: str,
    *,
    as_of: date | None,
    engine: str | None,
    publish_to: str | None,
    settings: Sequence[str],
    verbose: bool,
    as_flow: bool = False,
    force: bool = False,
    second: SecondProcess | None = None,
) -> str:
    """Published folder of the run, or, unless ``force``, of the version that was made from the same inputs.

    Raises GroupwiseError; any other exception carries the log's path as ``groupwise_log``.

    The run is a flow run where ``as_flow`` says so or Prefect has a server; else its steps run in this process, and in ``second`` if there
    is one.
    """
    checked = _check_first(study, engine, publish_to, settings)
    run = make_run_folder(new_run_id())
    is_flow = as_flow or has_api()
    tell(step="start", run_id=run.run_id)
    ahead = threading.Thread(target=_import_ahead, args=(_heavy(checked, second is None),), daemon=True)
    _quiet_libraries()
    tell(published=None)
    overrides: dict[str, Any] = {"engine": checked.engine, "publish_to": publish_to, "settings": list(settings), "force": force}
    try:
        if is_flow:
            ahead.start()
            if second is not None:
                second.close(at_once=True)
            _as_flow_run(run, study, as_of, overrides, verbose)
        else:
            _in_own_process(run, study, as_of, overrides, verbose, ahead, second)
    except GroupwiseError:
        raise
    except Exception as error:  # noqa: BLE001  raised again, but where the tables are published and Prefect alone failed
        failure = _failure(error) if is_flow else error
        if failure is not None:
            failure.groupwise_log = str(run.log)  # type: ignore[attr-defined]
            raise failure from error.__cause__
    return str(told_last("published"))


def _in_own_process(
    run: RunFolder,
    study: str,
    as_of: date | None,
    overrides: Mapping[str, Any],
    verbose: bool,
    ahead: threading.Thread,
    second: SecondProcess | None,
) -> None:
    from groupwise.pipeline.own_process import run_here

    # on a terminal the bar says how far the run is; elsewhere every step has its line
    level = logging.WARNING if sys.stderr.isatty() and not verbose else logging.INFO
    say_on_stderr(level)
    log_steps(run.log)
    if second is not None:
        second.log_to(run.log, level)
    folder = begin(study, **overrides, run_id=run.run_id)
    with at_work(run), run_progress() as progress:
        # not before the look, which a thread that imports would make several times as long
        publish = None if second is None else second.publish
        ended = run_here(folder, as_of, local_day(datetime.now(UTC), run.study().zone), progress, ahead=ahead.start, publish=publish)
    if ended.unchanged and second is not None:
        # what it loads is not needed
        second.close(at_once=True)


def _as_flow_run(run: RunFolder, study: str, as_of: date | None, overrides: Mapping[str, Any], verbose: bool) -> None:
    run_as_flow = load(RUN_AS_FLOW)
    say_on_stderr(logging.WARNING)
    if not verbose:
        # what a log handler cannot write, Prefect's server included, is not for the terminal
        logging.raiseExceptions = False
        log_consoles_to(run.log)
    run_as_flow(run, study, as_of=as_of, **overrides, log=None if verbose else run.log)


def _failure(error: Exception) -> Exception | None:
    """What to raise where a flow run ended with no refusal of ours; None where only Prefect's record of a published run failed."""
    known, before = as_ours(error), error.__context__
    while before is not None and not isinstance(before, GroupwiseError):
        before = before.__context__
    if known is not None and told_last("published") is not None:
        logging.getLogger("groupwise").warning("The tables are published; Prefect's record of the run is not complete. %s", known)
        return None
    return error if known is None or before is None else ResourceError(f"{before}\nIts flow run may still say Running: {known}")


def _check_first(study: str, engine: str | None, publish_to: str | None, settings: Sequence[str]) -> Study:
    """The study with its overrides, before anything that takes seconds."""
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


def _heavy(study: Study, publishes: bool) -> list[str]:
    modules = ["duckdb", "pyarrow.parquet", "scipy.sparse", "scipy.optimize", "multilevel.study.fit_study"]
    if publishes:
        modules.append("groupwise.report")
    if study.engine == "bayesian":
        modules += ["arviz", "multilevel.bayesian.bayesian_engine"]
        if not study.is_linear or study.sampling.form == "nuts":
            modules += ["pymc", "nutpie"]
    return modules


def _import_ahead(modules: Sequence[str]) -> None:
    """Import what later steps need while the first ones wait for the disk, the database or Prefect's server."""
    for name in modules:
        import_module(name)


def _quiet_libraries() -> None:
    import warnings

    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    # what it means for the run is told where Prefect's server is started
    warnings.filterwarnings("ignore", message="Failed to create the Prefect home directory")
