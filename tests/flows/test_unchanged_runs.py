"""The same run a second time, from the command line: nothing is run, and the last line is the folder that was published before."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

type Estimate = Callable[..., tuple[int, str, str]]

MOST_SECONDS = 3.0


def test_a_run_of_the_same_inputs_ends_unchanged(shop: Path, estimate: Estimate) -> None:
    _, first, _ = estimate("--set", "title=once", forced=False)
    before = sorted((shop / "published").rglob("*"))
    code, again, err = estimate("--set", "title=once", forced=False)
    assert code == 0
    assert again.splitlines()[-1] == first.splitlines()[-1]
    assert "spend: Unchanged. Run " in err
    assert "extract line items" not in err
    assert sorted((shop / "published").rglob("*")) == before


@pytest.mark.operations
def test_a_flow_run_of_the_same_inputs_is_in_the_state_unchanged(estimate_flow: Estimate) -> None:
    _, first, _ = estimate_flow("--set", "title=twice", forced=False)
    code, again, err = estimate_flow("--set", "title=twice", forced=False)
    assert code == 0, err
    assert again.splitlines()[-1] == first.splitlines()[-1]
    assert "Unchanged" in err
    with get_client(sync_client=True) as client:
        states = [run.state_name for run in client.read_flow_runs()]
    assert states.count("Unchanged") == 1
    code, forced, err = estimate_flow("--set", "title=twice")
    assert code == 0, err
    assert forced.splitlines()[-1] != first.splitlines()[-1]


@pytest.mark.operations
def test_it_takes_less_than_three_seconds(shop: Path) -> None:
    """The best of three, since the machine does other things too."""
    command = [str(Path(sys.executable).with_name("groupwise")), "estimate", "spend.yaml", "--set", "title=quick"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    first = subprocess.run(command, cwd=shop, env=kept, capture_output=True, text=True, check=True)
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        again = subprocess.run(command, cwd=shop, env=kept, capture_output=True, text=True, check=True)
        seconds.append(time.monotonic() - start)
        assert "Unchanged" in again.stderr
        assert again.stdout == first.stdout
    assert min(seconds) < MOST_SECONDS


def test_a_study_with_privacy_leaves_no_folder_of_its_run(shop: Path, estimate: Estimate) -> None:
    (shop / "private.yaml").write_text((shop / "spend.yaml").read_text().replace("spend", "private") + "privacy: {of: day, k: 2}\n")
    runs = shop / ".groupwise" / "runs"
    before = set(runs.iterdir()) if runs.is_dir() else set()
    code, _, err = estimate(study="private.yaml")
    assert code == 0, err
    assert set(runs.iterdir()) == before
    code, _, err = estimate("--set", "where=amount < 0", study="private.yaml")
    assert code == 1
    [failed] = set(runs.iterdir()) - before
    assert {path.name for path in failed.iterdir()} <= {"run.log", "study.json", "origin.json", "start.json", "ended.json", ".held"}
