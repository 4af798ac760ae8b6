"""A run's working folder, ``.groupwise/runs/<run_id>/``: every step writes its results there and hands on the folder's path."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from groupwise.faults import told
from groupwise.source.relation import Relation
from groupwise.study.study import Study
from groupwise.study.user_text import show_value
from groupwise.whole_files import write_whole
from multilevel.errors import StudyError

RUNS = Path(".groupwise") / "runs"
RUN_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""Run ids: they name folders and files, of the run and of what it publishes."""
ROOM_BYTES = 1_000_000
"""What the smallest run writes."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run, by name."""

    path: Path

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def log(self) -> Path:
        """Prefect's log of the run."""
        return self.path / "run.log"

    @property
    def tables(self) -> Path:
        """The six tables, before they are published."""
        return self.path / "tables"

    @property
    def report(self) -> Path:
        """The report, before it is published."""
        return self.path / "report.html"

    @property
    def posterior(self) -> Path:
        """The posterior for ArviZ, where the study asks for draws and the engine has one."""
        return self.path / "posterior.nc"

    @property
    def joint(self) -> Path:
        """The folder of the joint distribution of the coefficients, for contrasts and predictions."""
        return self.path / "joint"

    @property
    def average_cells(self) -> Path:
        """The cells of the published averages, for ``diff``."""
        return self.path / "average_cells.parquet"

    def study(self) -> Study:
        """The study as this run takes it: overrides applied."""
        return Study.model_validate_json((self.path / "study.json").read_text(encoding="utf-8"))

    def write_study(self, study: Study, file: str, **origin: object) -> None:
        """Keep the study and where it came from: its file, empty where it has none, and ``overrides`` (field -> YAML), ``made_by`` and
        ``in_memory`` where they are known, for whoever runs it again."""
        with told(f"{study.name}: the study cannot be written into the run's folder"):
            write_whole(self.path / "study.json", study.model_dump_json(indent=1))
            self.write_json("origin", {"file": file, **origin})

    def relation(self) -> Relation:
        """What extract found."""
        return Relation.from_json((self.path / "relation.json").read_text(encoding="utf-8"))

    def read_json(self, name: str) -> dict[str, Any]:
        """``<name>.json``; an empty mapping where a step did not write it."""
        path = self.path / f"{name}.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def write_json(self, name: str, content: dict[str, Any]) -> Path:
        """Write ``<name>.json``, whole or not at all."""
        path = self.path / f"{name}.json"
        write_whole(path, json.dumps(content, indent=1, default=str))
        return path

    def write_tables(self, tables: dict[str, pa.Table]) -> None:
        """Write the six tables."""
        self.tables.mkdir(exist_ok=True)
        for name, table in tables.items():
            pq.write_table(table, self.tables / f"{name}.parquet", compression="zstd")

    def read_tables(self) -> dict[str, pa.Table]:
        """The six tables."""
        return {path.stem: pq.read_table(path) for path in sorted(self.tables.glob("*.parquet"))}


def new_run_id() -> str:
    """A run id that sorts by time: ``20260101T120000-1a2b3c4d``."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


def make_run_folder(run_id: str) -> RunFolder:
    """The folder of a run, made if it is not there; StudyError for a run id that is no plain name."""
    if not re.fullmatch(RUN_ID.strip("^$"), run_id):
        raise StudyError(f"run_id {show_value(run_id)}: write letters, digits, '.', '_' and '-', at most 100, a letter or digit first.")
    with told(f"the run's folder {RUNS / run_id} cannot be made"):
        path = (RUNS / run_id).absolute()
        check_room(path)
    return RunFolder(path)


def check_room(folder: Path, size: int = ROOM_BYTES) -> None:
    """Make the folder if it is not there; OSError where ``size`` bytes do not fit: found out now, not after an hour of sampling."""
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder, prefix="room-") as room:
        room.write(bytes(size))
        room.flush()


def as_date(value: object) -> date:
    """A date from a date or ISO text."""
    return value if isinstance(value, date) else date.fromisoformat(str(value))
