"""A run's claim in object storage: one small object that makes its run id its own, and tells by the store's clock when it began."""

from __future__ import annotations

import uuid
from datetime import datetime

from groupwise.publishing.object_store.store_pointer import ObjectLayout
from multilevel.errors import PublishError


def claim(layout: ObjectLayout, run_id: str) -> datetime:
    """Take the run id; returns the store's time. PublishError where another run has taken it."""
    name, token = claim_name(layout, run_id), uuid.uuid4().hex.encode()
    layout.store.create(name, token)
    found = layout.store.read(name)
    if found is None or found.data != token:
        raise PublishError(f"{layout.study}: another run with the id {run_id} is publishing to {layout.store.root}; a run publishes once.")
    return layout.store.names(name)[name].modified


def release_claim(layout: ObjectLayout, run_id: str) -> None:
    """Give the run id back."""
    layout.store.remove(claim_name(layout, run_id))


def claim_name(layout: ObjectLayout, run_id: str) -> str:
    """The claim's object."""
    return (layout.paths.staging / f"{run_id}.claim").as_posix()
