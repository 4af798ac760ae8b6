"""The commands, one a file; each imports what it needs when it runs. ``main`` runs them under a supervisor."""

import sys
from typing import NoReturn

from groupwise.supervision.supervisor import supervised


def main() -> NoReturn:
    """Run the command in a child process, and end as it ends. Nothing else is imported before signals are heard."""
    sys.exit(supervised(_command))


def _command() -> NoReturn:
    from groupwise.commands import command_line

    command_line.main()
