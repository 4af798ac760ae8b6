"""The process beside a worker's run: reads the numbers of the signals that the run gets, and kills it where it has not ended in time.

Standard library only, and run as a file: ``python guard.py PID``, the pipe of signals on stdin.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

PATIENCE_SECONDS = 3.5
"""How long a run may take to end after a signal: Prefect asks for the flow run's final state meanwhile."""


def main(run: int) -> None:
    """Wait for the pipe to close, which it does with the run; kill the run where it does not close in time after a signal."""
    while True:
        heard = os.read(0, 4_096)
        if not heard:
            return
        if set(heard) & {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}:
            break
    end = time.monotonic() + PATIENCE_SECONDS
    while (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select([0], [], [], left)
        if ready and not os.read(0, 4_096):
            return
    # the pipe is open, so that the process is there and its number is its own
    os.kill(run, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]))
