"""A supervised command, whatever it is busy with, ends within seconds of a signal, says one thing and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of this kind are POSIX's")

ROOT = Path(__file__).parents[3]
MARK = "GROUPWISE_TEST_SUPERVISED"
PROGRAM = """
import ctypes, os, signal, subprocess, sys, time
from groupwise.supervision.news import tell
from groupwise.supervision.supervisor import supervised

def command():
{body}
    sys.stdout.flush()
    os._exit(7)

sys.exit(supervised(command))
"""
READY = "    print('ready', flush=True)\n"
BUSY = {
    "sleeping": READY + "    time.sleep(60)",
    # a foreign function that does not give the interpreter back: no handler, no thread of Python runs
    "in native code that holds the interpreter": READY + "    ctypes.PyDLL(None).sleep(60)",
    "deaf to every signal that one can be deaf to": (
        "    [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]\n" + READY + "    time.sleep(60)"
    ),
    "waiting for a child that holds the pipes": (
        "    subprocess.run([sys.executable, '-c', 'import time; print(\"ready\", flush=True); time.sleep(60)'])"
    ),
}
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(autouse=True)
def hears_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests in the background of a shell (or under nohup) ignore SIGINT (SIGHUP), and so would what they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    monkeypatch.setenv(MARK, str(os.getpid()))


def started(body: str, before: str = "") -> subprocess.Popen[str]:
    """A supervised command that has said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", before + PROGRAM.format(body=body)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def family(process: subprocess.Popen[str]) -> list[int]:
    """The processes of a command that still run; zombies do not."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            session = (entry / "stat").read_text().rpartition(")")[2].split()
            if session[3] == str(process.pid) and session[0] not in "ZX":
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def command_of(process: subprocess.Popen[str]) -> int:
    """The supervised command itself: the younger child; the older is the guard."""
    return max(int(number) for number in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())


@pytest.mark.parametrize("number", list(CODES), ids=lambda number: number.name)
@pytest.mark.parametrize("busy", list(BUSY))
def test_a_signal_ends_it_with_one_message_and_leaves_nothing(busy: str, number: signal.Signals) -> None:
    process = started(BUSY[busy])
    begun = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - begun < 5
    assert process.returncode == CODES[number]
    assert out == ""
    assert err == ("groupwise: interrupted\n" if number == signal.SIGINT else f"groupwise: ended by {number.name}\n")
    assert family(process) == []


@pytest.mark.parametrize("busy", list(BUSY))
def test_killing_the_process_that_was_started_ends_all_the_others(busy: str) -> None:
    process = started(BUSY[busy])
    process.kill()
    out, err = process.communicate(timeout=5)
    assert (out, err) == ("", "")
    end = time.monotonic() + 2
    while family(process) and time.monotonic() < end:
        time.sleep(0.02)
    assert family(process) == []


def test_a_command_that_the_system_kills_is_told_of() -> None:
    process = started(BUSY["sleeping"])
    os.kill(command_of(process), signal.SIGKILL)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 137
    assert err == "groupwise: the process was killed by SIGKILL; the system kills what takes too much memory\n"
    assert family(process) == []


def test_a_signal_to_the_command_alone_ends_both() -> None:
    process = started(BUSY["in native code that holds the interpreter"])
    os.kill(command_of(process), signal.SIGTERM)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (143, "groupwise: ended by SIGTERM\n")


def test_more_signals_change_nothing() -> None:
    process = started(BUSY["in native code that holds the interpreter"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
        time.sleep(0.1)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, "groupwise: interrupted\n")


def test_a_signal_that_the_shell_ignores_is_ignored() -> None:
    process = started(READY + "    time.sleep(0.5)", before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n")
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (7, "")


def test_it_stops_and_goes_on_as_a_job_of_a_shell() -> None:
    process = started(READY + "    time.sleep(0.5)")
    process.send_signal(signal.SIGTSTP)
    deadline = time.monotonic() + 10
    states: list[str] = []
    while states != ["T"] * 3 and time.monotonic() < deadline:
        time.sleep(0.1)
        states = [Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] for number in family(process)]
    assert states == ["T"] * 3
    os.kill(process.pid, signal.SIGCONT)
    process.communicate(timeout=10)
    assert process.returncode == 7


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("step='fit'", " in the step fit; nothing was published"),
        ("step='publish'", " while publishing: the version is published whole, or not at all; `groupwise show` tells which"),
        ("step='publish', published='p/rev=1'", " after it had published p/rev=1"),
    ],
)
def test_the_message_says_what_is_true_of_the_tables(told: str, said: str) -> None:
    process = started(f"    tell({told})\n" + BUSY["sleeping"])
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=10)
    assert err == f"groupwise: ended by SIGTERM{said}\n"


def test_a_temporary_folder_goes(tmp_path: Path) -> None:
    made = (
        "    import tempfile\n    with tempfile.TemporaryDirectory(dir={!r}):\n        print('ready', flush=True)\n        time.sleep(60)"
    )
    process = started(made.format(str(tmp_path)))
    assert list(tmp_path.iterdir())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_cannot_be_reached_delays_the_end_by_little_and_is_told_of() -> None:
    process = started(f"    tell(**{json.dumps({'run_id': 'r', 'api': 'http://127.0.0.1:9/api'})})\n" + BUSY["sleeping"])
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=10)
    assert time.monotonic() - begun < 5
    assert err.startswith("groupwise: ended by SIGTERM\nIts flow run may still say Running: ")
