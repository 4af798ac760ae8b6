"""Runs ended by a signal or a kill, at every step and at random moments: nothing is left, nothing is torn, the next run publishes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

pytestmark = pytest.mark.faults

RUNS = int(os.environ.get("FAULT_RUNS", "200"))
SEED = 20_261_128
LIMIT_SECONDS = 5.0
NEXT_RUN_EVERY = 20
HOSTS = {"a running server": 0.5, "its own server": 0.1, "no server": 0.4}
"""Where runs are recorded, and what share of them; those that start a server take most of their time for it."""
SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGKILL": -9}
STEPS = {
    "import": "",
    "start": "runs/*",
    "extract": "runs/*/study.json",
    "validate": "runs/*/relation.json",
    "compress": "runs/*/validation.json",
    "fit": "runs/*/cells.parquet",
    "check": "runs/*/tables/group_estimates.parquet",
    "publish": "runs/*/report.html",
}
"""What a run leaves in its folder at the beginning of each step."""


class Folder:
    """A folder to publish to, read as another program reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self) -> dict[str, bytes]:
        home = self.path / "baskets"
        kept = (path for path in home.rglob("*") if path.is_file() and ".staging" not in path.parts and path.name != ".lock")
        return {path.relative_to(home).as_posix(): path.read_bytes() for path in kept}

    def is_free(self) -> bool:
        with (self.path / "baskets" / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True


class Bucket:
    """A bucket to publish to, read as another program reads it; it has no lock."""

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name = client, name

    def files(self) -> dict[str, bytes]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        names = [item["Key"] for page in pages for item in page.get("Contents", [])]
        kept = [name for name in names if "/.staging/" not in name]
        return {name.removeprefix("baskets/"): self.client.get_object(Bucket=self.name, Key=name)["Body"].read() for name in kept}

    def is_free(self) -> bool:
        return True


def latest(files: dict[str, bytes]) -> tuple[str, dict[str, str]]:
    """Run id and sha256 by file of the latest version, every file held against the manifest."""
    pointer = json.loads(files["_latest.json"])
    manifest = json.loads(files[pointer["manifest"]])
    found = {}
    for entry in manifest["files"]:
        name = f"{pointer['version']}/{entry['path']}"
        found[name] = hashlib.sha256(files[name]).hexdigest()
        assert found[name] == entry["sha256"], f"{name} is torn"
    return str(pointer["run_id"]), found


@dataclass
class Tally:
    """What has been tried and what came of it."""

    tried: dict[str, int] = field(default_factory=dict)
    finished_before: int = 0
    published_whole: int = 0
    slowest: float = 0.0
    slowest_at: str = ""
    next_runs: int = 0
    faults: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def storage() -> Iterator[tuple[Any, dict[str, str]]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    env = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = boto3.client("s3", endpoint_url=address, aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    client.create_bucket(Bucket="warehouse")
    yield (client, env)
    server.stop()


def moments(count: int) -> list[tuple[str, str, float, str]]:
    """Where, at which step, how long after its beginning (as a share of the run) and with which signal; all steps first, then at random."""
    rng = Random(SEED)
    places, names, steps = ("folder", "object storage"), list(SIGNALS), list(STEPS)
    each = [(place, step, 0.0, name) for step in steps for name in names for place in places]
    rng.shuffle(each)
    first = each[: count // 2]
    return first + [(rng.choice(places), rng.choice(steps), rng.random(), rng.choice(names)) for _ in range(count - len(first))]


@pytest.mark.timeout(6 * 3_600)
@pytest.mark.parametrize("server", HOSTS)
def test_nothing_is_left_of_a_run_that_is_ended(
    server: str,
    tmp_path: Path,
    study: Callable[..., Path],
    start: Any,
    env: Callable[..., dict[str, str]],
    storage: tuple[Any, dict[str, str]],
    figures: Callable[..., None],
    flow_runs: Callable[[str], dict[str, str]],
    request: pytest.FixtureRequest,
) -> None:
    client, access = storage
    shared = server == "a running server"
    runs_env = (request.getfixturevalue("prefect_server") if shared else env(PREFECT_HOME=str(tmp_path / "home"))) | access
    places: dict[str, Folder | Bucket] = {"folder": Folder(tmp_path / "published"), "object storage": Bucket(client, "warehouse")}
    studies = {
        "folder": study(tmp_path / "work-folder"),
        "object storage": study(tmp_path / "work-bucket", place="s3://warehouse/"),
    }
    count = round(RUNS * HOSTS[server])
    recorded = ("--flow",) if server == "its own server" else ()
    tally = Tally()
    for name, folder in studies.items():
        good = start(folder, f"{server}-{name}-good", runs_env, "estimate", "study.yaml", "--force", *recorded).end(None)
        assert good.code == 0, good.err
    for number, (place, step, share, name) in enumerate(moments(count)):
        what = f"{name} in {step} + {share:.2f}, {place}, {server}"
        folder, target = studies[place], places[place]
        before = latest(target.files())
        known = set((folder / ".groupwise" / "runs").iterdir())
        # Great Expectations, in a process of its own beside the fit, takes half of the time of a run: one run in four has it
        more = recorded if number % 4 == 0 else (*recorded, "--set", "expectations=null")
        run = start(folder, f"{os.getpid()}-{server}-{number}", runs_env, "estimate", "study.yaml", "--force", *more)

        def reached(pattern: str = STEPS[step], folder: Path = folder, known: set[Path] = known, run: Any = run) -> bool:
            if not pattern:
                return bool(run.hears_signals())
            return any(not known & {path, *path.parents} for path in (folder / ".groupwise").glob(pattern))

        run.wait_for(reached)
        wait_a_while(run, share)
        ended = run.end(signal.Signals[name])
        judge(tally, what, ended, SIGNALS[name], before, target, step)
        if (number + 1) % NEXT_RUN_EVERY == 0 or number + 1 == count:
            following = start(
                folder, f"{os.getpid()}-{server}-{number}-next", runs_env, "estimate", "study.yaml", "--force", *recorded
            ).end(None)
            tally.next_runs += 1
            if following.code != 0 or latest(target.files())[0] not in following.out:
                tally.faults.append(f"the run after {what} did not publish: {following.err}")
            if shared:
                left_open = {run_id: state for run_id, state in flow_runs(runs_env["PREFECT_API_URL"]).items() if state == "RUNNING"}
                tally.faults += [f"a flow run is left Running after {what}: {left_open}"] if left_open else []
        # as it goes, so that a lane that is stopped has measured something
        figures(
            f"signals-{server.replace(' ', '-')}",
            kind=f"signals and kills of runs with {server}",
            tried=number + 1,
            signals=tally.tried,
            finished_before=tally.finished_before,
            published_whole=tally.published_whole,
            next_runs=tally.next_runs,
            lost=len(tally.faults),
            slowest_seconds=tally.slowest,
            slowest_at=tally.slowest_at,
            seed=SEED,
        )
    assert not tally.faults, "\n".join(tally.faults)


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", list(SIGNALS))
def test_a_run_that_compiles_or_samples_in_native_code_is_ended(
    name: str, study: Callable[..., Path], start: Any, prefect_server: dict[str, str], figures: Callable[..., None]
) -> None:
    work = study()
    # so many draws that the compiler or the sampler is busy whenever the signal comes
    long = ("--engine", "bayesian", "--set", "sampling.form=nuts", "--set", "sampling.draws=50000", "--set", "expectations=null")
    run = start(work, f"{os.getpid()}-sampler-{name}", prefect_server, "estimate", "study.yaml", "--force", *long)
    assert run.wait_for(lambda: bool(list((work / ".groupwise").glob(STEPS["fit"]))))
    run.wait_for(lambda: False, 20)
    ended = run.end(signal.Signals[name])
    assert ended.was_running
    assert ended.code == SIGNALS[name]
    assert ended.messages == (0 if name == "SIGKILL" else 1)
    assert ended.seconds < LIMIT_SECONDS
    assert ended.left == []
    kind = f"{name} while nutpie compiles or samples"
    figures(f"sampler-{name.lower()}", kind=kind, tried=1, failed=1, next_runs=0, lost=0, slowest_seconds=ended.seconds)


def wait_a_while(run: Any, share: float) -> None:
    """Up to three seconds, about as long as a step of this study takes."""
    run.wait_for(lambda: False, 3.0 * share)


def judge(
    tally: Tally, what: str, ended: Any, expected: int, before: tuple[str, dict[str, str]], target: Folder | Bucket, step: str
) -> None:
    """Hold what is left against what may be left."""
    after = latest(target.files())
    told = tally.faults.append
    if not ended.was_running or ended.code == 0:
        tally.finished_before += 1
    else:
        name = what.partition(" ")[0]
        tally.tried[name] = tally.tried.get(name, 0) + 1
        if ended.seconds > tally.slowest:
            tally.slowest, tally.slowest_at = ended.seconds, what
        if ended.seconds > LIMIT_SECONDS:
            told(f"{what}: {ended.seconds:.1f} s")
        if ended.code != expected:
            told(f"{what}: exit code {ended.code}: {ended.err}")
        if expected > 0 and ended.messages != 1:
            told(f"{what}: {ended.messages} messages: {ended.err!r}")
        if "Traceback" in ended.err:
            told(f"{what}: {ended.err}")
    if ended.left:
        told(f"{what}: left running: {ended.left}")
    if not target.is_free():
        told(f"{what}: the lock is held")
    if after != before and ended.code != 0:
        tally.published_whole += 1
        if after[0] == before[0]:
            told(f"{what}: the version before was changed")
