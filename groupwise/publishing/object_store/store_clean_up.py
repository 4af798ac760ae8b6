"""What belongs to a version in object storage, and what runs that died have left behind."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timedelta

from groupwise.publishing.object_store.store import PROBE
from groupwise.publishing.object_store.store_pointer import ObjectLayout

# Nobody can tell a dead run from a slow one; a run that is slower than half of this stops by itself.
DEAD_AFTER = timedelta(hours=24)
# study/versions/dt=DAY/rev=RUN/..., study/reports/DAY/RUN.html, study/quarantine/DAY/RUN/..., study/.staging/RUN.claim
KINDS = "versions/dt=|reports/|quarantine/|joint/|contracts/"
OWNER = re.compile(rf"[^/]+/(?:{KINDS})(?P<as_of>[^/]+)/(?:rev=)?(?P<run_id>[A-Za-z0-9_-]+)(?:[./]|$)")
CLAIM = re.compile(r"[^/]+/[.]staging/(?P<run_id>[A-Za-z0-9_-]+)[.]claim")


def parts(layout: ObjectLayout, as_of: str, run_id: str) -> list[str]:
    """Every object of a version, the manifest first: without it the rest does not count."""
    found: list[str] = []
    for place in layout.paths.parts(as_of, run_id):
        stem = place.as_posix()
        found += sorted(name for name in layout.store.names(stem) if name == stem or name.startswith(f"{stem}/"))
    return found


def clean_up(layout: ObjectLayout, now: datetime) -> None:
    """Remove what belongs to no manifest and was not touched for a day; ``now`` is the store's time.

    A version whose manifest appears meanwhile is left: its run is alive.
    """
    everything = layout.store.names(f"{layout.study}/")
    orphans: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in everything:
        owner = OWNER.match(name)
        if owner is not None and layout.paths.manifest(owner["as_of"], owner["run_id"]).as_posix() not in everything:
            orphans[owner["as_of"], owner["run_id"]].append(name)
    for (as_of, run_id), names in orphans.items():
        if now - max(everything[name].modified for name in names) < DEAD_AFTER:
            continue
        if layout.store.read(layout.paths.manifest(as_of, run_id).as_posix()) is None:
            for name in names:
                layout.store.remove(name)
    small = {name: stored for name, stored in everything.items() if CLAIM.fullmatch(name)} | layout.store.names(PROBE)
    for name, stored in small.items():
        if now - stored.modified >= DEAD_AFTER:
            layout.store.remove(name)
