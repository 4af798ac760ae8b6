"""Ctrl-C and the time limit end a command whose query has no end: a real process, and a query inside DuckDB."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]
ENDS_SECONDS = 5.0
STUDY = """
name: endless
formula: amount ~ 1 + (1 | category)
source: {database: shop.duckdb, line_items: endless.sql}
engine: likelihood
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A study whose line items have no end, and a folder for what the command keeps for itself."""
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute("create view lines as select 'C' || i % 4 as category, sin(i) as amount from range(1000000000000) as r(i)")
    (tmp_path / "endless.sql").write_text("select category, amount from lines")
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "temporary").mkdir()
    return tmp_path


@pytest.mark.parametrize("command", ["plan", "compare"])
def test_ctrl_c_ends_it_at_once(work: Path, start: Any, env: Callable[..., dict[str, str]], command: str) -> None:
    temporary = work / "temporary"
    run = start(work, f"endless-{command}", env(TMPDIR=str(temporary)), command, "study.yaml")
    assert run.wait_for(lambda: any(temporary.glob("groupwise-*")))
    time.sleep(2)  # the query runs by now
    ended = run.end(signal.SIGINT)
    assert (ended.was_running, ended.code, ended.left) == (True, 130, [])
    assert ended.err == "groupwise: interrupted\n"
    assert ended.seconds < ENDS_SECONDS
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("command", ["plan", "compare"])
def test_the_time_limit_ends_it(work: Path, start: Any, env: Callable[..., dict[str, str]], command: str) -> None:
    temporary = work / "temporary"
    run = start(work, f"limit-{command}", env(TMPDIR=str(temporary)), command, "study.yaml", "--time-limit", "2")
    assert run.wait_for(lambda: any(temporary.glob("groupwise-*")))
    ended = run.end(None)
    assert (ended.code, ended.messages, ended.left) == (1, 1, [])
    assert "did not end within 2 seconds" in ended.err
    assert ended.seconds < 2 + ENDS_SECONDS
    assert list(temporary.iterdir()) == []
