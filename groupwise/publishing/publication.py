"""A publication: what a run has put in place, and what is asked of its tables before it may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from groupwise.publishing.address import Address
from groupwise.publishing.pointer import RUN_ID
from multilevel.catalogue.published_tables import OPTIONAL_TABLES, TABLES, check_table
from multilevel.errors import PublishError

type Confirm = Callable[[], str | None]
"""Asked under the lock whether the run is still wanted: None, or why nobody can tell; raises PublishError where it is over."""


def nobody_asks() -> str | None:
    """The answer for a run that nobody watches over."""
    return None


@dataclass(frozen=True)
class Publication:
    """One version in place. ``why_not_latest`` says why the pointer names another one; None where it names this one."""

    folder: Path | Address
    manifest: Path | Address
    report: Path | Address | None
    why_not_latest: str | None

    @property
    def is_latest(self) -> bool:
        """Whether the pointer names this version."""
        return self.why_not_latest is None


def check_run_id(study: str, run_id: str) -> None:
    """Raise PublishError unless the run's id is a plain name."""
    if not RUN_ID.fullmatch(run_id):
        raise PublishError(f"{study}: run id {run_id!r}: write letters, digits, underscores and hyphens.")


def check_contract(tables: Mapping[str, pa.Table]) -> None:
    """Raise PublishError unless these are the published tables, and each keeps its contract."""
    if set(tables) - set(OPTIONAL_TABLES) != set(TABLES):
        raise PublishError(f"The tables to publish are {', '.join(sorted(TABLES))}; this run has {', '.join(sorted(tables)) or 'none'}.")
    problems = [problem for name, table in tables.items() for problem in check_table(name, table)]
    if problems:
        more = f" (and {len(problems) - 2} more)" if len(problems) > 2 else ""
        raise PublishError("Tables break their contract, nothing is published: " + "; ".join(problems[:2]) + more)


def unconfirmed(study: str, run_id: str, unsure: str) -> str:
    """What to say of a version that is whole, and that nobody could say was still wanted."""
    return (
        f"{study}: {unsure} The version of run {run_id} is whole, and the latest version is what it was. "
        f"To make it the latest: groupwise rollback STUDY --to {run_id}"
    )
