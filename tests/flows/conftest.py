"""One small shop for every test that runs a whole study, and one Prefect server for those that run it as a flow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.flows.in_process import run_command

STUDY = """
name: spend
formula: amount ~ 1 + on_sale + (1 | region) + (1 | category)
source: {parquet: lines.parquet}
window: {column: day, days: 365}
engine: likelihood
cells: [region, category]
"""
# a level's name is data, whatever it looks like
AWKWARD = "O'Hara\"; drop table lines; --"


@pytest.fixture(scope="session")
def lines() -> pd.DataFrame:
    """Two thousand line items of five regions and eight categories in 2024."""
    rng = np.random.default_rng(1)
    n = 2_000
    region, category = rng.integers(5, size=n), rng.integers(8, size=n)
    return pd.DataFrame(
        {
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(300, size=n), unit="D"),
            "region": [f"R{i}" if i else AWKWARD for i in region],
            "category": [f"C{i}" for i in category],
            "chain": "only",
            "on_sale": rng.random(n) < 0.3,
            "amount": np.exp(0.2 * region + 0.1 * category + rng.normal(size=n)),
            "is_kept": rng.random(n) < 0.8,
        }
    )


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, lines: pd.DataFrame) -> Path:
    """A working folder with the line items and a study of them."""
    folder = tmp_path_factory.mktemp("shop")
    lines.to_parquet(folder / "lines.parquet")
    (folder / "spend.yaml").write_text(STUDY)
    return folder


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A real Prefect server for all runs of the session."""
    # the server's own modules take seconds to import
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


type Estimate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def estimate(shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Estimate:
    """Run ``groupwise estimate spend.yaml ...`` in this process, without a server; gives exit code, stdout, stderr.

    All tests share the shop, so that a run is ``forced`` unless a test says otherwise.
    """

    def run(*arguments: str, study: str = "spend.yaml", forced: bool = True) -> tuple[int, str, str]:
        monkeypatch.chdir(shop)
        return run_command(monkeypatch, capfd, "estimate", study, *arguments, *(["--force"] if forced else []))

    return run


@pytest.fixture
def estimate_flow(estimate: Estimate, prefect_server: None) -> Estimate:
    """``estimate`` as a flow run on the session's server."""
    return lambda *arguments, study="spend.yaml", forced=True: estimate("--flow", *arguments, study=study, forced=forced)


@pytest.fixture
def published(shop: Path, estimate: Estimate) -> Callable[[], dict[str, str]]:
    """What lies under the study's folder, by sha256; the first call makes a good version."""

    def look() -> dict[str, str]:
        if not (shop / "published" / "spend" / "_latest.json").exists():
            code, _, err = estimate()
            assert code == 0, err
        files = (path for path in (shop / "published").rglob("*") if path.is_file() and path.suffix != ".lock")
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return look


@pytest.fixture
def groupwise(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command in this process: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        return run_command(monkeypatch, capfd, *arguments)

    return run
