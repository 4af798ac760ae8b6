"""Where there is no terminal, what lasts says so, and what is short says nothing."""

from __future__ import annotations

import logging
import time

import pytest

from groupwise import heartbeat as beats
from groupwise.heartbeat import Heartbeat
from groupwise.progress import reading_progress, run_progress


def test_a_line_says_what_is_done_and_for_how_long() -> None:
    said: list[str] = []
    beat = Heartbeat(said.append, every=0.05)
    beat.start()
    beat.now("reading")
    time.sleep(0.12)
    beat.detail("reading, the second half")
    time.sleep(0.12)
    beat.now("")
    quiet = len(said)
    time.sleep(0.12)
    beat.stop()
    assert said[0].startswith("reading: 0 s so far")
    assert "the second half" in said[-1]
    assert len(said) - quiet <= 1


def test_lines_come_at_least_every_ten_seconds() -> None:
    assert beats.SECONDS < 10


def test_a_run_logs_its_step_with_the_share_that_is_done(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beats.Heartbeat, "__init__", _quick(beats.Heartbeat.__init__))
    with caplog.at_level(logging.INFO, "groupwise"), run_progress() as progress:
        progress.begin("fit", "Fit the model")
        progress.share("chain 2", 0.5)
        time.sleep(0.15)
        progress.end("fit")
    assert "Fit the model, chain 2, 50%: 0 s so far" in caplog.text


def test_a_plan_says_on_stderr_what_it_reads(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beats.Heartbeat, "__init__", _quick(beats.Heartbeat.__init__))
    with reading_progress() as tell:
        tell("reading line items")
        time.sleep(0.15)
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == ("", "reading line items: 0 s so far")


def _quick(init):  # type: ignore[no-untyped-def]
    return lambda self, say: init(self, say, 0.05)
