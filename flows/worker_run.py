"""A run that a Prefect worker has started: it ends within seconds of the worker's signal, whatever native code is busy.

Prefect's handler runs in the interpreter, which native code may not give back for minutes; the worker then waits 30 seconds and kills. The
number of the signal is written to a pipe the moment that it comes, and a small process at the other end does not wait as long.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from prefect.runtime import deployment

from groupwise.supervision import guard
from groupwise.supervision.news import is_supervised


def end_in_time() -> None:
    """From now on a signal ends this process within ``guard.PATIENCE_SECONDS``, where it runs a deployment and has no supervisor.

    A flow that is called from somebody's own program is left alone: to end that program is not ours.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if sys.platform == "win32" or is_supervised() or not in_main_thread or deployment.id is None:
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    # -S and -I: nothing but the standard library, started in twenty milliseconds
    command = [sys.executable, "-I", "-S", str(Path(guard.__file__)), str(os.getpid())]
    subprocess.Popen(command, stdin=read, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    os.close(read)
    # the pipe stays open until this process ends, which is how the guard knows
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
