"""Staging: a version is written whole, forced to disk and read again before anything of it gets its final name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from groupwise.publishing import durable
from groupwise.publishing.layout import Layout
from groupwise.publishing.table_content import content_sha256
from multilevel.catalogue.published_tables import EVERY_TABLE
from multilevel.errors import PublishError

ROW_GROUP = 32_768
"""Rows of a row group: a reader of one group's row decodes one of them (20 ms through DuckDB; 131,072 rows took 40)."""


@dataclass(frozen=True)
class Attachments:
    """What is kept beside a version's tables, where the run made it."""

    report: Path | None = None
    validation: Path | None = None
    quarantine: Path | None = None
    joint_tables: Path | None = None
    posterior: Path | None = None
    average_cells: Path | None = None


NO_ATTACHMENTS = Attachments()


@dataclass(frozen=True)
class Staged:
    """A version in staging: ``tables`` holds the Parquet files alone; ``files`` are their entries in the manifest."""

    tables: Path
    files: list[dict[str, Any]]
    report: Path | None
    validation: Path | None
    quarantine: Path | None
    joint_tables: Path | None
    posterior: Path | None
    contract: Path
    average_cells: Path | None


def stage(tables: Mapping[str, pa.Table], attachments: Attachments, contract: str, folder: Path) -> Staged:
    """Write everything of a version below ``folder``, durably; ``contract`` is its data contract's text.

    Raises
    ------
    PublishError : a file does not read back as it was written. OSError : the disk is full or refuses.
    """
    inside = folder / "tables"
    durable.make_folder(inside)
    files = [_stage_table(name, table, inside / f"{name}.parquet") for name, table in sorted(tables.items())]
    durable.sync(inside)
    kept_contract = folder / "contract.odcs.yaml"
    durable.write_text(kept_contract, contract)
    return Staged(
        inside,
        files,
        _stage_file(attachments.report, folder / "report.html"),
        _stage_file(attachments.validation, folder / "validation.html"),
        _stage_quarantine(attachments.quarantine, folder / "quarantine"),
        _stage_folder(attachments.joint_tables, folder / "joint"),
        _stage_file(attachments.posterior, folder / "posterior.nc"),
        kept_contract,
        _stage_file(attachments.average_cells, folder / "cells.parquet"),
    )


def placed(layout: Layout, staged: Staged, as_of: date, run_id: str) -> list[tuple[Path, Path]]:
    """What is staged with the place of each, the tables first."""
    of = (as_of, run_id)
    places = (
        (staged.tables, layout.version(*of)),
        (staged.report, layout.report(*of)),
        (staged.validation, layout.validation(*of)),
        (staged.quarantine, layout.quarantine(*of)),
        (staged.joint_tables, layout.joint_tables(*of)),
        (staged.posterior, layout.posterior(*of)),
        (staged.contract, layout.version_contract(*of)),
        (staged.average_cells, layout.average_cells(*of)),
    )
    return [(source, place) for source, place in places if source is not None]


def _stage_table(name: str, table: pa.Table, path: Path) -> dict[str, Any]:
    order: list[tuple[str, Literal["ascending", "descending"]]] = [(key, "ascending") for key in EVERY_TABLE[name].sort_key]
    durable.write_table(
        path,
        table,
        compression="zstd",
        version="2.6",
        row_group_size=ROW_GROUP,
        write_page_index=True,
        sorting_columns=pq.SortingColumn.from_ordering(table.schema, order),
    )
    if not _reads_back(path, table):
        raise PublishError(f"{name}: the file {path} does not read back as it was written; look at the disk. Nothing is published.")
    return {
        "table": name,
        "path": path.name,
        "rows": table.num_rows,
        "bytes": path.stat().st_size,
        "sha256": durable.sha256(path),
        "content_sha256": content_sha256(table),
    }


def _reads_back(path: Path, table: pa.Table) -> bool:
    """Whether the file holds the table, metadata included; a row group at a time, so that there is never a second table in memory."""
    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows != table.num_rows or not file.schema_arrow.equals(table.schema, check_metadata=True):
            return False
        starts = range(0, table.num_rows, ROW_GROUP)
        return all(file.read_row_group(i).equals(table.slice(at, ROW_GROUP)) for i, at in enumerate(starts))


def _stage_file(file: Path | None, target: Path) -> Path | None:
    if file is None or not file.exists():
        return None
    durable.copy_file(file, target)
    return target


def _stage_quarantine(quarantine: Path | None, folder: Path) -> Path | None:
    if quarantine is None or not quarantine.exists():
        return None
    durable.make_folder(folder)
    durable.copy_file(quarantine, folder / quarantine.name)
    durable.sync(folder)
    return folder


def _stage_folder(source: Path | None, folder: Path) -> Path | None:
    if source is None or not source.exists():
        return None
    durable.make_folder(folder)
    for file in sorted(source.iterdir()):
        durable.copy_file(file, folder / file.name)
    durable.sync(folder)
    return folder
