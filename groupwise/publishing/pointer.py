"""The pointer ``_latest.json``: what it may hold, and which of two runs it names.

A later ``as_of`` comes before an earlier one. Within one, the run that started last does: a run that was slow, or was taken for dead and
lived on, publishes its version and leaves the pointer. A rollback counts as a run that started when it was made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError, model_validator

from groupwise.publishing.sealed import DamagedError, unsealed
from multilevel.catalogue.published_tables import CATALOGUE_VERSION
from multilevel.errors import PublishError

MANIFEST_SCHEMA = "1.1.0"
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
DAY = r"\d{4}-\d{2}-\d{2}"

type Day = Annotated[str, StringConstraints(pattern=f"^{DAY}$")]
type RunId = Annotated[str, StringConstraints(pattern=f"^{RUN_ID.pattern}$")]
type Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]

_TIME = TypeAdapter(AwareDatetime)
_START = datetime.min.replace(tzinfo=UTC)


class _Pointer(BaseModel):
    """The fields that programs read, of every version since the first."""

    model_config = ConfigDict(extra="ignore")

    as_of: Day
    run_id: RunId
    version: str
    manifest: str | None = None
    manifest_sha256: Sha256 | None = None
    started_at: AwareDatetime | None = None
    rolled_back_at: AwareDatetime | None = None
    generation: int = 0
    tables: tuple[str, ...] = ()
    removing: tuple[Annotated[str, StringConstraints(pattern=f"^{DAY}/{RUN_ID.pattern}$")], ...] = ()

    @model_validator(mode="after")
    def _names_one_version(self) -> Self:
        if self.version != f"versions/dt={self.as_of}/rev={self.run_id}":
            raise ValueError("the version is not that of the run")
        if self.manifest not in (None, f"manifests/{self.as_of}/{self.run_id}.json"):
            raise ValueError("the manifest is not that of the run")
        return self


def read_pointer(text: bytes, file: object, study: str) -> dict[str, Any]:
    """A study's pointer; PublishError where ``file`` holds something else, was changed, or is a newer program's."""
    try:
        content = unsealed(text)
        require_readable(content, file)
        _Pointer.model_validate(content)
        if content.get("study", study) != study:
            raise DamagedError("it is another study's")
    except (ValueError, TypeError, KeyError) as error:
        why = f" What is wrong: {error}." if isinstance(error, DamagedError) else ""
        raise PublishError(f"{file}: this is no pointer. Remove it, then: groupwise rollback STUDY --to RUN.{why}") from error
    return content


def require_readable(content: Mapping[str, Any], file: object) -> None:
    """Refuse a pointer or manifest, or the tables that it speaks of, of a newer major version than this program knows.

    Raises
    ------
    PublishError : the version is newer. ValueError, KeyError : there is no version to be read.
    """
    known = {"schema": MANIFEST_SCHEMA, "tables_version": CATALOGUE_VERSION}
    for field, ours in known.items():
        theirs = content["schema"] if field == "schema" else content.get(field, ours)
        if not isinstance(theirs, str):
            raise TypeError(f"{field} is no text")
        if int(theirs.split(".", 1)[0]) > int(ours.split(".", 1)[0]):
            major = ours.split(".", 1)[0]
            raise PublishError(
                f"{file}: {field} {theirs}: this groupwise reads versions up to {major}.x; install a newer groupwise to read it."
            )


def as_text(moment: datetime) -> str:
    """A moment in UTC, to the microsecond, as pointers and manifests write it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def moment_of(value: object) -> datetime | None:
    """The moment that a pointer or manifest wrote; None for none."""
    try:
        return None if value is None else _TIME.validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{value!r} is no moment") from error


def outranked(latest: Mapping[str, Any] | None, as_of: str, run_id: str, started_at: datetime) -> str | None:
    """Why a run does not move the pointer away from ``latest``; None where it does."""
    if latest is None or str(latest["as_of"]) < as_of:
        return None
    if str(latest["as_of"]) > as_of:
        return "A later version is the latest one: this run is a backfill."
    started, rolled_back = moment_of(latest.get("started_at")), moment_of(latest.get("rolled_back_at"))
    # a pointer from before runs told their start gives way
    if (max(started or _START, rolled_back or _START), str(latest["run_id"])) <= (started_at, run_id):
        return None
    if rolled_back is not None and rolled_back > started_at:
        return f"The study was rolled back to run {latest['run_id']} after this run had started; that version stays the latest one."
    return f"Run {latest['run_id']} of the same day started later and is published already; its version stays the latest one."
