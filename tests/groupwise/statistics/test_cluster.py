"""The partitions of a study on a real Dask cluster: a scheduler and two worker processes, one of which is killed half-way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from multilevel.errors import ResourceError
from tests.changing_shop import LINES, Compressed, Shop, assert_same

pytestmark = pytest.mark.operations

STARTED_SECONDS = 60
FIELDS = {
    "window": None,
    "formula": "amount ~ 1 + price + x + (1 | category) + (1 | region)",
    "statistics": {"partition": "day", "column": "day", "keep": "kept"},
}


def started(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"distributed.cli.{arguments[0]}", *arguments[1:]]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture
def cluster(shop: Shop) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The scheduler's address, and two workers of one thread each, without a nanny that would start them again."""
    noted = Path("scheduler.json").absolute()
    options = ("--nthreads", "1", "--no-nanny", "--no-dashboard")
    scheduler = started("dask_scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1", "--scheduler-file", str(noted))
    workers: list[subprocess.Popen[bytes]] = []
    try:
        wait_for(noted.exists)
        address = json.loads(noted.read_text())["address"]
        workers = [started("dask_worker", address, "--name", name, *options) for name in ("first", "second")]
        wait_for(lambda: len(busy(address)) == 2)
        yield address, workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def busy(address: str) -> dict[str, int]:
    """How many jobs every worker has, by its name."""
    from distributed import Client

    with Client(address, timeout=STARTED_SECONDS, set_as_default=False) as client:
        names = {worker: found["name"] for worker, found in client.scheduler_info(n_workers=-1)["workers"].items()}
        return {names[worker]: len(jobs) for worker, jobs in client.processing().items() if worker in names}


def wait_for(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + STARTED_SECONDS
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_worker_that_is_killed_half_way_changes_no_statistic(shop: Shop, cluster: tuple[str, list[subprocess.Popen[bytes]]]) -> None:
    address, workers = cluster
    shop.write(f"insert into lines by name {LINES.format(first=600, last=1_500_000)}")
    whole = shop.run(keeps=False, **FIELDS)
    found: list[Compressed | BaseException] = []

    def run() -> None:
        try:
            found.append(shop.run(**{**FIELDS, "statistics": {**FIELDS["statistics"], "workers": address}}))
        except BaseException as error:  # noqa: BLE001  told to the test
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(lambda: bool(found) or all(busy(address).get(name, 0) for name in ("first", "second")))
    assert not found
    os.kill(workers[0].pid, signal.SIGKILL)
    thread.join()
    assert isinstance(found[0], Compressed), found[0]
    assert_same(found[0], whole)
    assert list(busy(address)) == ["second"]
    assert Path("kept").exists()


def test_workers_have_the_days_of_the_studys_time_zone(shop: Shop, cluster: tuple[str, list[subprocess.Popen[bytes]]]) -> None:
    shop.write("alter table lines alter day type timestamptz", "update lines set day = day + interval 20 hour")
    fields = {**FIELDS, "timezone": "Pacific/Auckland", "window": {"column": "day", "days": 15}}
    kept = shop.run(**{**fields, "statistics": {**FIELDS["statistics"], "workers": cluster[0]}})
    assert_same(kept, shop.run(keeps=False, **fields))
    of_utc = shop.run(**{**fields, "timezone": "UTC"})
    assert kept.relation != of_utc.relation


def test_a_cluster_without_workers_and_no_cluster_are_refused(shop: Shop, cluster: tuple[str, list[subprocess.Popen[bytes]]]) -> None:
    address, workers = cluster
    for worker in workers:
        worker.kill()
    wait_for(lambda: not busy(address))
    with pytest.raises(ResourceError, match="has no workers; start some"):
        shop.run(**{**FIELDS, "statistics": {**FIELDS["statistics"], "workers": address}})
