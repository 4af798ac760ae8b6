"""``python -m flows``: what ``python -m groupwise`` was called in the first version."""

from groupwise.commands import main

if __name__ == "__main__":
    main()
