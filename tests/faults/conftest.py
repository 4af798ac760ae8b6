"""Small versions of a study that keep every contract, and a reader that trusts nothing but the pointer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groupwise.publishing.folder.folder_publish import publish
from groupwise.publishing.publication import Publication
from groupwise.publishing.stage import Attachments
from multilevel.catalogue.published_tables import TABLES, arrow_schema
from multilevel.prediction.saved_cells import cells_table

DAY = date(2026, 11, 1)
STUDY = "small"


def tables_of(run_id: str, as_of: date = DAY, checks: int = 3) -> dict[str, pa.Table]:
    """Six tables; only ``diagnostics`` has rows, each naming the run."""
    common = {"study": STUDY, "as_of": as_of, "run_id": run_id, "engine": "likelihood", "pooling": "partial"}
    rows = [
        common | {"check": f"check_{i:05d}", "value": 1.0, "threshold": None, "passed": True, "message": f"from {run_id}"}
        for i in range(checks)
    ]
    return {name: pa.Table.from_pylist(rows if name == "diagnostics" else [], arrow_schema(name)) for name in TABLES}


def publish_version(root: Path, run_id: str, as_of: date = DAY, checks: int = 3) -> Publication:
    """Publish a version with a report, a validation page and quarantined rows beside it."""
    made = root.parent / "made"
    made.mkdir(exist_ok=True)
    (made / "report.html").write_text(f"<p>{run_id}</p>")
    (made / "validation.html").write_text("<p>rules</p>")
    pq.write_table(pa.table({"id": [1]}), made / "quarantine.parquet")
    (made / "joint").mkdir(exist_ok=True)
    (made / "joint" / "core.parquet").write_bytes(b"covariances")
    (made / "posterior.nc").write_bytes(b"posterior")
    pq.write_table(cells_table([]), made / "cells.parquet")
    return publish(
        tables_of(run_id, as_of, checks),
        publish_to=str(root),
        study=STUDY,
        as_of=as_of,
        run_id=run_id,
        provenance={"rows": {"left": 1}},
        attachments=Attachments(
            *(made / name for name in ("report.html", "validation.html", "quarantine.parquet", "joint", "posterior.nc", "cells.parquet"))
        ),
    )


def read_through_pointer(root: Path) -> str | None:
    """The run id of the latest version after checking all of it as a careful consumer would; None before the first publication."""
    home = root / STUDY
    try:
        pointer = json.loads((home / "_latest.json").read_text())
    except FileNotFoundError:
        return None
    manifest = json.loads((home / pointer["manifest"]).read_text())
    folder = home / pointer["version"]
    assert {entry["table"] for entry in manifest["files"]} == set(TABLES)
    assert {path.name for path in folder.iterdir()} == {entry["path"] for entry in manifest["files"]}
    for entry in (manifest["contract"], manifest["posterior"], manifest["average_cells"]):
        assert hashlib.sha256((home / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]
    for entry in manifest["files"]:
        content = (folder / entry["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        table = pq.read_table(pa.BufferReader(content))
        assert table.num_rows == entry["rows"]
        assert set(table["run_id"].to_pylist()) <= {pointer["run_id"]}
    return str(pointer["run_id"])


def whole_versions(root: Path) -> set[str]:
    """Run ids of everything below versions/, each checked to be whole and to have its manifest."""
    home = root / STUDY
    found = set()
    for folder in home.glob("versions/dt=*/rev=*"):
        run_id = folder.name.removeprefix("rev=")
        manifest = json.loads((home / "manifests" / folder.parent.name.removeprefix("dt=") / f"{run_id}.json").read_text())
        for entry in manifest["files"]:
            assert hashlib.sha256((folder / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]
        found.add(run_id)
    return found


@pytest.fixture(scope="session")
def measured() -> dict[str, str]:
    """Where and when; asked once, so that all figures of a lane speak for one commit."""
    from benchmarks._reliability_page import provenance

    return provenance()


@pytest.fixture
def figures(request: pytest.FixtureRequest, measured: dict[str, str]) -> Callable[..., None]:
    """Keep what a lane has measured, for docs/reliability.md."""

    def keep(name: str, **figures: Any) -> None:
        from benchmarks._reliability_page import FIGURES

        folder = request.config.rootpath / FIGURES
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"faults-{name}.json").write_text(json.dumps(measured | figures, indent=1))

    return keep


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "published"


@pytest.fixture
def version(root: Path) -> Callable[..., Publication]:
    """Publish a version by run id."""
    return lambda run_id, as_of=DAY, checks=3: publish_version(root, run_id, as_of, checks)


@pytest.fixture
def latest(root: Path) -> Callable[[], str | None]:
    """What a careful reader finds."""
    return lambda: read_through_pointer(root)


@pytest.fixture
def whole(root: Path) -> Callable[[], set[str]]:
    """Every version, checked."""
    return lambda: whole_versions(root)
