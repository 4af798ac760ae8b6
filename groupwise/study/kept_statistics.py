"""The part of a study that says how its statistics are kept by period, so that a run reads only what changed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from groupwise.publishing.address import plain_place
from groupwise.study.study_source import Part


class KeptStatistics(Part):
    """Statistics of the line items, kept by partition of them; changes no estimate."""

    partition: Literal["day", "month", "file"] = Field(
        description="whose statistics are kept together: of a day, of a month, or of a Parquet file"
    )
    column: str | None = Field(None, description="date or timestamp column that says which partition a line item is of; null: the window's")
    keep: str = Field(min_length=1, description="folder, or s3://bucket/prefix (gs://, az://), for the statistics")
    workers: str | None = Field(
        None,
        pattern=r"^(tcp|tls|ucx)://[A-Za-z0-9._:\[\]-]+:[0-9]{1,5}$",
        description="address of a Dask scheduler whose workers read the partitions; null: GROUPWISE_DASK, or the run itself",
    )

    @field_validator("keep")
    @classmethod
    def _inside(cls, value: str) -> str:
        return plain_place(value)
