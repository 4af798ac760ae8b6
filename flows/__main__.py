"""``python -m flows`` is the ``groupwise`` command."""

from flows.command_line import main

if __name__ == "__main__":
    main()
