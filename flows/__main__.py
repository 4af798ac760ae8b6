"""``groupwise`` and ``python -m flows``: the command line, under a supervisor. Nothing else is imported before signals are heard."""

import sys
from typing import NoReturn

from flows.supervision.supervisor import supervised


def main() -> NoReturn:
    """Run the command in a child process, and end as it ends."""
    sys.exit(supervised(_command))


def _command() -> NoReturn:
    from flows import command_line

    command_line.main()


if __name__ == "__main__":
    main()
