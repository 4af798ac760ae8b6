"""A real Prefect server and a real worker: a scheduled run appears, runs, and publishes for the day that it was scheduled for."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from groupwise.shop.simulate_shop import simulate_shop
from tests.flows.waiting import is_healthy, wait_for

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).with_name("prefect"))
STUDY = """
name: spend
formula: log_amount ~ 1 + discount + (1 | region) + (1 | department/category)
source: {database: shop.duckdb, line_items: line_items.sql}
engine: likelihood
as_of: latest
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped prefect.yaml, one of its deployments made to run a small study a few seconds from now."""
    place = tmp_path_factory.mktemp("project")
    (place / "flows").symlink_to(ROOT / "flows")
    simulate_shop(place / "shop.duckdb", 5_000, customers=200, products=100, categories=20, regions=5, seed=3)
    shutil.copyfile(ROOT / "sql" / "simulated_line_items.sql", place / "line_items.sql")
    (place / "spend.yaml").write_text(STUDY, encoding="utf-8")
    shipped: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    deployment = shipped["deployments"][0]
    deployment["parameters"] = {"study": "spend.yaml", "settings": ["as_of=scheduled"]}
    soon = datetime.now(UTC) + timedelta(seconds=45)
    deployment["schedules"] = [{"slug": "nightly", "interval": 86_400, "anchor_date": soon.isoformat()}]
    (place / "prefect.yaml").write_text(yaml.safe_dump(shipped | {"deployments": [deployment]}), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def environment(project: Path) -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(project / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
        "PWD": str(project),
    }


@pytest.fixture(scope="module")
def server(project: Path, environment: dict[str, str]) -> Iterator[httpx.Client]:
    """A server with the deployment on it and a worker beside it; both are gone afterwards."""
    port = environment["PREFECT_API_URL"].split(":")[-1].removesuffix("/api")
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with (project / f"{command[0]}.log").open("wb") as log:
            process = subprocess.Popen(
                [PREFECT, *command], cwd=project, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        started.append(process)

    try:
        start("server", "start", "--host", "127.0.0.1", "--port", port)
        with httpx.Client(base_url=environment["PREFECT_API_URL"], timeout=10) as client:
            wait_for(lambda: is_healthy(client), 90, "the server does not answer")
            call(project, environment, "work-pool", "create", "groupwise", "--type", "process")
            call(project, environment, "deploy", "--all")
            start("worker", "start", "--pool", "groupwise")
            yield client
    finally:
        for process in reversed(started):
            os.killpg(process.pid, signal.SIGTERM)
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def call(project: Path, environment: dict[str, str], *command: str) -> None:
    done = subprocess.run(
        [PREFECT, "--no-prompt", *command], cwd=project, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def runs(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.post("/flow_runs/filter", json={"sort": "EXPECTED_START_TIME_ASC"}).json()
    return found


def ended(client: httpx.Client, project: Path, chosen: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first run that is chosen, once it has ended."""

    def look() -> dict[str, Any] | None:
        over = [run for run in runs(client) if chosen(run) and run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}]
        return over[0] if over else None

    run = wait_for(look, 180, "the run does not end; see worker.log in " + str(project))
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    return run


def pointer(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / "published" / "spend" / "_latest.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.operations
@pytest.mark.timeout(300)
def test_a_scheduled_run_appears_and_publishes_for_its_day(server: httpx.Client, project: Path) -> None:
    scheduled = wait_for(lambda: runs(server), 60, "no run was scheduled")
    assert scheduled[0]["auto_scheduled"]
    assert len(scheduled) > 1, "the schedule goes on after its first day"
    run = ended(server, project, lambda run: run["auto_scheduled"])
    day = datetime.fromisoformat(run["expected_start_time"]).date().isoformat()
    assert pointer(project)["as_of"] == day
    assert (project / "published" / "spend" / "current" / "group_estimates.parquet").is_file()
    assert run["name"].startswith("spend.yaml")


@pytest.mark.operations
@pytest.mark.timeout(300)
def test_a_backfill_publishes_its_day_and_leaves_the_pointer(server: httpx.Client, project: Path, environment: dict[str, str]) -> None:
    ended(server, project, lambda run: run["auto_scheduled"])
    before = pointer(project)
    call(project, environment, "deployment", "run", "publish-group-estimates/line-spend", "--param", "as_of=2020-01-02")
    run = ended(server, project, lambda run: not run["auto_scheduled"])
    assert run["name"] == "spend.yaml as of 2020-01-02"
    assert list((project / "published" / "spend" / "versions" / "dt=2020-01-02").glob("rev=*/group_estimates.parquet"))
    assert pointer(project) == before
