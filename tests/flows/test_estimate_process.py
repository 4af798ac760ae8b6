"""``groupwise estimate`` as a process of its own: with no server anywhere, and killed on its way."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest
from prefect.settings import get_current_settings

from groupwise.shop.simulate_shop import simulate_shop

ROOT = Path(__file__).parents[2]
GROUPWISE = [str(Path(sys.executable).with_name("groupwise"))]
STUDY = """
name: simulated
formula: log_amount ~ 1 + discount + (1 | region) + (1 | department/category)
source: {database: shop.duckdb, line_items: line_items.sql}
cells: [region, category]
engine: likelihood
"""


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", **more}


@pytest.mark.operations
def test_a_simulated_shop_is_estimated_with_no_server_anywhere(tmp_path: Path) -> None:
    simulate_shop(tmp_path / "shop.duckdb", 5_000, customers=200, products=100, categories=20, regions=5, seed=3)
    shutil.copyfile(ROOT / "sql" / "simulated_line_items.sql", tmp_path / "line_items.sql")
    (tmp_path / "study.yaml").write_text(STUDY)
    done = subprocess.run(
        [*GROUPWISE, "estimate", "study.yaml", "--as-of", "2025-01-01"],
        cwd=tmp_path,
        env=environment(PREFECT_HOME=str(tmp_path / "home"), PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120"),
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / done.stdout.splitlines()[-1]
    assert folder.parent.name == "dt=2025-01-01"
    sql = f"select count(distinct level) from '{folder}/group_estimates.parquet' where grouping_factor = 'region' and not is_new"
    assert duckdb.sql(sql).fetchall() == [(5,)]
    assert "Traceback" not in done.stderr
    # Prefect itself was not started
    assert not (tmp_path / "home").exists()


@pytest.mark.operations
@pytest.mark.parametrize(
    "reached",
    [
        "runs/*/cells.parquet",
        pytest.param("runs/*/validation.json", marks=pytest.mark.faults),
        pytest.param("runs/*/tables/group_estimates.parquet", marks=pytest.mark.faults),
        pytest.param("../../publish/spend/.staging/*/*", marks=pytest.mark.faults),
    ],
)
def test_a_run_that_is_killed_changes_nothing(
    reached: str, shop: Path, published: Callable[[], dict[str, str]], tmp_path: Path, prefect_server: None
) -> None:
    """The same place to publish, a run killed as soon as it has come so far: the version before stays, byte for byte."""
    published()
    place = tmp_path / "publish"
    shutil.copytree(shop / "published", place, symlinks=True)
    before = versions(place)
    work = tmp_path / "work"
    work.mkdir()
    for name in ("lines.parquet", "spend.yaml"):
        (work / name).symlink_to(shop / name)
    process = subprocess.Popen(
        [*GROUPWISE, "estimate", "spend.yaml", "--force", "--publish-to", str(place)],
        cwd=work,
        env=environment(PREFECT_API_URL=str(get_current_settings().api.url)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not list((work / ".groupwise").glob(reached)):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    out, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it was killed"
    assert out == b""
    assert versions(place) == before


def versions(place: Path) -> dict[str, bytes]:
    """Everything that a reader may see of the study; staging is for the next run to remove."""
    study = place / "spend"
    return {
        str(path.relative_to(study)): path.read_bytes()
        for path in study.rglob("*")
        if path.is_file() and ".staging" not in path.parts and path.suffix != ".lock"
    }


@pytest.mark.operations
def test_a_terminal_shows_how_far_the_whole_run_is(shop: Path, tmp_path: Path) -> None:
    for name in ("lines.parquet", "spend.yaml"):
        (tmp_path / name).symlink_to(shop / name)
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [*GROUPWISE, "estimate", "spend.yaml"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    with suppress(OSError):  # a terminal whose other end is closed
        while data := os.read(mine, 65_536):
            seen += data
    out, _ = process.communicate()
    assert process.returncode == 0
    assert b"rev=" in out
    # the steps between may be over before the bar is drawn again
    for title in ("extract line items", "publish the tables"):
        assert title in seen.decode()
    assert "done in" not in seen.decode()


@pytest.mark.operations
def test_a_run_whose_second_process_is_killed_says_so_and_publishes_nothing(shop: Path, tmp_path: Path) -> None:
    for name in ("lines.parquet", "spend.yaml"):
        (tmp_path / name).symlink_to(shop / name)
    process = subprocess.Popen(
        [*GROUPWISE, "estimate", "spend.yaml"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list((tmp_path / ".groupwise").glob("runs/*/validation.json")):
        time.sleep(0.002)
    beside = [grandchild for child in children(process.pid) for grandchild in children(child)]
    assert len(beside) == 1
    os.kill(beside[0], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert "The process that publishes was killed" in err
    assert "Traceback" not in err
    assert not (tmp_path / "published" / "spend" / "_latest.json").exists()


def children(number: int) -> list[int]:
    """Processes whose parent is process ``number``."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # its name, in brackets, may have spaces in it
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == number:
                found.append(int(status.parent.name))
    return found
