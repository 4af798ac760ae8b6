"""Flow runs of runs that ended: marked on a real Prefect server, by the supervisor or by the next run; the automation is there once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast
from uuid import UUID, uuid4

import pytest
from filelock import FileLock
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_HOME, get_current_settings, temporary_settings
from prefect.states import Running, State

from flows.automations import ServerError, write_automations
from flows.left_behind import _records, end_dead_runs, on_record
from groupwise.supervision.flow_run_end import FLOW, end_flow_run
from groupwise.supervision.news import News


@flow(name=FLOW)
def stand_in(run_id: str) -> None:
    """Has the flow's name; never called."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Prefect's folder."""
    with temporary_settings({PREFECT_HOME: tmp_path}):
        yield tmp_path


@pytest.fixture
def client(prefect_server: None, tmp_path: Path) -> Iterator[SyncPrefectClient]:
    # inside the server's settings, which have a folder of their own
    with temporary_settings({PREFECT_HOME: tmp_path}), get_client(sync_client=True) as found:
        yield found


def running(client: SyncPrefectClient, run_id: str) -> FlowRun:
    return client.create_flow_run(stand_in, parameters={"run_id": run_id}, state=Running())


def state(client: SyncPrefectClient, flow_run: FlowRun) -> str:
    found = client.read_flow_run(flow_run.id).state
    assert found is not None
    return found.type.value


@pytest.mark.operations
def test_the_supervisor_ends_the_flow_run_of_its_run_and_no_other(client: SyncPrefectClient) -> None:
    ours, other = running(client, "ours"), running(client, "other")
    news = News(run_id="ours", api=str(client.api_url).rstrip("/"))
    assert end_flow_run(news, "CANCELLED", "ended by SIGTERM", 10) is None
    assert (state(client, ours), state(client, other)) == ("CANCELLED", "RUNNING")


@pytest.mark.operations
def test_the_next_run_marks_what_a_killed_run_left_open_and_leaves_live_runs_alone(client: SyncPrefectClient) -> None:
    dead, live = running(client, "dead"), running(client, "live")
    with on_record("live"):
        (_records() / "dead.lock").touch()
        assert end_dead_runs(client) == 1
        assert (state(client, dead), state(client, live)) == ("CRASHED", "RUNNING")
        assert end_dead_runs(client) == 0
    assert list(_records().iterdir()) == []


class OpenRuns:
    """What ``end_dead_runs`` asks of a client, of flow runs that are all open."""

    def __init__(self, *run_ids: str) -> None:
        self.open = [FlowRun(flow_id=uuid4(), parameters={"run_id": run_id}) for run_id in run_ids]
        self.ended: dict[str, str] = {}

    def read_flow_runs(self, *, limit: int, offset: int, **filters: object) -> list[FlowRun]:
        return self.open[offset : offset + limit]

    def set_flow_run_state(self, flow_run_id: UUID, state: State, *, force: bool) -> None:
        [run] = [each for each in self.open if each.id == flow_run_id]
        assert force
        self.ended[run.parameters["run_id"]] = state.type.value


def test_only_runs_whose_record_nobody_holds_are_marked(home: Path) -> None:
    runs = OpenRuns("live", "dead", "unrecorded")
    with on_record("live"):
        (_records() / "dead.lock").touch()
        assert end_dead_runs(cast(SyncPrefectClient, runs)) == 1
        assert runs.ended == {"dead": "CRASHED"}
        assert [record.stem for record in _records().iterdir()] == ["live"]
    assert list(_records().iterdir()) == []


def test_the_record_of_an_interrupted_run_stays_for_the_next_run(home: Path) -> None:
    with pytest.raises(KeyboardInterrupt), on_record("interrupted"):
        raise KeyboardInterrupt
    [record] = _records().iterdir()
    FileLock(record).acquire(timeout=0)


@pytest.mark.operations
def test_an_automation_is_there_once_however_often_it_is_written(client: SyncPrefectClient) -> None:
    first, second = write_automations(), write_automations()
    assert second == [line.replace("made", "updated") for line in first]
    found = client.read_automations_by_name("groupwise runs that died")
    assert len(found) == 1
    assert found[0].enabled
    assert found[0].actions[0].type == "change-flow-run-state"


def test_without_a_server_the_command_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL

    with temporary_settings({PREFECT_HOME: tmp_path}, restore_defaults={PREFECT_API_URL}):
        assert get_current_settings().api.url is None
        with pytest.raises(ServerError, match="set PREFECT_API_URL"):
            write_automations()
