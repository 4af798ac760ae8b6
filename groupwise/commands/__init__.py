"""The commands, one a file; each imports what it needs when it runs. ``main`` runs them under a supervisor."""

import gc
import sys
from typing import NoReturn

from groupwise.supervision.supervisor import supervised

GARBAGE_THRESHOLD = 50_000
"""New objects between two searches for unreachable ones: Python's own few hundred cost an eighth of the time that loading takes."""


def main() -> NoReturn:
    """Run the command in a child process, and end as it ends. Nothing else is imported before signals are heard."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    sys.exit(supervised(_command))


def _command() -> NoReturn:
    from groupwise.commands import command_line

    command_line.main()
