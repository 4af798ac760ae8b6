"""One flipped bit in any published file is noticed by whoever reads the file, by name; the small version of the lane of 400 flips."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import pytest

from groupwise.publishing.difference import difference
from groupwise.publishing.folder.folder_versions import rollback, versions
from groupwise.publishing.folder.report_index import latest_report
from groupwise.publishing.layout import Layout
from groupwise.publishing.manifest import parse_manifest
from groupwise.publishing.pointer import read_pointer
from groupwise.publishing.publication import Publication
from groupwise.publishing.target import LocalFolder, open_target
from multilevel.errors import PublishError

type Make = Callable[..., Publication]

DAY = date(2026, 11, 1)
SEED = 20_261_128
FEW, MANY = 24, 400


@contextmanager
def flipped(file: Path, bit: int) -> Iterator[None]:
    """The file with one bit changed, in place, and as it was afterwards."""
    content = file.read_bytes()
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << (bit % 8)
    file.write_bytes(changed)
    try:
        yield
    finally:
        file.write_bytes(content)


def published_files(layout: Layout, run_id: str) -> list[Path]:
    """Every file of one version, and the two that follow the pointer."""
    found = [path for part in layout.parts(DAY, run_id) for path in (sorted(part.rglob("*")) if part.is_dir() else [part])]
    return [*(path for path in found if path.is_file()), layout.pointer, layout.contract]


def noticed(layout: Layout, file: Path, run_id: str, told: pytest.LogCaptureFixture) -> str:
    """What a reader of the file says of it; fails the test where nobody says anything."""
    told.clear()
    if file == layout.contract:
        wanted = layout.version_contract(DAY, run_id).read_bytes()
        open_target(str(layout.root), layout.study)
        assert layout.contract.read_bytes() == wanted, "the latest contract was not repaired"
        return str(file)
    with pytest.raises(PublishError) as refused:
        rollback(layout, run_id)
    return str(refused.value) + told.text


def flips(layout: Layout, run_id: str, n: int) -> list[tuple[Path, int]]:
    """``n`` places, each file at least once, drawn by a seed fixed beforehand."""
    rng = random.Random(SEED)
    files = published_files(layout, run_id)
    chosen = [*files, *rng.choices(files, [file.stat().st_size for file in files], k=max(n - len(files), 0))]
    return [(file, rng.randrange(8 * file.stat().st_size)) for file in chosen]


@pytest.mark.parametrize("n", [FEW, pytest.param(MANY, marks=pytest.mark.faults)])
def test_a_flipped_bit_anywhere_in_a_version_is_noticed_and_its_file_named(
    version: Make, root: Path, caplog: pytest.LogCaptureFixture, n: int, figures: Callable[..., None]
):
    caplog.set_level(logging.WARNING)
    version("v1")
    version("v2")
    layout = Layout(root, "small")
    rollback(layout, "v1")
    open_target(str(root), "small")
    places = flips(layout, "v1", n)
    assert {file.suffix for file, _ in places} == {".parquet", ".html", ".nc", ".yaml", ".json"}
    for file, bit in places:
        with flipped(file, bit):
            assert str(file) in noticed(layout, file, "v1", caplog), f"{file}, bit {bit}"
    assert rollback(layout, "v2").run_id == "v2"
    if n == MANY:
        figures("flips", kind="one bit flipped in a published file", tried=len(places), failed=len(places), next_runs=1, lost=0, seed=SEED)


def test_every_bit_of_a_pointer_and_every_seventh_of_a_manifest(version: Make, root: Path):
    version("v1")
    layout = Layout(root, "small")
    manifest = layout.manifest(DAY, "v1")
    readers: list[tuple[bytes, int, Callable[[bytes], object]]] = [
        (layout.pointer.read_bytes(), 1, lambda text: read_pointer(text, "here", "small")),
        (manifest.read_bytes(), 7, lambda text: parse_manifest(text, "here", layout, str(DAY), "v1")),
    ]
    for content, step, read in readers:
        read(content)
        for bit in range(0, 8 * len(content), step):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << (bit % 8)
            with pytest.raises(PublishError, match="here"):
                read(bytes(changed))


def test_show_diff_contrast_and_report_name_the_damaged_file_that_they_read(version: Make, root: Path, tmp_path: Path):
    version("v1", DAY - timedelta(days=1))
    version("v2")
    layout = Layout(root, "small")
    target = LocalFolder(layout)
    latest = target.latest()
    assert latest is not None
    readers: list[tuple[Path, Callable[[], object]]] = [
        (layout.version(DAY, "v2") / "diagnostics.parquet", lambda: target.tables(latest)),
        (layout.version(DAY, "v2") / "diagnostics.parquet", lambda: difference(target)),
        (layout.version(DAY - timedelta(days=1), "v1") / "group_estimates.parquet", lambda: difference(target)),
        (layout.average_cells(DAY, "v2"), lambda: difference(target)),
        (layout.average_cells(DAY - timedelta(days=1), "v1"), lambda: difference(target)),
        (layout.joint_tables(DAY, "v2") / "core.parquet", lambda: target.joint(latest, tmp_path)),
        (layout.report(DAY, "v2"), lambda: latest_report(layout)),
        (layout.manifest(DAY, "v2"), lambda: target.tables(latest)),
        (layout.manifest(DAY, "v2"), lambda: latest_report(layout)),
    ]
    for file, read in readers:
        read()
        with flipped(file, 4 * file.stat().st_size), pytest.raises(PublishError, match=file.name):
            read()


def test_a_file_that_was_removed_or_replaced_whole_is_named(version: Make, root: Path, tmp_path: Path):
    version("v1")
    version("v2")
    layout = Layout(root, "small")
    target = LocalFolder(layout)
    latest = target.latest()
    assert latest is not None
    table = layout.version(DAY, "v2") / "diagnostics.parquet"
    table.write_bytes((layout.version(DAY, "v1") / "diagnostics.parquet").read_bytes())
    with pytest.raises(PublishError, match=r"diagnostics[.]parquet is damaged"):
        target.tables(latest)
    (layout.joint_tables(DAY, "v2") / "core.parquet").unlink()
    with pytest.raises(PublishError, match=r"core[.]parquet is not there; it was removed by hand"):
        target.joint(latest, tmp_path)
    layout.manifest(DAY, "v2").write_bytes(layout.manifest(DAY, "v1").read_bytes())
    with pytest.raises(PublishError, match="it speaks of another version"):
        target.tables(latest)
    layout.manifest(DAY, "v2").unlink()
    with pytest.raises(PublishError, match="version v2 has no manifest"):
        target.tables(latest)


def test_what_is_no_manifest_is_named_and_stops_nobody(version: Make, root: Path, caplog: pytest.LogCaptureFixture):
    version("v1")
    version("v2")
    version("v3")
    layout = Layout(root, "small")
    folder = layout.manifests / str(DAY)
    layout.manifest(DAY, "v1").write_text("{")
    strangers = {"null": b"null", "list": b"[1]", "types": b'{"schema": 3, "as_of": [], "files": {}}', "bytes": b"\xff\xfe\x00"}
    for name, content in strangers.items():
        (folder / f"{name}.json").write_bytes(content)
    (folder / "folder.json").mkdir()
    (folder / "deep.json").write_bytes(b"[" * 100_000)
    with caplog.at_level(logging.WARNING):
        assert [found.run_id for found in versions(layout)] == ["v3", "v2"]
    assert all(f"{name}.json" in caplog.text for name in [*strangers, "folder", "deep", "v1"])
    assert difference(layout).earlier.run_id == "v2"
    assert rollback(layout, "v2").run_id == "v2"
    assert version("v4").is_latest
    assert layout.version(DAY, "v1").is_dir(), "what a broken manifest belongs to is not removed by itself"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'{"schema": null}',
        b'{"schema": "1.0.0", "as_of": 3, "run_id": [], "version": {}}',
        b'{"schema": "1.0.0", "as_of": "2026-11-01", "run_id": "../x", "version": "../../x"}',
        b"\xff",
        b"{" * 100_000,
    ],
)
def test_a_pointer_of_wrong_types_is_said_before_anything_is_written(version: Make, root: Path, content: bytes):
    version("v1")
    layout = Layout(root, "small")
    layout.pointer.write_bytes(content)
    for read in (layout.latest, lambda: versions(layout), lambda: version("v2"), lambda: LocalFolder(layout).check()):
        with pytest.raises(PublishError, match=r"_latest[.]json: this is no pointer"):
            read()
    assert not layout.version(DAY, "v2").exists()
    layout.pointer.unlink()
    assert rollback(layout, "v1").run_id == "v1"
