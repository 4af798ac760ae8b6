"""A command runs in a child process; this process waits, passes signals on, and leaves nothing behind whichever of them ends first.

Three processes, so that native code that cannot be interrupted, an interpreter that is stuck and a SIGKILL are all the same to us:

- the supervisor, which the user started and which nothing keeps busy,
- the command, with everything that it starts in one process group,
- the guard, the first of that group, which ends the group when the supervisor is gone.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Literal, NoReturn

from groupwise.supervision.news import News, Reader, tell_through

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if sys.platform != "win32" else ()
TIDY_SECONDS = 0.7
"""How long a command may tidy up after a signal."""
STATE_SECONDS = 2.0
"""How long the flow run's final state may take."""
LEAVE_SECONDS = 1.0
"""How long processes that are killed may take to be gone."""


class Child:
    """A child process. Its number may be another process's once it has been waited for, so that it is signalled only before."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.code: int | None = None

    def has_ended(self, *, wait: bool = False) -> bool:
        """Whether it has ended, ``code`` saying how (negative: the signal that killed it)."""
        if self.code is None:
            number, status = os.waitpid(self.number, 0 if wait else os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if number else None
        return self.code is not None

    def send(self, signal_number: int) -> None:
        """Signal it, if it runs."""
        if not self.has_ended():
            os.kill(self.number, signal_number)


@dataclass(frozen=True)
class Group:
    """The processes of a command: the number of ``guard`` is that of their process group."""

    guard: Child
    command: Child

    def send(self, signal_number: int) -> None:
        """Signal all of them."""
        os.killpg(self.guard.number, signal_number)


@dataclass(frozen=True)
class Pipes:
    """Each a (read, write) pair: ``alive`` closes with the supervisor, ``signals`` has their numbers, ``news`` what the command tells."""

    alive: tuple[int, int]
    signals: tuple[int, int]
    news: tuple[int, int]


def supervised(command: Callable[[], NoReturn]) -> int:
    """Exit code of ``command``, which runs in a child process; 128 + the signal that ended it, told in one message on stderr.

    Parameters
    ----------
    command : ends its process itself.
    """
    if sys.platform == "win32":  # no process groups, and no signals of this kind
        command()
    pipes = Pipes(os.pipe(), os.pipe(), os.pipe())
    for end in pipes.signals:
        os.set_blocking(end, False)
    # a shell that ignores a signal for its child (nohup) is obeyed
    ending = [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    guard = os.fork()
    if guard == 0:
        _stand_guard(pipes.alive[0])
    os.setpgid(guard, guard)
    child = os.fork()
    if child == 0:
        _become_command(guard, pipes, ending)
        command()
    os.close(pipes.news[1])
    stopping = [number for number in (signal.SIGTSTP,) if signal.getsignal(number) != signal.SIG_IGN]
    for number in (*ending, *stopping, signal.SIGCHLD):
        signal.signal(number, _heard)
    signal.set_wakeup_fd(pipes.signals[1], warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ending)
    return _watch(Group(Child(guard), Child(child)), pipes.signals[0], Reader(pipes.news[0]), ending)


def _heard(number: int, frame: FrameType | None) -> None:
    """Nothing to do: the wake-up pipe has the signal's number."""


def _stand_guard(alive: int) -> NoReturn:
    """Wait for the supervisor's end of the pipe to close, then end the whole group, this process included."""
    os.setpgid(0, 0)
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    os.dup2(alive, 3)
    os.closerange(4, min(os.sysconf("SC_OPEN_MAX"), 65_536))
    while os.read(3, 1):
        pass
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _become_command(guard: int, pipes: Pipes, ending: list[signal.Signals]) -> None:
    """Join the group, tell through the pipe, and let go of what belongs to the supervisor."""
    os.setpgid(0, guard)
    for end in (*pipes.alive, pipes.signals[0], pipes.news[0]):
        os.close(end)
    tell_through(pipes.news[1])
    # a group in the background may write to its terminal
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    # the supervisor interrupts, even where the shell ignores the user's ctrl-c
    for number in {*ending, signal.SIGINT}:
        signal.signal(number, _interrupt)
    # a signal to this process alone reaches the supervisor too, whatever code is busy here
    signal.set_wakeup_fd(pipes.signals[1], warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ending)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Unwind, so that temporary folders go; say nothing, the supervisor has the word."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    raise KeyboardInterrupt


