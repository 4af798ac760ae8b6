"""A run that the server has given up publishes nothing, and one that cannot ask the server does not move the pointer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Cancelling, Crashed, Failed

from groupwise.pipeline import steps
from tasks import still_wanted
from tasks.still_wanted import still_wanted as ask

type Estimate = Callable[..., tuple[int, str, str]]
type Published = Callable[[], dict[str, str]]


def marked(state: State[Any]) -> Callable[[object], None]:
    """Stands in for the gates: while the run is alive somebody marks it."""

    def mark(run: object) -> None:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(str(flow_run.id)), state, force=True)

    return mark


@pytest.mark.operations
@pytest.mark.parametrize("state", [Crashed, Cancelled, Cancelling, Failed], ids=lambda state: state.__name__)
def test_a_run_that_was_marked_while_it_lives_on_publishes_nothing(
    estimate_flow: Estimate, published: Published, monkeypatch: pytest.MonkeyPatch, state: Callable[..., State[Any]]
) -> None:
    before = published()
    monkeypatch.setattr(steps, "check_gates", marked(state(message="no heartbeat")))
    code, _, err = estimate_flow()
    assert code != 0
    assert f"is no longer running: the server says {state.__name__} (no heartbeat)" in err
    assert published() == before


@pytest.mark.operations
def test_a_run_that_cannot_ask_keeps_its_version_and_leaves_the_pointer(
    estimate_flow: Estimate, published: Published, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published()
    pointer = shop / "published" / "spend" / "_latest.json"
    before = json.loads(pointer.read_text())

    def refused(run_id: UUID) -> str | None:
        raise ConnectionError("connection refused")

    monkeypatch.setattr(still_wanted, "_state_of", refused)
    monkeypatch.setattr(still_wanted, "WAITS_SECONDS", (0.0, 0.01))
    code, _, err = estimate_flow()
    assert code != 0
    assert "could not be asked whether this run is still wanted (3 attempts" in err
    assert "connection refused" in err
    assert json.loads(pointer.read_text()) == before
    (lost,) = {path.name for path in shop.glob("published/spend/versions/*/*")} - {f"rev={before['run_id']}"} - seen(before, shop)
    assert f"--to {lost.removeprefix('rev=')}" in err


def seen(pointer: dict[str, Any], shop: Path) -> set[str]:
    """Versions that were published before the pointer's, by other tests of this session."""
    manifests = {path.stem: json.loads(path.read_text())["started_at"] for path in shop.glob("published/spend/manifests/*/*.json")}
    return {f"rev={run_id}" for run_id, started in manifests.items() if started < pointer["started_at"]}


def test_an_address_where_nobody_answers_is_given_up_in_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr(still_wanted, "WAITS_SECONDS", (0.0,))
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", "8f8f4b34-6d1c-4d5a-9d59-0a7a3c3c0a11")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert "could not be asked" in str(ask())


def test_without_a_flow_run_nobody_is_asked() -> None:
    assert ask() is None
