"""Publishing tried out on an empty file: a place that refuses is found out before a run spends anything.

What a file system allows cannot be asked. ``/proc`` and ``/sys`` say that root may write there and then refuse every file; network shares
may have no links or locks, and a full disk is full for everybody.
"""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path

from filelock import FileLock

from groupwise.faults import ADVICE
from groupwise.publishing import durable
from groupwise.publishing.layout import Layout
from multilevel.errors import PublishError

DEVICES = Path("/dev")
TRIAL = ".groupwise-trial-"
ELSEWHERE = "name a folder on a disk that takes files (publish_to)"
NOT_HERE = {errno.ENOENT: ELSEWHERE, errno.EPERM: ELSEWHERE, errno.EACCES: f"check its owner and mount, or {ELSEWHERE}"}


def require_publishable(layout: Layout) -> None:
    """Do in the place to publish what publishing does there, and remove it again; PublishError where any of it is refused."""
    _refuse_devices(layout)
    for folder in _places(layout):
        try:
            _try_out(folder)
        except (OSError, NotImplementedError) as error:
            raise PublishError(_refused(layout, folder, error)) from error
    for path in (layout.lock, *layout.folders):
        if path.exists() and not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PublishError(f"{layout.study}: cannot publish to {layout.home}: {path} may not be written to; check its owner and mount.")


def _refuse_devices(layout: Layout) -> None:
    """Files may be written there, and are gone with the next start of the machine."""
    place = layout.root.resolve()
    if place.is_relative_to(DEVICES) and not place.is_relative_to(DEVICES / "shm"):
        raise PublishError(f"{layout.study}: cannot publish to {layout.home}: {DEVICES} is the system's folder of devices; {ELSEWHERE}.")


def _places(layout: Layout) -> list[Path]:
    """The root and the study's folder, as far as they are there; otherwise the first folder above that is."""
    there = [path for path in (layout.root, layout.home) if path.is_dir()]
    return there or [next(path for path in layout.root.parents if path.is_dir())]


def _try_out(folder: Path) -> None:
    # a name of its own each time: several runs may try at once
    name = f"{TRIAL}{uuid.uuid4().hex}"
    file, trial = folder / f"{name}.txt", folder / name
    try:
        # before any folder: where the system makes folders and no files (cgroups), they could not be emptied
        durable.write_text(file, "a version")
        durable.rename(file, file.with_suffix(".moved"))
        durable.make_folder(trial / "version")
        durable.rename(file.with_suffix(".moved"), trial / "version" / "file")
        durable.rename(trial / "version", trial / "published")
        durable.replace_text(trial / "pointer", "published")
        durable.replace_text(trial / "pointer", "published again")
        durable.point_link(trial / "current", trial / "published")
        with FileLock(trial / "lock"):
            durable.sync(trial)
    finally:
        for left in (file, file.with_suffix(".moved"), trial):
            durable.remove(left)


def _refused(layout: Layout, folder: Path, error: OSError | NotImplementedError) -> str:
    number = getattr(error, "errno", None) or 0
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    advice = NOT_HERE.get(number) or ADVICE.get(number) or ELSEWHERE
    return f"{layout.study}: cannot publish to {layout.home}: {folder} refuses what publishing needs ({said}); {advice}."
