"""ARCHITECTURE.md and CONTRIBUTING.md speak of files that exist, and ARCHITECTURE.md of every room; no file holds data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "docs", "expectations", "flows", "groupwise", "multilevel", "sql", "studies", "tasks", "tests")
LARGEST = 400_000
PATH = re.compile(r"`((?:flows|tasks|groupwise|sql|expectations|multilevel|tests|docs|studies|benchmarks)/[\w./-]*)`")


def test_no_file_is_as_large_as_data() -> None:
    files = [file for top in FOLDERS for file in (ROOT / top).rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert len(files) > 500
    assert not [str(file) for file in [*files, *ROOT.glob("*.lock")] if file.stat().st_size > LARGEST]


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"])
def test_every_path_that_a_page_names_exists(page: str) -> None:
    named = set(PATH.findall((ROOT / page).read_text(encoding="utf-8")))
    assert not {path for path in named if not (ROOT / path).exists()}


def test_the_architecture_names_every_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = [
        room
        for top in ("multilevel", "groupwise", "tasks", "flows")
        for room in (ROOT / top).iterdir()
        if room.is_dir() and (room / "__init__.py").exists()
    ]
    assert not [room.name for room in rooms if f"{room.name}/" not in text]


def test_the_architecture_names_every_file_at_the_top_of_a_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    files = [
        file for top in ("multilevel", "groupwise", "tasks", "flows") for file in (ROOT / top).glob("*.py") if not file.name.startswith("_")
    ]
    assert not [file.name for file in files if not re.search(rf"\b{file.stem}\b", text)]


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#: ]+\.(?:md|png|svg))(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
