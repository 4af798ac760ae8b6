"""prefect.yaml deploys what exists: no key that Prefect would ignore in silence, no entrypoint, study or parameter that a run misses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint

from flows.publish_group_estimates import publish_group_estimates
from groupwise.commands import flow_runs
from groupwise.study.study_file import load_study

ROOT = Path(__file__).parents[2]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS: list[dict[str, Any]] = FILE["deployments"]
BY_NAME = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=[deployment["name"] for deployment in DEPLOYMENTS])


def known(model: Any) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()} | set(model.model_fields)


def test_no_key_would_be_ignored() -> None:
    assert set(FILE) - {"definitions"} <= known(PrefectYamlModel)  # definitions hold YAML anchors only
    for deployment in DEPLOYMENTS:
        assert set(deployment) <= known(DeploymentConfig), deployment["name"]


@BY_NAME
def test_an_entrypoint_loads_and_takes_its_parameters(deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    assert flow.name == "publish-group-estimates"
    assert flow.validate_parameters(deployment["parameters"])["study"] == deployment["parameters"]["study"]


def test_the_flow_has_a_public_name_in_the_library() -> None:
    assert load_flow_from_entrypoint(f"{flow_runs.__name__}.publish_group_estimates", use_placeholder_flow=False) is publish_group_estimates
    assert not hasattr(flow_runs, "publish_group_estimate")


@BY_NAME
def test_a_deployed_study_is_one_that_can_be_read(deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study = load_study(deployment["parameters"]["study"], {})
    assert study.name.replace("_", "-") == deployment["name"]


@BY_NAME
def test_runs_take_no_slot_that_could_outlive_them_on_the_pool_that_the_page_names(deployment: dict[str, Any]) -> None:
    assert "concurrency_limit" not in deployment
    assert deployment["work_pool"]["name"] == "groupwise"
    assert "work-pool create groupwise" in (ROOT / "docs" / "schedule.md").read_text(encoding="utf-8")


@BY_NAME
def test_a_schedule_has_a_slug_that_stays_and_a_time_of_its_own(deployment: dict[str, Any]) -> None:
    [schedule] = deployment["schedules"]
    assert CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"]).cron == schedule["cron"]
    assert schedule["slug"] in {"nightly", "weekly", "monthly"}
    assert [other["schedules"][0]["cron"] for other in DEPLOYMENTS].count(schedule["cron"]) == 1


def test_all_shipped_studies_on_real_data_are_deployed() -> None:
    shipped = {path.stem.replace("_", "-") for path in (ROOT / "studies").glob("*.yaml")} - {"simulated-spend"}
    assert {deployment["name"] for deployment in DEPLOYMENTS} == shipped
