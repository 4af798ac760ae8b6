"""Whatever a formula, a study file or a condition holds: it is accepted, or refused by an error of ours, within 2 seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks._reliability_page import provenance

ROOT = Path(__file__).parents[2]
SEED = 20_261_128
CASES = {"formulas": 100_000, "studies": 30_000, "conditions": 10_000}


def figures_of(kind: str, n_cases: int, seed: int, folder: Path) -> dict[str, Any]:
    """Figures of a process that tried so many cases within its limits; its message where it did not come to its end."""
    file = folder / f"fuzz-{kind}.json"
    command = [sys.executable, str(ROOT / "tests" / "fuzz" / "cases.py"), kind, str(n_cases), str(seed), str(file)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("kind", CASES)
def test_a_few_hostile_texts_are_accepted_or_refused(kind: str, tmp_path: Path) -> None:
    found = figures_of(kind, 60, 7, tmp_path)
    assert found["examples"] == []
    assert found["tried"] == found["accepted"] + found["refused"]
    assert found["accepted"] and found["refused"]


@pytest.mark.fuzz
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", CASES)
def test_many_hostile_texts_are_accepted_or_refused(kind: str, tmp_path: Path) -> None:
    found = provenance() | figures_of(kind, CASES[kind], SEED, tmp_path)
    folder = ROOT / ".groupwise" / "reliability"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"fuzz-{kind}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    assert found["examples"] == []
