"""``python -m groupwise``: the same as the command ``groupwise``."""

from groupwise.commands import main

if __name__ == "__main__":
    main()
