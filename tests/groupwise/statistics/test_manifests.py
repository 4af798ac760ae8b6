"""The Kubernetes manifests of docs/scaling.md: names that they use of each other, and of us, are names that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from groupwise.pipeline.cluster import SCHEDULER
from groupwise.resources import MEMORY, SPILL, THREADS, read_size

PAGE = Path(__file__).parents[3] / "docs" / "scaling.md"


@pytest.fixture(scope="module")
def manifests() -> dict[tuple[str, str], Any]:
    """By kind and name."""
    section = PAGE.read_text(encoding="utf-8").split("### On Kubernetes")[1]
    text = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert text is not None
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text[1])}


def pods(manifests: dict[tuple[str, str], Any]) -> Iterator[dict[str, Any]]:
    for (kind, _), manifest in manifests.items():
        if kind == "Deployment":
            yield manifest["spec"]["template"]["spec"]
        if kind == "CronJob":
            yield manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def test_selectors_find_the_pods_that_they_mean(manifests: dict[tuple[str, str], Any]) -> None:
    deployments = [one for (kind, _), one in manifests.items() if kind == "Deployment"]
    assert len(deployments) == 2
    for one in deployments:
        assert one["spec"]["selector"]["matchLabels"] == one["spec"]["template"]["metadata"]["labels"]
    service = manifests["Service", "dask-scheduler"]["spec"]
    scheduler = manifests["Deployment", "dask-scheduler"]["spec"]["template"]
    assert service["selector"] == scheduler["metadata"]["labels"]
    port = str(service["ports"][0]["targetPort"])
    assert port in scheduler["spec"]["containers"][0]["command"]
    address = f"tcp://dask-scheduler:{port}"
    worker, run = (
        next(pod["containers"][0] for pod in pods(manifests) if pod["containers"][0]["name"] == name) for name in ("worker", "estimate")
    )
    assert address in worker["command"]
    assert {"name": SCHEDULER, "value": address} in run["env"]


def test_pods_mount_volumes_that_they_have_and_line_items_where_the_others_do(manifests: dict[tuple[str, str], Any]) -> None:
    paths = []
    for pod in pods(manifests):
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0].get("volumeMounts", ())}
        assert set(mounts) == {volume["name"] for volume in pod.get("volumes", ())}
        paths += [mounts["line-items"]] if "line-items" in mounts else []
    assert len(paths) == 2 and len(set(paths)) == 1


def test_a_workers_queries_stay_within_its_pod(manifests: dict[tuple[str, str], Any]) -> None:
    worker = next(pod["containers"][0] for pod in pods(manifests) if pod["containers"][0]["name"] == "worker")
    given = {one["name"]: one["value"] for one in worker["env"]}
    assert set(given) == {MEMORY, THREADS, SPILL}
    assert read_size(given[MEMORY]) < read_size(worker["resources"]["limits"]["memory"])
    assert given[THREADS] == worker["resources"]["limits"]["cpu"]
    assert given[SPILL] in {mount["mountPath"] for mount in worker["volumeMounts"]}
