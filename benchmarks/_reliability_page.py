"""Write the measured part of docs/reliability.md from what its lanes left behind.

Run: ``python -m benchmarks._reliability_page`` (the end of each lane). A block without new figures stays as it is on the page.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks._calibration_page import markdown

FIGURES = Path(".groupwise") / "reliability"
PAGE = Path("docs") / "reliability.md"

type Entry = Mapping[str, Any]


def main() -> None:
    """Replace every block whose figures are there."""
    text = PAGE.read_text(encoding="utf-8")
    for name, pattern, block in BLOCKS:
        files = sorted(FIGURES.glob(pattern))
        if files:
            text = replace_block(text, name, block([json.loads(file.read_text(encoding="utf-8")) for file in files]))
            print(f"{PAGE}: {name} from {len(files)} files")
    PAGE.write_text(text, encoding="utf-8")


def replace_block(text: str, name: str, block: str) -> str:
    """The page with ``block`` between the markers ``<!-- name -->`` and ``<!-- /name -->``; ValueError where it has none."""
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{PAGE} has no place for {name}")
    return pattern.sub(lambda found: f"{found[1]}{block}{found[2]}", text)


def provenance() -> dict[str, str]:
    """When, at which commit and on what machine a lane ran."""
    commit = _git("rev-parse", "--short", "HEAD")
    # the pages that lanes write are no code: a lane after another would measure a changed tree
    changed = "" if _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs") == "" else " with changes"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    return {"date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": f"{commit}{changed}", "machine": machine}


def provenance_line(entries: Sequence[Entry]) -> str:
    """``provenance`` as the sentence under a table; rows may come from several commits."""
    commits = list(dict.fromkeys(str(entry["commit"]) for entry in entries))
    at = f"commit {commits[0]}" if len(commits) == 1 else f"commits {', '.join(commits)}"
    return f"Measured on {max(str(entry['date']) for entry in entries)} at {at}; {entries[-1]['machine']}.\n"


def fuzz_block(entries: Sequence[Entry]) -> str:
    """What the fuzz lane tried, a row for each kind of input."""
    rows = [
        (
            entry["kind"],
            f"{entry['tried']:,}",
            f"{entry['refused']:,}",
            f"{entry['accepted']:,}",
            f"{entry['not_ours']:,}",
            f"{entry['slowest_seconds']:.2f} s",
            f"{entry['memory_mb']:,.0f} MB",
            str(entry["seed"]),
        )
        for entry in entries
    ]
    columns = ("input", "tried", "refused", "accepted", "exceptions not ours", "slowest case", "peak memory", "seed")
    return f"{markdown(columns, rows)}\n{provenance_line(entries)}"


def faults_block(entries: Sequence[Entry]) -> str:
    """What the faults lane tried, a row for each kind of fault."""
    rows = [
        (
            entry["kind"],
            f"{entry['tried']:,}",
            f"{sum(entry['signals'].values()) if 'signals' in entry else entry['failed']:,}",
            f"{entry['next_runs']:,}",
            f"{entry['lost']:,}",
            f"{entry['slowest_seconds']:.1f} s" if "slowest_seconds" in entry else "",
        )
        for entry in entries
    ]
    columns = ("fault", "tried", "ended or noticed", "next runs that had to publish", "faults found", "slowest end after a signal")
    return f"{markdown(columns, rows)}\n{provenance_line(entries)}"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


BLOCKS: tuple[tuple[str, str, Callable[[Sequence[Any]], str]], ...] = (
    ("fuzz", "fuzz-*.json", fuzz_block),
    ("faults", "faults-*.json", faults_block),
)
"""A block's name on the page, the files that hold its figures, and what makes the text of them."""

if __name__ == "__main__":
    main()
