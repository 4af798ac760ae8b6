"""Damaged and foreign objects in a bucket, and the order of runs of one day."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from groupwise.publishing.difference import difference
from groupwise.publishing.publication import Publication
from groupwise.publishing.target import ObjectStorage
from multilevel.errors import PublishError

pytestmark = pytest.mark.operations

DAY = date(2026, 11, 1)
HOME = "estimates/shop/small"
SEED = 20_261_128
type Put = Callable[..., Publication]


def flip(bucket: Any, key: str, bit: int) -> bytes:
    """Change one bit of an object; returns what it was."""
    content: bytes = bucket.read(key)
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << (bit % 8)
    bucket.write(key, bytes(changed))
    return content


def test_a_flipped_bit_in_any_object_of_a_version_is_noticed_by_rollback(
    bucket: Any, put: Put, target: ObjectStorage, caplog: pytest.LogCaptureFixture
):
    put("r1")
    put("r2")
    rng = random.Random(SEED)
    keys = [*sorted(key for key in bucket.names() if "r1" in key), f"{HOME}/_latest.json"]
    assert len(keys) == 12
    for key in keys:
        caplog.clear()
        before = flip(bucket, key, rng.randrange(8 * len(bucket.read(key))))
        with pytest.raises(PublishError) as refused:
            target.rollback("r1")
        assert key in str(refused.value) + caplog.text
        bucket.write(key, before)
    assert target.rollback("r1").run_id == "r1"


def test_readers_name_the_damaged_object(bucket: Any, put: Put, target: ObjectStorage, tmp_path: Path):
    put("r1")
    (tmp_path / "made" / "r2.joint").mkdir()
    (tmp_path / "made" / "r2.joint" / "core.parquet").write_bytes(b"covariances")
    put("r2")
    latest = target.latest()
    assert latest is not None
    before = flip(bucket, f"{HOME}/joint/2026-11-01/r2/core.parquet", 9)
    with pytest.raises(PublishError, match=r"core[.]parquet is damaged"):
        target.joint(latest, tmp_path)
    bucket.write(f"{HOME}/joint/2026-11-01/r2/core.parquet", before)
    found = target.joint(latest, tmp_path)
    assert found is not None
    assert (found / "core.parquet").read_bytes() == b"covariances"
    flip(bucket, f"{HOME}/versions/dt=2026-11-01/rev=r1/diagnostics.parquet", 900)
    with pytest.raises(PublishError, match=r"rev=r1/diagnostics[.]parquet is damaged"):
        difference(target)


def test_what_is_no_manifest_is_named_and_stops_nobody(bucket: Any, put: Put, target: ObjectStorage, caplog: pytest.LogCaptureFixture):
    put("r1")
    put("r2")
    for name in ("2026-11-01/notes.json", "notes.json", "2026-11-01/deep/er.json", "2026-11-01/readme.txt"):
        bucket.write(f"{HOME}/manifests/{name}", b'{"schema": 3}')
    with caplog.at_level(logging.WARNING):
        assert [found.run_id for found in target.versions()] == ["r2", "r1"]
    assert all(name in caplog.text for name in ("2026-11-01/notes.json", "manifests/notes.json", "er.json", "readme.txt"))
    assert put("r3").is_latest


def test_within_a_day_the_run_that_started_last_is_the_latest(bucket: Any, put: Put, target: ObjectStorage):
    start = datetime.now(UTC)
    put("fast", started_at=start)
    slow = put("slow", started_at=start - timedelta(microseconds=1))
    assert slow.why_not_latest is not None
    assert "Run fast of the same day started later" in slow.why_not_latest
    assert bucket.latest() == "fast"
    target.rollback("slow")
    assert bucket.latest() == "slow"
    assert put("next").is_latest


def test_a_run_that_is_over_uploads_nothing_that_stays_and_an_unsure_one_leaves_the_pointer(bucket: Any, put: Put, target: ObjectStorage):
    put("good")
    before = bucket.names()

    def over() -> str | None:
        raise PublishError("the server says Cancelled")

    with pytest.raises(PublishError, match="the server says Cancelled"):
        put("zombie", confirm=over)
    assert bucket.names() == before
    with pytest.raises(PublishError, match=r"No answer[.] The version of run lost is whole"):
        put("lost", confirm=lambda: "No answer.")
    assert bucket.latest() == "good"
    assert {found.run_id for found in target.versions()} == {"good", "lost"}
    assert not [name for name in bucket.names() if name.endswith(".claim")]
