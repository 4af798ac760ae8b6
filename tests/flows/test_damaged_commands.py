"""Through the command line: a damaged published file ends every command that reads it with its name, and the next run goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from groupwise.pipeline.release import release
from groupwise.run_folder import RunFolder
from tests.flows.in_process import run_command

STUDY = """
name: spend
formula: amount ~ 1 + on_sale + (1 | store)
source: {parquet: lines.parquet}
engine: likelihood
"""
FIRST, SECOND = date(2026, 1, 1), date(2026, 1, 2)

type Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, run_until_fitted: Callable[..., RunFolder]) -> Path:
    """A study published twice, r1 and r2."""
    place = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        rng = np.random.default_rng(5)
        frame = pd.DataFrame({"store": [f"S{i}" for i in rng.integers(0, 6, 300)], "on_sale": rng.random(300) < 0.4})
        frame["amount"] = 5.0 - frame.on_sale + rng.normal(size=300)
        frame.to_parquet("lines.parquet")
        Path("spend.yaml").write_text(STUDY)
        for run_id, day in (("r1", FIRST), ("r2", SECOND)):
            release(run_until_fitted("spend.yaml", run_id, today=day))
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to damage."""
    copy = tmp_path / "shop"
    shutil.copytree(made, copy, symlinks=True)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def groupwise(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    def run(*arguments: str) -> tuple[int, str, str]:
        return run_command(monkeypatch, capfd, *arguments)

    return run


def flip(file: Path, bit: int = 4_000) -> None:
    content = bytearray(file.read_bytes())
    content[(bit // 8) % len(content)] ^= 1 << (bit % 8)
    file.write_bytes(content)


R1, R2 = "published/spend/versions/dt=2026-01-01/rev=r1", "published/spend/versions/dt=2026-01-02/rev=r2"
READING = {
    "show": (f"{R2}/variance_components.parquet", ["show", "spend.yaml"]),
    "show the study's folder": (f"{R2}/variance_components.parquet", ["show", "published/spend"]),
    "show a version's folder": (f"{R1}/group_estimates.parquet", ["show", R1]),
    "show current": (f"{R2}/group_estimates.parquet", ["show", "published/spend/current"]),
    "diff": (f"{R1}/diagnostics.parquet", ["diff", "spend.yaml"]),
    "diff's cells": ("published/spend/joint/2026-01-01/r1.cells.parquet", ["diff", "spend.yaml"]),
    "contrast": ("published/spend/joint/2026-01-02/r2/coefficients.parquet", ["contrast", "spend.yaml", "S1", "S2"]),
    "predict": ("published/spend/joint/2026-01-01/r1/models.parquet", ["predict", "spend.yaml", "--at", "lines.parquet", "--run", "r1"]),
    "report": ("published/spend/reports/2026-01-02/r2.html", ["report", "spend.yaml"]),
    "rollback": ("published/spend/contracts/2026-01-01/r1.odcs.yaml", ["rollback", "spend.yaml", "--to", "r1"]),
    "manifest": ("published/spend/manifests/2026-01-02/r2.json", ["show", "spend.yaml"]),
    "manifest of a folder": ("published/spend/manifests/2026-01-01/r1.json", ["show", R1]),
    "pointer": ("published/spend/_latest.json", ["show", "spend.yaml"]),
}


@pytest.mark.parametrize("case", READING)
def test_a_command_names_the_damaged_or_missing_file_that_it_reads(place: Path, groupwise: Run, case: str) -> None:
    name, command = READING[case]
    file = place / name
    pointer = (place / "published/spend/_latest.json").read_bytes()
    code, _, err = groupwise(*command)
    assert (code, err) == (0, "")
    (place / "published/spend/_latest.json").write_bytes(pointer)
    flip(file)
    code, out, err = groupwise(*command)
    assert (code, out) == (1, "")
    assert file.name in err
    assert "Traceback" not in err
    if case != "pointer":
        file.unlink()
        code, out, err = groupwise(*command)
        assert (code, out) == (1, "")
        assert file.name in err
        assert json.loads((place / "published/spend/_latest.json").read_text())["run_id"] == "r2"


def test_the_next_run_publishes_beside_a_damaged_version_and_says_that_it_did_not_compare(
    place: Path, run_until_fitted: Callable[..., RunFolder], capfd: pytest.CaptureFixture[str]
) -> None:
    flip(place / R2 / "group_estimates.parquet")
    (place / "published/spend/manifests/2026-01-01/r1.json").write_text("{}")
    (place / "published/spend/manifests/2026-01-01/notes.json").write_text('{"mine": 1}')
    published = release(run_until_fitted("spend.yaml", "r3", today=SECOND))
    assert published.is_latest
    err = capfd.readouterr().err
    assert "group_estimates.parquet is damaged" in err
    assert "does not say what changed since run r2" in err
    manifest = json.loads(Path(str(published.manifest)).read_text())
    assert "group_estimates.parquet is damaged" in manifest["warnings"][0]


def test_history_commands_name_what_is_no_manifest_and_go_on(place: Path, groupwise: Run, caplog: pytest.LogCaptureFixture) -> None:
    (place / "published/spend/manifests/2026-01-01/notes.json").write_text('{"mine": 1}')
    for command in (["diff", "spend.yaml"], ["prune", "spend.yaml", "--keep", "2"], ["report", "spend.yaml", "--index"]):
        caplog.clear()
        assert groupwise(*command)[0] == 0
        assert "notes.json" in caplog.text


def test_a_folder_that_is_no_published_version_is_refused(place: Path, groupwise: Run) -> None:
    shutil.copytree(place / R1, place / "copy")
    for folder in ("copy", "published", "."):
        code, _, err = groupwise("show", folder)
        assert code == 1
        assert "no published tables here" in err