def _watch(group: Group, signals: int, reader: Reader, ending: list[signal.Signals]) -> int:
    """Wait for the command's end, or for a signal that ends it."""
    told = True
    while True:
        ready, _, _ = select.select([signals, reader.pipe] if told else [signals], [], [])
        if reader.pipe in ready:
            told = reader.read()
        heard = _read(signals) if signals in ready else b""
        asked = [number for number in ending if number in heard]
        if asked:
            return _end(group, asked[0], reader)
        if group.command.has_ended():
            reader.read()
            return _ended(group, reader.news)
        if signal.SIGTSTP in heard:
            _suspend(group)


def _read(pipe: int) -> bytes:
    try:
        return os.read(pipe, 4_096)
    except BlockingIOError:
        return b""


def _suspend(group: Group) -> None:
    """Stop with the whole group, as a job of a shell does, and go on with it."""
    group.send(signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
    group.send(signal.SIGCONT)


def _end(group: Group, asked: signal.Signals, reader: Reader) -> int:
    """End the command for a signal: a moment to tidy up, then nothing is asked any more."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)  # it ends within seconds anyway, and says so once
    group.command.send(signal.SIGINT)
    end = time.monotonic() + TIDY_SECONDS
    while time.monotonic() < end and not group.command.has_ended():
        time.sleep(0.02)
    group.command.send(signal.SIGKILL)
    group.command.has_ended(wait=True)
    reader.read()
    words = "interrupted" if asked == signal.SIGINT else f"ended by {asked.name}"
    left_open = _mark(reader.news, "CANCELLED", words)
    _clear(group)
    _remove(reader.news.temporary)
    _say(f"{words}{_how_far(reader.news)}", left_open)
    return 128 + asked


def _ended(group: Group, news: News) -> int:
    """The command has ended by itself, or by a signal that it cannot answer."""
    code = group.command.code or 0
    if code >= 0:
        _clear(group)
        return code
    name = signal.Signals(-code).name
    left_open = _mark(news, "CRASHED", f"killed by {name}")
    _clear(group)
    _remove(news.temporary)
    memory = "; the system kills what takes too much memory" if -code == signal.SIGKILL else ""
    _say(f"the process was killed by {name}{memory}{_how_far(news)}", left_open)
    return 128 - code


def _how_far(news: News) -> str:
    """What is true of the published tables, in words."""
    if news.published is not None:
        return f" after it had published {news.published}"
    if news.step is None:
        return ""
    if news.step == "publish":
        return " while publishing: the version is published whole, or not at all; `groupwise show` tells which"
    return f" in the step {news.step}; nothing was published"


def _mark(news: News, state: Literal["CANCELLED", "CRASHED"], message: str) -> str | None:
    """The flow run's final state; why it has none, if so."""
    if news.api is None:
        return None
    from groupwise.supervision.flow_run_end import end_flow_run

    return end_flow_run(news, state, message, STATE_SECONDS)


def _say(message: str, left_open: str | None) -> None:
    if left_open is not None:
        message += f"\nIts flow run may still say Running: {left_open}"
    # a progress bar that was drawn when the process ended leaves its line, and hides the cursor
    cleared = "\r\x1b[K\x1b[?25h" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{cleared}groupwise: {message}\n")
    sys.stderr.flush()


def _remove(temporary: str | None) -> None:
    """Remove the working files of a command that could not do so itself."""
    if temporary is not None:
        import shutil

        shutil.rmtree(temporary, ignore_errors=True)


def _clear(group: Group) -> None:
    """End what is left of the group, and wait until it is gone."""
    group.send(signal.SIGKILL)
    group.guard.has_ended(wait=True)
    end = time.monotonic() + LEAVE_SECONDS
    while time.monotonic() < end:
        try:
            group.send(0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
