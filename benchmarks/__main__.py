"""``python -m benchmarks [name ...]``: run all benchmarks, or those named; each prints its ratios."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path


def main(names: list[str]) -> None:
    """Run benchmarks by module name; a number after a name is handed to it."""
    every = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    chosen = [name for name in names if not name.isdigit()] or every
    sizes = [int(name) for name in names if name.isdigit()]
    for name in chosen:
        print(f"== {name}", flush=True)
        import_module(f"benchmarks.{name}").main(*sizes)


if __name__ == "__main__":
    main(sys.argv[1:])
