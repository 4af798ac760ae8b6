"""Within one day the run that started last is the latest, whichever publishes last; a rollback counts from when it was made."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from groupwise.publishing.folder.folder_publish import publish
from groupwise.publishing.folder.folder_versions import rollback, versions
from groupwise.publishing.layout import Layout
from groupwise.publishing.pointer import as_text, outranked
from groupwise.publishing.publication import Publication
from groupwise.publishing.sealed import SEAL
from multilevel.catalogue.published_tables import TABLES, arrow_schema
from multilevel.errors import PublishError

DAY = date(2026, 11, 1)
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
LATER = timedelta(microseconds=1)
type Put = Callable[..., Publication]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "published", "small")


@pytest.fixture
def put(layout: Layout) -> Put:
    def run(run_id: str, started_at: datetime | None = None, as_of: date = DAY, **more: Any) -> Publication:
        tables = {name: pa.Table.from_pylist([], arrow_schema(name)) for name in TABLES}
        place: dict[str, Any] = {"publish_to": str(layout.root), "study": "small", "as_of": as_of, "run_id": run_id}
        return publish(tables, **place, provenance={}, started_at=started_at, **more)

    return run


def pointed(layout: Layout) -> str:
    latest = layout.latest()
    assert latest is not None
    assert layout.current.resolve().name == f"rev={latest['run_id']}"
    return str(latest["run_id"])


def test_a_run_that_started_earlier_and_publishes_later_leaves_the_pointer_and_says_so(put: Put, layout: Layout):
    put("fast", NOON + LATER)
    slow = put("slow", NOON)
    assert not slow.is_latest
    assert slow.why_not_latest is not None
    assert "Run fast of the same day started later and is published already" in slow.why_not_latest
    assert slow.folder.is_dir()
    assert pointed(layout) == "fast"
    assert [found.run_id for found in versions(layout)] == ["fast", "slow"]
    assert put("next", NOON + 2 * LATER).is_latest


def test_ties_are_decided_by_the_run_id_in_either_order(put: Put, layout: Layout):
    put("b", NOON)
    assert not put("a", NOON).is_latest
    assert put("c", NOON).is_latest


def test_a_later_day_comes_before_a_later_start(put: Put, layout: Layout):
    put("tomorrow", NOON, DAY + timedelta(days=1))
    backfill = put("backfill", NOON + timedelta(days=9))
    assert backfill.why_not_latest == "A later version is the latest one: this run is a backfill."
    assert pointed(layout) == "tomorrow"


def test_a_run_that_starts_after_a_rollback_wins_and_one_that_was_under_way_does_not(put: Put, layout: Layout):
    start = datetime.now(UTC)
    put("r1", start - timedelta(hours=3))
    put("r2", start - timedelta(hours=2))
    rollback(layout, "r1")
    under_way = put("r3", start - timedelta(hours=1))
    assert under_way.why_not_latest is not None
    assert "rolled back to run r1 after this run had started" in under_way.why_not_latest
    assert pointed(layout) == "r1"
    assert put("r4").is_latest
    assert pointed(layout) == "r4"


def test_the_start_is_written_in_utc_to_the_microsecond(put: Put, layout: Layout):
    put("r1", datetime.fromisoformat("2026-11-02T13:00:00+01:00"))
    for file in (layout.pointer, layout.manifest(DAY, "r1")):
        assert json.loads(file.read_text())["started_at"] == "2026-11-02T12:00:00.000000+00:00" == as_text(NOON)


def as_published_before(layout: Layout, run_id: str) -> None:
    """Pointer and manifest as groupwise wrote them before they had seals and starts."""
    for file in (layout.pointer, layout.manifest(DAY, run_id)):
        content = json.loads(file.read_text())
        for name in (SEAL, "started_at", "rolled_back_at", "manifest_sha256", "quarantine"):
            content.pop(name, None)
        if "files" in content:
            for name in ("report", "validation"):
                content.pop(name)
        file.write_text(json.dumps(content | {"schema": "1.0.0"}, indent=1))


def test_versions_published_before_stay_readable_and_give_way_to_the_next_run(put: Put, layout: Layout):
    put("old")
    as_published_before(layout, "old")
    assert pointed(layout) == "old"
    assert [found.started_at for found in versions(layout)] == [""]
    assert put("new", datetime(2020, 1, 1, tzinfo=UTC)).is_latest
    assert rollback(layout, "old").run_id == "old"
    assert pointed(layout) == "old"
    assert put("newer").is_latest


def test_the_order_does_not_depend_on_the_order_of_publishing():
    first = {"as_of": "2026-11-01", "run_id": "a", "started_at": as_text(NOON)}
    second = {"as_of": "2026-11-01", "run_id": "b", "started_at": as_text(NOON + LATER)}
    assert outranked(first, "2026-11-01", "b", NOON + LATER) is None
    assert outranked(second, "2026-11-01", "a", NOON) is not None
    assert outranked(None, "2026-11-01", "a", NOON) is None


def test_a_run_that_is_over_publishes_nothing(put: Put, layout: Layout):
    put("good")

    def over() -> str | None:
        assert layout.lock.exists()
        raise PublishError("Flow run x is no longer running: the server says Crashed.")

    with pytest.raises(PublishError, match="the server says Crashed"):
        put("zombie", confirm=over)
    assert pointed(layout) == "good"
    assert [found.run_id for found in versions(layout)] == ["good"]
    assert not [path for path in layout.home.rglob("*") if "zombie" in path.name]


def test_a_run_of_which_nobody_can_tell_keeps_its_version_and_leaves_the_pointer(put: Put, layout: Layout):
    put("good")
    with pytest.raises(PublishError, match=r"No answer[.] The version of run lost is whole.*groupwise rollback STUDY --to lost"):
        put("lost", confirm=lambda: "No answer.")
    assert pointed(layout) == "good"
    assert {found.run_id for found in versions(layout)} == {"good", "lost"}
    assert rollback(layout, "lost").run_id == "lost"
    assert pointed(layout) == "lost"
