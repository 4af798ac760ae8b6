"""One Dask worker with one thread against two with one each: seconds until the cells of every file are made. Writes docs/scaling.md.

Run: ``python -m benchmarks dask_workers [N]``, on a quiet machine with two cores at least; without a number for a hundred million line
items. LAKES in the environment names a folder in which simulated line items are kept and found again. Scheduler and workers are separate
processes, as on a cluster; this process writes what they send back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from benchmarks._calibration_page import markdown
from benchmarks._line_item_lake import AS_OF, write_lake
from benchmarks._reliability_page import provenance, provenance_line, replace_block
from benchmarks.line_item_scaling import STUDY, begun
from groupwise.pipeline.order import asking
from groupwise.pipeline.own_process import InTurn
from groupwise.pipeline.steps import CONDENSE, COUNT, compress, extract, validate
from groupwise.statistics.gather import gather_cells, gather_facts

PAGE = Path("docs") / "scaling.md"
LINE_ITEMS = 100_000_000
RUNS = 3
STARTED_SECONDS = 60
ASKED = 1.7


def main(n: int = LINE_ITEMS) -> None:
    """Time both clusters, one after the other, ``RUNS`` times; the best of each."""
    page, load = PAGE.absolute(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder, chdir(folder):
        lake = Path(os.environ.get("LAKES") or folder) / str(n)
        write_lake(lake, n)
        Path("lake").symlink_to(lake)
        runs = [(workers, measured(workers, f"kept-{turn}-{workers}")) for turn in range(RUNS) for workers in (1, 2)]
    rows = []
    for workers in (1, 2):
        own = [one for count, one in runs if count == workers]
        rows.append([f"{workers}", *(f"{min(one[name] for one in own):.2f}" for name in ("count", "condense", "whole"))])
    ratios = [f"{float(one) / float(two):.2f}" for one, two in zip(rows[0][1:], rows[1][1:], strict=True)]
    heads = [
        "workers of one thread",
        "line items counted and checked (s)",
        "cells of every file (s)",
        "from line items to the cells of the window (s)",
    ]
    table = markdown(heads, [*rows, ["ratio", *ratios]])
    below = f"{n:,} line items in 36 files, the best of {RUNS} runs. Asked for: {ASKED} times.\n{provenance_line([provenance()])}"
    text = replace_block(page.read_text(encoding="utf-8"), "dask-workers", f"{table}\n{below}Load of the machine before: {load:.1f}.\n")
    page.write_text(text, encoding="utf-8")
    print(table)


def measured(workers: int, keep: str) -> dict[str, float]:
    """Seconds of the steps with so many workers; nothing is kept before."""
    with cluster(workers) as address:
        statistics = {"partition": "file", "keep": keep, "workers": address}
        run = begun(STUDY | {"statistics": statistics, "resources": {"threads": 1, "memory": "2GB"}})
        turn = InTurn()
        seconds: dict[str, float] = {}
        start = time.perf_counter()
        extract(str(run.path), AS_OF, AS_OF)
        began = time.perf_counter()
        gather_facts(run, asking(turn, COUNT))
        seconds["count"] = time.perf_counter() - began
        validate(str(run.path))
        began = time.perf_counter()
        gather_cells(run, asking(turn, CONDENSE))
        seconds["condense"] = time.perf_counter() - began
        compress(str(run.path))
        seconds["whole"] = time.perf_counter() - start
    print(f"{workers} workers: {seconds}", flush=True)
    return seconds


@contextmanager
def cluster(workers: int) -> Iterator[str]:
    """The address of a scheduler with so many workers of one thread each."""
    from distributed import Client

    noted = Path(f"scheduler-{time.monotonic_ns()}.json").absolute()
    scheduler = _started("dask_scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1", "--scheduler-file", str(noted))
    processes = [scheduler]
    try:
        until = time.monotonic() + STARTED_SECONDS
        while not noted.exists() and time.monotonic() < until:
            time.sleep(0.05)
        address: str = json.loads(noted.read_text(encoding="utf-8"))["address"]
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
        processes += [_started("dask_worker", address, *options) for _ in range(workers)]
        with Client(address, timeout=STARTED_SECONDS, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=STARTED_SECONDS)
        yield address
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def _started(name: str, *arguments: str) -> subprocess.Popen[bytes]:
    command: list[Any] = [sys.executable, "-m", f"distributed.cli.{name}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
