"""How long the folders of runs stay: days by the study's ``runs``, and no longer than the run where the study has ``privacy``.

What they hold of line items goes, too, once a run finds that the source no longer has these.

A run holds a lock in its folder, which is free as soon as its process is gone, so that no run at work is taken for a dead one.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from groupwise.resources import SPILL
from groupwise.run_folder import RUN_ID, RunFolder
from groupwise.source.relation import SPILLED
from groupwise.study.run_fields import KeptRuns

logger = logging.getLogger("groupwise.run")

HELD = ".held"
ENDED = "ended"
GRACE = timedelta(minutes=1)
"""A folder that nobody holds yet may be that of a run which has just made it."""
NO_ROWS = frozenset({"run.log", "study.json", "origin.json", "start.json", f"{ENDED}.json", HELD, "segments.json"})
"""What a run that failed leaves for its time although its study has ``privacy``: nothing of rows or groups."""


@dataclass(frozen=True)
class Leftover:
    """What need not stay of a run: ``paths``, its folder among them or some of what is in it. ``why`` in words."""

    run: RunFolder
    study: str
    why: str
    paths: tuple[Path, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the run stays."""
        return self.run.path in self.paths

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(_size, self.paths))


@contextmanager
def at_work(run: RunFolder) -> Iterator[None]:
    """The run's turn in its folder: held for the block, then marked as ended, well or not; what need not stay, of any run, is removed."""
    for old in leftovers(run.path.parent):
        remove(old)
    how = "failed"
    try:
        with FileLock(run.path / HELD):
            try:
                yield
                how = "well"
            finally:
                # a full disk has been told of by then, and a folder without this file counts as a killed run's
                with suppress(OSError):
                    run.write_json(ENDED, {"how": how, "ended_at": datetime.now(UTC).isoformat(timespec="seconds")})
    finally:
        own = _leftover(run, datetime.now(UTC)) if run.path.is_dir() else None
        if own is not None:
            remove(own)


def leftovers(runs: Path, now: datetime | None = None) -> Iterator[Leftover]:
    """What need not stay of the runs whose folders are in ``runs``, oldest first; runs at work are none."""
    folders = sorted(runs.iterdir()) if runs.is_dir() else []
    for path in folders:
        if re.fullmatch(RUN_ID, path.name) and path.is_dir() and not path.is_symlink():
            found = _leftover(RunFolder(path.absolute()), now or datetime.now(UTC))
            if found is not None:
                yield found


def rows_of_earlier_runs(runs: Path, study: str, run_id: str) -> Iterator[Leftover]:
    """All that follows from line items in the folders of a study's other runs, for a run whose source no longer has all of these."""
    for path in sorted(runs.iterdir()) if runs.is_dir() else []:
        is_earlier = re.fullmatch(RUN_ID, path.name) and path.is_dir() and not path.is_symlink() and path.name != run_id
        if not is_earlier or _content(path / "study.json").get("name") != study or _is_held(path / HELD):
            continue
        rows = tuple(one for one in path.iterdir() if one.name not in NO_ROWS)
        if rows:
            yield Leftover(RunFolder(path.absolute()), study, "line items that it has read are no longer so in the source", rows)


def remove(old: Leftover) -> None:
    """Remove it; what cannot be removed is named in the log."""
    for path in old.paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        if path.exists():
            logger.warning("%s cannot be removed; remove it by hand.", path)


def _leftover(run: RunFolder, now: datetime) -> Leftover | None:
    study, ended = _content(run.path / "study.json"), _content(run.path / f"{ENDED}.json")
    age = now - _moment(run, ended)
    if _is_held(run.path / HELD) or (not ended and age < GRACE):
        return None
    kept = _kept(study)
    is_private, is_well = study.get("privacy") is not None, ended.get("how") == "well"
    days = kept.keep_days if is_well else kept.keep_failed
    how = "ended well" if is_well else "failed" if ended else "was killed"
    if (is_private and is_well) or age >= timedelta(days=days):
        why = f"{how}; its study has privacy" if is_private and is_well else f"{how} {age.days} days ago, {days} are kept"
        return Leftover(run, str(study.get("name", "")), why, (run.path, *_spilled(run, study)))
    rows = [path for path in run.path.iterdir() if path.name not in NO_ROWS] if is_private else []
    spilled = () if ended else _spilled(run, study)
    if not rows and not spilled:
        return None
    return Leftover(run, str(study.get("name", "")), f"{how}; its study has privacy" if rows else how, (*rows, *spilled))


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    try:
        with FileLock(lock, blocking=False):
            return False
    except (Timeout, OSError):
        return True


def _kept(study: dict[str, Any]) -> KeptRuns:
    try:
        return KeptRuns.model_validate(study.get("runs") or {})
    except ValueError:
        # of another version of the program
        return KeptRuns()


def _moment(run: RunFolder, ended: dict[str, Any]) -> datetime:
    """When the run ended, or began where that is not known."""
    for text in (ended.get("ended_at"), _content(run.path / "start.json").get("started_at")):
        with suppress(ValueError, TypeError):
            moment = datetime.fromisoformat(str(text))
            return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return datetime.fromtimestamp(run.path.stat().st_mtime, UTC)


def _spilled(run: RunFolder, study: dict[str, Any]) -> tuple[Path, ...]:
    """Folders that a killed run's queries have left where they were told to spill to."""
    asked = (study.get("resources") or {}).get("spill"), os.environ.get(SPILL)
    return tuple(path for place in asked if place for path in sorted(Path(place).glob(f"{SPILLED}{run.run_id}-duckdb-*")))


def _size(path: Path) -> int:
    files = (path, *path.rglob("*")) if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files if file.is_file())


def _content(path: Path) -> dict[str, Any]:
    """A JSON mapping; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
