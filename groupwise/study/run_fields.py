"""Fields of a study that say how it is run, and change nothing that it publishes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from groupwise.resources import MOST_THREADS, read_size
from groupwise.study.study_source import Part


def _size(value: object) -> object:
    return None if value is None else read_size(value)


class RunResources(Part):
    """What a run may take; changes no estimate. Null: as GROUPWISE_MEMORY, GROUPWISE_THREADS and GROUPWISE_SPILL say, or the container."""

    memory: Annotated[int | None, BeforeValidator(_size, json_schema_input_type=int | str | None)] = Field(
        None, description="memory of the whole run, such as 4GB"
    )
    threads: int | None = Field(None, ge=1, le=MOST_THREADS, description="threads of queries and, at most, of sampling")
    spill: str | None = Field(None, min_length=1, description="folder for what does not fit into memory; null: the run's own")

    @field_validator("spill")
    @classmethod
    def _is_a_path(cls, value: str | None) -> str | None:
        if value is not None and ("\0" in value or ".." in Path(value).parts):
            raise ValueError("write a folder below the working directory or an absolute path, without '..'")
        return value


class KeptRuns(Part):
    """For how many days the folders of runs (.groupwise/runs) stay; under ``privacy`` no longer than the run."""

    keep_days: int = Field(7, ge=0, le=36_525, description="of runs that ended well; 0: no longer than the run")
    keep_failed: int = Field(30, ge=0, le=36_525, description="of runs that failed or were killed")
