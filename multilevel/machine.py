"""What this process may use of the machine: memory and processors, or what a container leaves of them (control groups, v1 and v2)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

SYSTEM = Path("/")

ARENA_MAX, ARENAS = -8, 2
"""glibc's name for the largest number of arenas (mallopt(3)), and how many a fit has use for: those of the main thread and of one other."""


def memory_bytes(system: Path = SYSTEM) -> int:
    """Memory in bytes: the machine's, or the smallest limit of the control groups that this process is in.

    Parameters
    ----------
    system : the folder that holds ``proc`` and ``sys``.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [
        limit
        for folder in _folders(system, "memory")
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes")
        if (limit := _number(folder / name)) is not None
    ]
    return min([machine, *limits])


def processors(system: Path = SYSTEM) -> int:
    """Processors that this process may run on, whole ones: those of its affinity, or as many as the quota of its control groups buys."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _folders(system, "cpu") if (quota := _quota(folder)) is not None]
    return max(1, min([own, *quotas]))


def few_arenas() -> bool:
    """Have glibc share few arenas between threads: each keeps what was freed in it, which with one a thread is a tenth of a large fit.

    Returns whether the C library knows of arenas; others are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return mallopt is not None and bool(mallopt(ARENA_MAX, ARENAS))


def give_back() -> bool:
    """Have glibc return freed memory to the system (malloc_trim(3)); otherwise pieces below its mapping threshold stay in the heap.

    Returns whether anything was returned; False where the C library cannot.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    return trim is not None and bool(trim(0))


def _folders(system: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control group and of those above it, for one controller, in both versions."""
    mounts = _lines(system / "proc/self/mountinfo")
    for line in _lines(system / "proc/self/cgroup"):
        _, names, group = line.split(":", 2)
        # version 2 has one hierarchy for all controllers, and names none
        if names and controller not in names.split(","):
            continue
        for mount in mounts:
            place = _place(mount, controller if names else None)
            if place is None:
                continue
            root, point = place
            # a container may see the path of its group as the host has it; what it sees mounted is then its own group
            below = PurePosixPath(group).relative_to(root) if PurePosixPath(group).is_relative_to(root) else PurePosixPath()
            top = system / point.lstrip("/")
            own = top / below
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(top) and folder.is_dir())


def _place(mount: str, controller: str | None) -> tuple[str, str] | None:
    """Which group is mounted where (proc(5), mountinfo); None where the mount is of something else."""
    before, _, after = mount.partition(" - ")
    fields, kind = before.split(), after.split()
    if len(fields) < 5 or len(kind) < 3:
        return None
    wanted = kind[0] == "cgroup2" if controller is None else kind[0] == "cgroup" and controller in kind[2].split(",")
    return (fields[3], fields[4].replace("\\040", " ")) if wanted else None


def _quota(folder: Path) -> int | None:
    """Processors that the group's quota buys, rounded up; None where there is none."""
    both = _lines(folder / "cpu.max")
    if both:
        quota, _, period = both[0].partition(" ")
        return -(-int(quota) // int(period)) if quota.isdigit() and period.isdigit() and int(period) else None
    used, period_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return None if used is None or not period_us else -(-used // period_us)


def _number(file: Path) -> int | None:
    """A whole number above zero; None where the file is not there or says that there is no limit (``max``, -1)."""
    lines = _lines(file)
    return int(lines[0]) if lines and lines[0].isdigit() and int(lines[0]) > 0 else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        # no Linux, or no such controller
        return []
