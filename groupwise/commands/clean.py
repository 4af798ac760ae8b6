"""``groupwise clean``: remove the folders of runs that need not stay."""

from __future__ import annotations

from collections.abc import Iterator

from groupwise.printable import printable
from groupwise.retention import leftovers, remove
from groupwise.run_folder import RUNS


def clean_runs(*, dry_run: bool) -> Iterator[str]:
    """A line for every run of which something is removed, or would be, and one for all of them together."""
    verb = "would remove" if dry_run else "removed"
    count, size = 0, 0
    for old in leftovers(RUNS):
        own = old.size
        if not dry_run:
            remove(old)
        what = "the folder of" if old.is_whole else "what must not stay of"
        yield f"{verb} {what} run {old.run.run_id}" + printable(f" ({old.study or 'no study'}: {old.why}; {megabytes(own)})")
        count, size = count + 1, size + own
    left = sum(1 for path in RUNS.iterdir() if path.is_dir()) if RUNS.is_dir() else 0
    yield f"{RUNS}: {verb} {megabytes(size)} of {count:,} runs; {left:,} folders are there."


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:,.1f} MB"
