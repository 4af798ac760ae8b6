"""A wheel beside a project with ``flows/`` and ``tasks/`` of its own: deployed as docs/schedule.md says, a worker's run publishes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel
from prefect.flows import load_flow_from_entrypoint

from tests.flows.waiting import is_healthy, wait_for

PAGE = Path(__file__).parents[2] / "docs" / "schedule.md"
FILES = {
    "flows/__init__.py": '"""The project\'s flows."""\n',
    "flows/own.py": (
        "from pathlib import Path\nfrom prefect import flow\nfrom tasks.own import sign\n\n\n"
        '@flow\ndef own() -> None:\n    Path("own.txt").write_text(sign())\n'
    ),
    "tasks/__init__.py": '"""The project\'s tasks."""\n',
    "tasks/own.py": 'from prefect import task\n\n\n@task\ndef sign() -> str:\n    return "the project\'s task"\n',
    "sql/__init__.py": '"""The project\'s queries."""\n',
    "expectations/__init__.py": '"""The project\'s suites."""\n',
    "expectations/lines.json": json.dumps(
        {
            "expectations": [
                {
                    "type": "expect_column_values_to_not_be_null",
                    "kwargs": {"column": "region"},
                    "severity": "critical",
                    "meta": {"rule_id": "region_is_there", "why": "a line item without a region belongs to no group"},
                }
            ]
        }
    ),
    # the query is one that the wheel has, the suite is the project's
    "studies/spend.yaml": (
        "name: spend\nformula: log_amount ~ 1 + discount + (1 | region) + (1 | department/category)\n"
        "source: {database: shop.duckdb, line_items: sql/simulated_line_items.sql}\n"
        "expectations: lines\nengine: likelihood\nas_of: latest\n"
    ),
}


def documented() -> dict[str, Any]:
    """The prefect.yaml of the section on installed wheels."""
    section = PAGE.read_text(encoding="utf-8").split("## From an installed wheel")[1].split("\n## ")[0]
    [block] = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    found: dict[str, Any] = yaml.safe_load(block)
    return found


@dataclass(frozen=True)
class Installation:
    """A virtual environment with the wheel, and the folder of a project that uses it."""

    python: Path
    project: Path
    environment: dict[str, str]

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.project / f"{command[1]}.log").open("wb") as log:
            return subprocess.Popen(
                [self.python, "-m", *command],
                cwd=self.project,
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def call(self, *command: str) -> str:
        done = subprocess.run(
            [self.python, *command], cwd=self.project, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def groupwise(self, *arguments: str) -> str:
        return self.call(str(self.python.with_name("groupwise")), *arguments)

    def prefect(self, *arguments: str) -> str:
        return self.call("-m", "prefect", "--no-prompt", *arguments)


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel is installed; its dependencies are those of this environment, without the repository that may be installed there."""
    place = tmp_path_factory.mktemp("installation")
    home, project = place / "venv", place / "project"
    venv.create(home)
    [packages] = (home / "lib").glob("python*/site-packages")
    # a folder that a .pth file names is searched, but .pth files in it are not read: an editable groupwise stays unknown
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(home), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    for name, text in FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text, encoding="utf-8")
    (project / "prefect.yaml").write_text(yaml.safe_dump(_with_own_flow(documented())), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PYTHON"))}
    environment = kept | {
        "PREFECT_HOME": str(place / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
        "PWD": str(project),
    }
    return Installation(home / "bin" / "python", project, environment)


def _with_own_flow(written: dict[str, Any]) -> dict[str, Any]:
    [ours] = written["deployments"]
    theirs = {"name": "own", "entrypoint": "flows/own.py:own", "work_pool": ours["work_pool"]}
    return written | {"deployments": [ours, theirs]}


@pytest.fixture(scope="module")
def server(installation: Installation) -> Iterator[httpx.Client]:
    """A server with both deployments and a worker; both processes are gone afterwards."""
    api = installation.environment["PREFECT_API_URL"]
    started = [installation.start("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(httpx.URL(api).port))]
    try:
        with httpx.Client(base_url=api, timeout=10) as client:
            wait_for(lambda: is_healthy(client), 120, "the server does not answer")
            installation.prefect("work-pool", "create", "groupwise", "--type", "process")
            installation.prefect("deploy", "--all")
            started.append(installation.start("prefect", "worker", "start", "--pool", "groupwise"))
            yield client
    finally:
        for process in reversed(started):
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def run(installation: Installation, client: httpx.Client, deployment: str) -> dict[str, Any]:
    """The flow run of the deployment, once the worker has ended it."""
    told = installation.prefect("deployment", "run", deployment)
    [flow_run] = re.findall(r"UUID: ([0-9a-f-]{36})", told)

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(f"/flow_runs/{flow_run}").json()
        return found if found["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

    found = wait_for(ended, 400, f"the run does not end; see worker.log in {installation.project}")
    assert found["state_type"] == "COMPLETED", found["state"]["message"]
    return found


def test_the_documented_deployment_loads_and_has_no_key_that_would_be_ignored() -> None:
    written = documented()
    [deployment] = written["deployments"]
    assert set(written) <= set(PrefectYamlModel.model_fields)
    assert set(deployment) <= set(DeploymentConfig.model_fields)
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    assert flow.validate_parameters(deployment["parameters"])["study"] == "studies/spend.yaml"


@pytest.mark.operations
@pytest.mark.timeout(180)
def test_every_module_is_imported_without_the_repositorys_names(installation: Installation) -> None:
    # multilevel imports itself alone, and compiles for minutes
    code = (
        "import importlib, pkgutil, sys, groupwise\n"
        "for found in pkgutil.walk_packages(groupwise.__path__, 'groupwise.'):\n"
        "    importlib.import_module(found.name)\n"
        "print(sum(name.startswith('groupwise.') for name in sys.modules), groupwise.__file__)\n"
        "print(sorted({'flows', 'tasks', 'sql', 'expectations'} & set(sys.modules)))"
    )
    count, file, met = installation.call("-c", code).split()
    assert int(count) > 100
    assert Path(file).is_relative_to(installation.python.parents[1])
    assert met == "[]"


@pytest.mark.operations
@pytest.mark.timeout(600)
def test_a_workers_run_of_the_documented_deployment_publishes(installation: Installation, server: httpx.Client) -> None:
    sizes = ("--customers", "200", "--products", "100", "--categories", "20", "--regions", "5")
    installation.groupwise("simulate", "--line-items", "5000", "--database", "shop.duckdb", *sizes)
    flow_run = run(installation, server, "publish-group-estimates/spend")
    published = installation.project / "published" / "spend"
    assert (published / "current" / "group_estimates.parquet").is_file()
    assert json.loads((published / "_latest.json").read_text(encoding="utf-8"))["as_of"]
    assert flow_run["name"] == "studies/spend.yaml"
    deployment = server.get(f"/deployments/{flow_run['deployment_id']}").json()
    assert deployment["entrypoint"] == "groupwise.commands.flow_runs.publish_group_estimates"
    assert "region" in installation.groupwise("show", "studies/spend.yaml")


@pytest.mark.operations
@pytest.mark.timeout(300)
def test_the_projects_own_flow_runs_on_the_same_worker(installation: Installation, server: httpx.Client) -> None:
    run(installation, server, "own/own")
    assert (installation.project / "own.txt").read_text(encoding="utf-8") == "the project's task"


@pytest.mark.operations
@pytest.mark.timeout(120)
def test_the_wheels_automations_are_written(installation: Installation, server: httpx.Client) -> None:
    assert "made" in installation.groupwise("automations")
