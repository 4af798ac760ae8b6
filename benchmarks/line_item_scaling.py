"""Seconds and memory by how many line items there are, read whole and with statistics kept by day. Writes its tables into docs/scaling.md.

Run: ``python -m benchmarks line_item_scaling [N ...]``, on a quiet machine; without a number for a million and ten million line items, with
FULL=1 in the environment up to a thousand million, for which 32 GB of disk are needed. LAKES in the environment names a folder in which
simulated line items are kept and found again. Each phase runs in a separate process, so that processor time and memory are its own.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import psutil
import yaml

from benchmarks._calibration_page import markdown
from benchmarks._line_item_lake import AS_OF, DAYS, last_file, write_lake
from benchmarks._reliability_page import provenance, provenance_line, replace_block
from groupwise.pipeline.order import asking
from groupwise.pipeline.own_process import InTurn
from groupwise.pipeline.steps import CONDENSE, COUNT, compress, extract, validate
from groupwise.run_folder import RunFolder
from groupwise.source.user_sql.statement import run as execute
from groupwise.statistics.gather import gather_cells, gather_facts
from groupwise.statistics.sums import cell_sums_sql
from groupwise.study.study import Study

PAGE = Path("docs") / "scaling.md"
FIGURES = Path(".groupwise") / "scaling"
SIZES = (1_000_000, 10_000_000)
FULL_SIZES = (*SIZES, 100_000_000, 1_000_000_000)
STUDY: dict[str, Any] = {
    "name": "scaling",
    "formula": "log_amount ~ 1 + discount + (1 + discount | region) + (1 | department/category)",
    "source": {"parquet": "lake/*.parquet"},
    "window": {"column": "ts", "days": DAYS - 1},
    "as_of": AS_OF.isoformat(),
    "resources": {"threads": 2, "memory": "2GB"},
}
KEPT = {"statistics": {"partition": "day", "keep": "kept"}}
BARE = """
select region, department, category, count(*), favg(log_amount), favg(discount), var_pop(log_amount), var_pop(discount),
    covar_pop(log_amount, discount)
from read_parquet('lake/*.parquet') group by all
"""
"""The cells' columns without window, fingerprint, rules, needs and checks."""

type Figures = dict[str, Any]


