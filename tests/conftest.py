"""No test tells anybody anything, and each takes one core: telemetry and BLAS's own threads are off before a library is imported."""

from __future__ import annotations

import os

os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
# pytest's workers have the cores: threads of BLAS would wait for one another, and a small fit takes several times as long
os.environ.setdefault("OMP_NUM_THREADS", "1")

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from groupwise.run_folder import RunFolder

LANES = ("parity", "calibration", "faults", "fuzz", "operations")
LANE_SECONDS = 1_800
"""A test of a long lane that has not ended by then hangs, however busy the machine is."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of the long lanes their time."""
    for item in items:
        if item.get_closest_marker("timeout") is None and any(item.get_closest_marker(lane) for lane in LANES):
            item.add_marker(pytest.mark.timeout(LANE_SECONDS))


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    """A command that a test runs in its own process leaves no handler that writes to the test's captured output."""
    logger = logging.getLogger("groupwise")
    before = list(logger.handlers)
    yield
    for handler in logger.handlers:
        if handler not in before:
            handler.close()
    logger.handlers[:] = before


type RunUntilFitted = Callable[..., RunFolder]


@pytest.fixture(scope="session")
def run_until_fitted() -> RunUntilFitted:
    """A run of a study file in the working directory, one step after the other without Prefect, as far as its fit."""

    def run(
        study_file: str, run_id: str = "r1", *, engine: str | None = None, settings: Sequence[str] = (), today: date = date(2026, 1, 1)
    ) -> RunFolder:
        from groupwise.pipeline.model_fit import fit
        from groupwise.pipeline.run_start import begin
        from groupwise.pipeline.steps import compress, extract, validate
        from groupwise.run_folder import RunFolder

        begun = RunFolder(Path(begin(study_file, engine=engine, publish_to=None, settings=settings, run_id=run_id)))
        folder = str(begun.path)
        extract(folder, None, today)
        validate(folder)
        compress(folder)
        fit(begun)
        return begun

    return run


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the repository."""
    place, root = tmp_path_factory.mktemp("wheel"), Path(__file__).parents[1]
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(root)]
    done = subprocess.run(build, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = place.glob("*.whl")
    return built


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Path:
    """Folder that keeps what the large lane measures."""
    folder = request.config.rootpath / ".groupwise" / "calibration"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
