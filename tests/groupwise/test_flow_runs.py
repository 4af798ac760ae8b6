"""Whether Prefect has a server is found without importing it, wherever its settings may be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from groupwise.commands import flow_runs
from groupwise.commands.flow_runs import has_api

ROOT = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:4200/api"
PROFILES = f'[profiles.local]\n[profiles.office]\nPREFECT_API_URL = "{ADDRESS}"\n'


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a home of Prefect's without settings; what Prefect would be asked is written down."""
    for name in ("PREFECT_API_URL", "PREFECT_PROFILES_PATH", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Entry points that were loaded; Prefect answers that it has a server."""
    found: list[str] = []

    def load(entry_point: str) -> object:
        found.append(entry_point)
        return lambda: ADDRESS

    monkeypatch.setattr(flow_runs, "load", load)
    return found


def test_without_any_setting_prefect_is_not_asked(asked: list[str]) -> None:
    assert not has_api()
    assert not asked


def test_the_environment_is_enough(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", ADDRESS)
    assert has_api()
    assert not asked


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("home/profiles.toml", f'active = "office"\n[profiles.office]\nPREFECT_API_URL = "{ADDRESS}"\n'),
        (".env", f"PREFECT_API_URL={ADDRESS}\n"),
        ("prefect.toml", f'[api]\nurl = "{ADDRESS}"\n'),
        ("pyproject.toml", f'[tool.prefect]\napi.url = "{ADDRESS}"\n'),
    ],
)
def test_a_file_that_may_set_it_lets_prefect_be_asked(file: str, text: str, place: Path, asked: list[str]) -> None:
    (place / file).parent.mkdir(exist_ok=True)
    (place / file).write_text(text)
    assert has_api()
    assert asked == [flow_runs.CONFIGURED_API]


@pytest.mark.operations
@pytest.mark.parametrize(("active", "found"), [("local", "False"), ("office", "True")])
def test_prefect_says_which_profile_is_active(active: str, found: str, place: Path) -> None:
    (place / "home").mkdir()
    (place / "home" / "profiles.toml").write_text(f'active = "{active}"\n{PROFILES}')
    ask = "from groupwise.commands.flow_runs import has_api; print(has_api())"
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == found


def test_other_files_of_those_names_cost_nothing(place: Path, asked: list[str]) -> None:
    (place / "pyproject.toml").write_text('[project]\ndependencies = ["requests"]\n')
    (place / ".env").write_text("API_KEY=1\n")
    assert not has_api()
    assert not asked
