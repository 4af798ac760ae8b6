"""Worker, server and run die together, as when their machine goes down: the next run publishes, and the dead one is marked."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from filelock import FileLock

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3_600)]
ROOT = Path(__file__).parents[3]
MARK = "GROUPWISE_TEST_RUN"
PREFECT = str(Path(sys.executable).with_name("prefect"))
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Machine:
    """A server with the shipped deployment of one study, and a worker beside it, which can go down together."""

    def __init__(self, project: Path, env: dict[str, str]) -> None:
        self.project, self.env = project, env
        self.api = httpx.Client(base_url=env["PREFECT_API_URL"], timeout=30)
        self.started: list[subprocess.Popen[bytes]] = []

    def boot(self, *, first: bool) -> None:
        port = self.env["PREFECT_API_URL"].split(":")[-1].removesuffix("/api")
        self._start("server", "start", "--host", "127.0.0.1", "--port", port)
        self.wait_for(self.answers, "the server does not answer")
        if first:
            self.call("prefect", "work-pool", "create", "groupwise", "--type", "process")
            self.call("prefect", "deploy", "--all")
        self._start("worker", "start", "--pool", "groupwise", "--limit", "2")

    def _start(self, *command: str) -> None:
        with (self.project / f"{command[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [PREFECT, *command],
                cwd=self.project,
                env=self.env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.started.append(process)

    def call(self, program: str, *arguments: str) -> str:
        command = [PREFECT, "--no-prompt"] if program == "prefect" else [sys.executable, "-m", "groupwise"]
        done = subprocess.run(
            [*command, *arguments], cwd=self.project, env=self.env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def go_down(self) -> None:
        """End every process at once, without a chance to say anything."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.env[MARK]}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue  # it ended before
        for process in self.started:
            process.wait()
        self.started.clear()

    def answers(self) -> bool:
        try:
            return self.api.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def wait_for[T](self, found: Callable[[], T], otherwise: str, seconds: float = 400) -> T:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := found():
                return value
            time.sleep(0.3)
        pytest.fail(otherwise)

    def begin_run(self, *parameters: str) -> str:
        """Ask the server for a run; gives its id."""
        words = [word for parameter in parameters for word in ("--param", parameter)]
        self.call("prefect", "deployment", "run", "publish-group-estimates/line-spend", *words)
        asked = [run for run in self.api.post("/flow_runs/filter", json={}).json() if not run["auto_scheduled"]]
        return str(max(asked, key=lambda run: run["created"])["id"])

    def state(self, run: str) -> dict[str, Any]:
        return dict(self.api.get(f"/flow_runs/{run}").json()["state"])

    def ended(self, run: str) -> dict[str, Any]:
        self.wait_for(lambda: self.state(run)["type"] in ENDED, f"run {run} does not end")
        return self.state(run)

    def waits_for_the_lock(self) -> bool:
        """Whether a run has come as far as publishing."""
        return bool(list(self.project.glob(".groupwise/runs/*/report.html")))


@pytest.fixture
def machine(tmp_path: Path, line_items: Path, env: Callable[..., dict[str, str]], study: Callable[..., Path]) -> Iterator[Machine]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    project = study(tmp_path / "project")
    (project / "flows").symlink_to(ROOT / "flows")
    shipped: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    deployment = shipped["deployments"][0]
    deployment["parameters"] = {"study": "study.yaml", "settings": ["expectations=null"]}
    (project / "prefect.yaml").write_text(yaml.safe_dump(shipped | {"deployments": [deployment]}), encoding="utf-8")
    found = Machine(
        project,
        env(
            PREFECT_HOME=str(tmp_path / "home"),
            PREFECT_API_URL=f"http://127.0.0.1:{port}/api",
            PREFECT_WORKER_QUERY_SECONDS="1",
            # heartbeats as often as Prefect allows, so that the test need not wait for ten minutes
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30",
            PWD=str(project),
            **{MARK: f"{os.getpid()}-reboot"},
        ),
    )
    try:
        yield found
    finally:
        found.go_down()
        found.api.close()


def quickly(machine: Machine) -> None:
    """The shipped automation with a minute instead of ten."""
    [automation] = machine.api.post("/automations/filter", json={}).json()
    trigger = automation["trigger"] | {"within": 75}
    kept = {name: automation[name] for name in ("name", "description", "enabled", "actions")}
    machine.api.put(f"/automations/{automation['id']}", json=kept | {"trigger": trigger}).raise_for_status()


def test_the_next_run_publishes_after_worker_server_and_run_died_together(
    machine: Machine, tmp_path: Path, figures: Callable[..., None], processes: Callable[[str], list[str]]
) -> None:
    machine.boot(first=True)
    assert machine.call("groupwise", "automations") == "groupwise runs that died: made\n"
    assert machine.call("groupwise", "automations") == "groupwise runs that died: updated\n"
    quickly(machine)
    home = tmp_path / "published" / "baskets"
    home.mkdir(parents=True)
    # the lock of publishing, held here, stops the run where it is about to publish
    with FileLock(home / ".lock"):
        died = machine.begin_run()
        machine.wait_for(machine.waits_for_the_lock, "the run does not come to its end; see worker.log")
        assert machine.state(died)["type"] == "RUNNING"
        machine.go_down()
    assert processes(machine.env[MARK]) == []
    assert not (home / "_latest.json").exists()
    machine.boot(first=False)
    following = machine.begin_run()
    state = machine.ended(following)
    assert state["type"] == "COMPLETED", state["message"]
    assert json.loads((home / "_latest.json").read_text())["as_of"] == "2025-01-01"
    assert machine.ended(died)["type"] == "CRASHED"
    figures("reboot", kind="worker, server and run killed together", tried=1, failed=1, next_runs=1, lost=0)


def test_a_run_of_a_worker_ends_within_five_seconds_of_a_signal_whatever_it_does(
    machine: Machine, tmp_path: Path, figures: Callable[..., None]
) -> None:
    machine.boot(first=True)
    home = tmp_path / "published" / "baskets"
    home.mkdir(parents=True)
    with FileLock(home / ".lock"):
        asked = machine.begin_run()
        machine.wait_for(machine.waits_for_the_lock, "the run does not come to its end; see worker.log")
        [run] = [entry for entry in Path("/proc").glob("[0-9]*") if is_run(entry, machine.env[MARK])]
        begun = time.monotonic()
        os.killpg(int(run.name), signal.SIGTERM)
        machine.wait_for(lambda: not is_run(run, machine.env[MARK]), "the run does not end")
        seconds = time.monotonic() - begun
        state = machine.ended(asked)
    figures("worker", kind="SIGTERM to a worker's run", tried=1, failed=1, next_runs=0, lost=0, slowest_seconds=seconds)
    assert seconds < 5
    assert state["type"] in {"CRASHED", "CANCELLED"}
    assert not (home / "_latest.json").exists()


def is_run(entry: Path, mark: str) -> bool:
    """Whether a process is Prefect's process of a flow run under the mark."""
    try:
        marked = f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
        command = (entry / "cmdline").read_bytes().split(b"\0")
        return marked and b"prefect.engine" in command
    except OSError:
        return False