def main(*sizes: int) -> None:
    """Measure every size, and write the tables from all figures that are there."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    for n in sizes or (FULL_SIZES if os.environ.get("FULL") else SIZES):
        figures: Figures = {"n": n, "load": os.getloadavg()[0], **provenance()}
        for more in _measured(n):
            figures |= more
            (FIGURES / f"{n}.json").write_text(json.dumps(figures), encoding="utf-8")
            write_page()


def write_page() -> None:
    """Replace both tables on the page."""
    found = sorted((json.loads(path.read_text(encoding="utf-8")) for path in FIGURES.glob("*.json")), key=lambda one: one["n"])
    loads = ", ".join(f"{one['load']:.0f}" for one in found)
    below = f"{provenance_line(found)}Load of the machine as the rows were begun: {loads}, on {os.cpu_count()} cores.\n"
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (("line-items", whole_table(found)), ("kept-line-items", kept_table(found))):
        text = replace_block(text, name, f"{table}\n{below}")
    PAGE.write_text(text, encoding="utf-8")


def whole_table(found: list[Figures]) -> str:
    """Line items read whole."""
    heads = [
        "line items",
        "source",
        "bare group by",
        "line items to cells",
        "ratio",
        "ratio of the query",
        "peak memory",
        "command, Bayesian",
        "peak memory",
    ]
    rows = [
        [
            f"{one['n']:,}",
            f"{one['gigabytes']:.2f} GB",
            _times(one["bare"]),
            _times(one["whole"]),
            f"{one['whole']['cpu'] / one['bare']['cpu']:.2f}",
            f"{one['whole']['query'] / one['bare']['cpu']:.2f}" if "query" in one["whole"] else "",
            _megabytes(one["whole"]),
            _times(one["command"]),
            _megabytes(one["command"]),
        ]
        for one in found
        if "command" in one
    ]
    return markdown(heads, rows)


def kept_table(found: list[Figures]) -> str:
    """Statistics kept by day."""
    heads = ["line items", "read whole", "first run that keeps", "one new day", "share", "nothing changed", "kept", "all days merged"]
    rows = [
        [
            f"{one['n']:,}",
            _times(one["whole"]),
            _times(one["first"]),
            _times(one["day"]),
            f"1/{one['whole']['cpu'] / one['day']['cpu']:.1f}",
            _times(one["same"]),
            f"{one['kept_bytes'] / 1e6:,.0f} MB",
            f"{one['merged']['cells']:,} cells: {_times(one['merged'])}",
        ]
        for one in found
        if "kept_bytes" in one
    ]
    return markdown(heads, rows)


def _times(one: Figures) -> str:
    return f"{one['seconds']:.1f} s ({one['cpu']:.1f})"


def _megabytes(one: Figures) -> str:
    return f"{one['megabytes']:,.0f} MB"


def _measured(n: int) -> Iterator[Figures]:
    """The figures of one size, phase by phase: the last ones take long."""
    lakes = os.environ.get("LAKES")
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        lake = Path(lakes or folder) / str(n)
        write_lake(lake, n)
        (Path(folder) / "lake").mkdir()
        for file in lake.glob("*.parquet"):
            (Path(folder) / "lake" / file.name).symlink_to(file)
        yield {"gigabytes": sum(file.stat().st_size for file in lake.glob("*.parquet")) / 1e9}
        for phase in ("bare", "whole", "command"):
            yield {phase: _phase(folder, phase)}
        with duckdb.connect() as connection:
            last, day = last_file(Path(folder) / "lake"), AS_OF - timedelta(days=1)
            held = last.resolve()
            last.unlink()
            connection.execute(f"copy (select * from '{held}' where ts < date '{day}') to '{last}'")
            yield {"first": _phase(folder, "first")}
            last.unlink()
            shutil.copy(held, last)
        for phase in ("day", "same", "merged"):
            yield {phase: _phase(folder, phase)}
        yield {"kept_bytes": sum(path.stat().st_size for path in Path(folder, "kept").rglob("*.parquet"))}


def _phase(folder: str, phase: str) -> Figures:
    """What a phase measures of itself, in a separate process."""
    command = [sys.executable, "-m", "benchmarks.line_item_scaling", phase, folder]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    print(f"{phase}: {found}", flush=True)
    return found


def bare() -> Figures:
    """A group by of the same columns, with as many threads."""
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(BARE).fetchall()
    return {}


def whole() -> Figures:
    """Extract, validate, compress; of that, processor seconds of the query that makes the cells."""
    run, query = begun(STUDY), 0.0

    def measured(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyConnection:
        nonlocal query
        used = time.process_time()
        found = execute(connection, sql)
        query = max(query, time.process_time() - used)
        return found

    with patch("groupwise.statistics.one_scan.run", measured):
        extract(str(run.path), None, AS_OF)
    validate(str(run.path))
    compress(str(run.path))
    return {"query": query}


def command() -> Figures:
    """A whole command, from the shell to published Bayesian tables; memory of all its processes together."""
    Path("scaling.yaml").write_text(yaml.safe_dump(STUDY | {"engine": "bayesian"}), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-m", "groupwise", "estimate", "scaling.yaml", "--force"], stdout=subprocess.DEVNULL)
    most = 0.0
    while process.poll() is None:
        most = max(most, _tree_bytes(process.pid))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"groupwise estimate ended with {process.returncode}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"cpu": used.ru_utime + used.ru_stime, "megabytes": most / 1e6}


def _tree_bytes(pid: int) -> float:
    """Memory that a process and those that it has started share with nobody else, and their part of what they share."""
    found = 0.0
    try:
        of_it = psutil.Process(pid)
        for one in (of_it, *of_it.children(recursive=True)):
            found += one.memory_full_info().pss
    except psutil.NoSuchProcess:
        return found
    return found


def first() -> Figures:
    """All line items but those of the last day, with statistics kept by day."""
    return _kept(AS_OF - timedelta(days=1))


def day() -> Figures:
    """The file of the last month has one more day, and the window is that of the next night."""
    return _kept(AS_OF)


def same() -> Figures:
    """Nothing has changed since."""
    return _kept(AS_OF)


def _kept(as_of: date) -> Figures:
    run = begun(STUDY | KEPT)
    extract(str(run.path), as_of, AS_OF)
    turn = InTurn()
    gather_facts(run, asking(turn, COUNT))
    validate(str(run.path))
    gather_cells(run, asking(turn, CONDENSE))
    compress(str(run.path))
    return {}


def merged() -> Figures:
    """The cells of all days that are kept, merged at once."""
    days = [path for path in sorted(Path("kept").rglob("cells-*.parquet")) if path.parent.parent.name.count("-") == 2]
    start, used = time.perf_counter(), time.process_time()
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(f"create temp table merged as {cell_sums_sql(days)}")
        seconds, cpu = time.perf_counter() - start, time.process_time() - used
        listed = ", ".join(f"'{path}'" for path in days)
        cells = connection.execute(f"select count(*) from read_parquet([{listed}])").fetchone() or (0,)
    return {"cells": cells[0], "seconds": seconds, "cpu": cpu}


PHASES: dict[str, Callable[[], Figures]] = {one.__name__: one for one in (bare, whole, command, first, day, same, merged)}


def begun(fields: dict[str, Any]) -> RunFolder:
    """The folder of a run of such a study, in the current folder."""
    run = RunFolder(Path.cwd() / f"run-{time.monotonic_ns()}")
    run.path.mkdir()
    run.write_study(Study.model_validate(fields | {"engine": "likelihood"}), "")
    run.write_json("start", {"force": True})
    return run


def _in_this_process(phase: str, folder: str) -> None:
    os.chdir(folder)
    start, used = time.perf_counter(), time.process_time()
    figures = PHASES[phase]()
    own = {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - used,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }
    print(json.dumps(own | figures))


if __name__ == "__main__":
    _in_this_process(sys.argv[1], sys.argv[2])
