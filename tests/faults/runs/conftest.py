"""Whole runs as real processes: a small shop, a Prefect server, a bucket, and what is left of a run that was ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import httpx
import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[3]
MARK = "GROUPWISE_TEST_RUN"
STUDY = """
name: baskets
formula: items ~ 1 + (1 | income_group) + (1 | weekday)
source: {SOURCE}
expectations: baskets
engine: likelihood
as_of: 2025-01-01
publish_to: PLACE
"""


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code, what it said, seconds from the signal until the process and every copy of its pipes were gone."""

    code: int
    out: str
    err: str
    seconds: float
    left: list[str]
    was_running: bool

    @property
    def messages(self) -> int:
        return sum(line.startswith("groupwise: ") for line in self.err.splitlines())


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    off = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "240"}
    return kept | off | {"PYTHONPATH": str(ROOT)} | more


def alive(mark: str) -> list[str]:
    """Command lines of the processes that carry the mark in their environment; a zombie is gone."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it ended while we looked, or is not ours
    return found


class Run:
    """``python -m flows ...`` with its pipes read to their ends."""

    def __init__(self, folder: Path, mark: str, environment: Mapping[str, str], *arguments: str) -> None:
        self.mark = mark
        self.process = subprocess.Popen(
            [sys.executable, "-m", "groupwise", *arguments],
            cwd=folder,
            env={**environment, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, reached: Callable[[], bool], seconds: float = 240) -> bool:
        """Whether it came so far before it ended."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            if reached():
                return True
            time.sleep(0.002)
        return False

    def hears_signals(self) -> bool:
        """Whether the supervisor has taken over from the interpreter's start."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = int(status.split("SigCgt:")[1].split()[0], 16)
        return bool(caught >> (signal.SIGCHLD - 1) & 1)

    def end(self, number: int | None) -> Ended:
        """Send the signal, if any, to the process that the user started; wait until it and its pipes are gone."""
        was_running = self.process.poll() is None
        begun = time.monotonic()
        if number is not None and was_running:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=240)
        seconds = time.monotonic() - begun
        left = alive(self.mark)
        if number == signal.SIGKILL and left:  # the guard hears of it a moment later; its last process may be on its way out
            time.sleep(0.5)
            left = alive(self.mark)
        return Ended(self.process.returncode, out, err, seconds, left, was_running)


@pytest.fixture(scope="session", autouse=True)
def hears_interrupts() -> None:
    """Tests in the background of a shell (or under nohup) ignore SIGINT (SIGHUP), and so would every run that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def line_items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Baskets that keep the rules of ``expectations/baskets.json``, in Parquet and in DuckDB."""
    rng = np.random.default_rng(5)
    n = 3_000
    days = ["1 Mon", "2 Tue", "3 Wed", "4 Thu", "5 Fri", "6 Sat", "7 Sun"]
    frame = pd.DataFrame(
        {
            "ts": pd.Timestamp("2024-06-01") + pd.to_timedelta(rng.integers(200, size=n), unit="D"),
            "basket_id": np.arange(n),
            "customer_id": rng.integers(200, size=n),
            "items": rng.normal(10, 2, size=n),
            "products": rng.integers(1, 9, size=n),
            "weekday": rng.choice(days, size=n),
            "income_group": rng.choice([f"I{i}" for i in range(6)], size=n),
        }
    )
    folder = tmp_path_factory.mktemp("shop")
    frame.to_parquet(folder / "lines.parquet")
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        connection.sql("create table lines as select * from frame")
    return folder


@pytest.fixture
def study(tmp_path: Path, line_items: Path) -> Callable[..., Path]:
    """Write ``study.yaml`` into a folder; gives the folder."""

    def write(folder: Path = tmp_path, place: str | None = None, source: str | None = None) -> Path:
        folder.mkdir(exist_ok=True)
        text = STUDY.replace("PLACE", place or str(tmp_path / "published"))
        (folder / "study.yaml").write_text(text.replace("SOURCE", source or f"parquet: {line_items}/lines.parquet"))
        return folder

    return write


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of runs that a long-lived Prefect server records."""
    home = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = environment(PREFECT_HOME=str(home), PREFECT_API_URL=f"http://127.0.0.1:{port}/api")
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start", "--host", "127.0.0.1", "--port", port]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until_healthy(env["PREFECT_API_URL"])
        yield env
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_healthy(api: str, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if httpx.get(f"{api}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    pytest.fail(f"the Prefect server at {api} does not answer")


@pytest.fixture(scope="session")
def flow_runs() -> Callable[[str], dict[str, str]]:
    """The state of every flow run on a server, by the run's id."""

    def look(api: str) -> dict[str, str]:
        found: list[dict[str, Any]] = []
        while True:
            page = httpx.post(f"{api}/flow_runs/filter", json={"limit": 200, "offset": len(found)}, timeout=30).json()
            found += page
            if len(page) < 200:
                return {str(run["parameters"].get("run_id")): str(run["state_type"]) for run in found}

    return look


@pytest.fixture
def start() -> Callable[..., Run]:
    return Run


@pytest.fixture
def env() -> Callable[..., dict[str, str]]:
    return environment


@pytest.fixture
def processes() -> Callable[[str], list[str]]:
    return alive
