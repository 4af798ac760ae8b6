"""How a command ends: one clear message on stderr, an exit code, and no interpreter teardown."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

from groupwise.supervision.news import is_supervised

MESSAGE_LINES = 6
INTERRUPTED = 130


def leave(code: int) -> NoReturn:
    """End the process: what was registered for the end runs (Prefect's server stops there), then no interpreter teardown.

    Teardown frees nothing that the operating system does not, takes up to a second, and lets extension modules write about leaked objects
    over the one message that the user should read. An interrupted command leaves Prefect's server to its supervisor, which still needs it.
    """
    if code == INTERRUPTED and is_supervised():
        os._exit(code)
    if "prefect.logging.handlers" in sys.modules:
        # the run's last log records go to the server while it still answers
        sys.modules["prefect.logging.handlers"].APILogHandler().flush()
    sys.stdout.flush()
    sys.stderr.flush()
    atexit._run_exitfuncs()
    os._exit(code)


def message_of(error: Exception) -> str:
    """What the user reads of an error, in a few lines."""
    usage = getattr(error, "format_message", None)
    if usage is not None:
        from groupwise.commands.usage import usage_message

        return usage_message(error, usage())
    from groupwise.faults import as_ours

    known = as_ours(error)
    if known is not None:
        return str(known) + _log_hint(error)
    said = " ".join(str(error).split())[:300]
    fault = f"a fault in groupwise: {type(error).__name__}: {said}"
    return f"{fault}\nPlease report it, with the command, the study and the log." + _log_hint(error)


def _log_hint(error: Exception) -> str:
    log = getattr(error, "groupwise_log", None)
    return f"\nThe details are in {log}" if log else ""


def fail(message: str, code: int) -> int:
    """Print the message on stderr; the code."""
    from groupwise.printable import printable

    lines = [printable(line) for line in message.strip().splitlines() if line.strip()]
    shown = [line if len(line) <= 600 else line[:597] + "..." for line in lines[:MESSAGE_LINES]]
    sys.stdout.flush()
    print("groupwise: " + "\n".join(shown), file=sys.stderr)
    return code
