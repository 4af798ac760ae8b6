"""What is kept of a study's partitions, and what a run would read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from groupwise.run_folder import RunFolder
from groupwise.statistics.gather import SEGMENTS, describe, gathered
from groupwise.statistics.part_facts import SURVEY
from groupwise.statistics.partition_facts import FACTS
from groupwise.statistics.partitions import Segment
from groupwise.statistics.survey import folder_of


@dataclass(frozen=True)
class PartitionState:
    """A partition, or the part of it that the window leaves. ``state`` in words; None where nothing is kept."""

    partition: str
    line_items: int | None
    state: str
    kept_at: datetime | None = None
    n_bytes: int | None = None


def partition_states(run: RunFolder, as_of: date | None, today: date) -> tuple[list[PartitionState], tuple[str, ...]]:
    """Every partition of the window, then those that are kept besides; and why the study's line items are read whole, if they are.

    Looks at the source as a run would, and changes nothing that is kept.
    """
    describe(run, as_of, today, writes=False)
    found = gathered(run)
    if found is None:
        return [], tuple(run.read_json(SEGMENTS)["whole"])
    kept: dict[str, list[str]] = {}
    for folder in found.keep.folders():
        name = folder.split("/")[1]
        if name != SURVEY and FACTS in found.keep.files(folder):
            kept.setdefault(name, []).append(folder)

    def state(segment: Segment) -> PartitionState:
        rows = segment.fingerprint.rows
        if not segment.is_whole:
            return PartitionState(segment.name, rows, f"the window cuts it ({segment.start} to {segment.end}): read in every run")
        own, others = folder_of(found.recipe, segment.name, segment.fingerprint), kept.get(segment.folder, [])
        if own in others:
            listed = found.keep.listed(own)
            return PartitionState(segment.name, rows, "kept", listed.written, listed.size)
        before = [folder for folder in others if folder.startswith(f"{found.recipe}/")]
        if before:
            n_before = int(before[-1].rpartition("/")[2].split("-")[0])
            return PartitionState(segment.name, rows, f"stale: its line items changed, of {n_before:,} statistics are kept")
        if others:
            return PartitionState(segment.name, rows, "stale: the study, its rules or the program changed")
        return PartitionState(segment.name, rows, "not kept yet")

    inside = {segment.folder for segment in found.segments}
    outside = {name: found.keep.listed(folders[-1]) for name, folders in sorted(kept.items()) if name not in inside}
    more = [PartitionState(name, None, "kept, not in the window", own.written, own.size) for name, own in outside.items()]
    return [*map(state, found.segments), *more], ()
