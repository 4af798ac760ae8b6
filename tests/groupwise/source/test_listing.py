"""Globs find the files that ``pathlib`` finds, and never look through a whole machine."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from groupwise.commands.plan import show_plan
from groupwise.source import listing
from groupwise.source.listing import check_start, matching_files
from groupwise.study.study_file import load_study
from multilevel.errors import GroupwiseError, SourceError, StudyError

FILES = (
    "a.parquet",
    "b.txt",
    ".hidden.parquet",
    "year=2024/a.parquet",
    "year=2024/m=1/b.parquet",
    "year=2025/[x].parquet",
    "deep/er/c.parquet",
)
PATTERNS = (
    "*.parquet",
    "**/*.parquet",
    "**",
    "**/**/*.parquet",
    "*/*.parquet",
    "*/**/*.parquet",
    "**/m=*/*.parquet",
    "year=202[45]/*.parquet",
    "year=202[!5]/**/?.parquet",
    "deep/**/er/*.parquet",
    "deep/../*.parquet",
    "linked/*.parquet",
    "*/a.parquet",
    "**/a.parquet",
    "nowhere/*.parquet",
    "a.parquet/*",
    "**.parquet",
    "[[]x].parquet",
    "**/[[]x].parquet",
    "loop/**/*.parquet",
)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files at several depths, a link to a folder and one that leads back up."""
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        path = tmp_path / "lake" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "lake" / "linked").symlink_to(tmp_path / "lake" / "year=2024")
    (tmp_path / "lake" / "loop").symlink_to(tmp_path / "lake")
    (tmp_path / "lake" / "dangling.parquet").symlink_to(tmp_path / "nowhere")
    return tmp_path / "lake"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_glob_finds_what_pathlib_finds(lake: Path, pattern: str) -> None:
    expected = sorted(file for file in lake.glob(pattern) if file.is_file())
    assert matching_files(f"{lake}/{pattern}") == expected
    assert matching_files(f"lake/{pattern}") == [file.relative_to(lake.parent) for file in expected]


def test_a_folder_deeper_than_pythons_stack_is_looked_through(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["d"] * 1_100)
    for path in (*reversed(folder.parents), folder):
        path.mkdir(exist_ok=True)
    (folder / "x.parquet").touch()
    assert matching_files(f"{tmp_path}/**/*.parquet") == [folder / "x.parquet"]


@pytest.mark.parametrize(
    "pattern",
    [
        "/**/x.parquet",
        "/*/x.parquet",
        "/[a-z]*/**/x.parquet",
        "//**/x.parquet",
        "/./**/x.parquet",
        "/tmp/../**/x.parquet",
        "file:///**/x.parquet",
    ],
)
@pytest.mark.parametrize("field", ["source", "standardise_to"])
def test_a_glob_that_begins_in_the_root_folder_is_refused_before_anything_is_listed(shop: Path, pattern: str, field: str) -> None:
    sources = {"source": "{parquet: lines.parquet}"} | {field: f"{{parquet: '{pattern}'}}"}
    text = "".join(f"{name}: {value}\n" for name, value in sources.items())
    Path("study.yaml").write_text(f"name: small\nformula: amount ~ 1 + (1 | category)\n{text}")
    begun = time.monotonic()
    with pytest.raises(StudyError, match=rf"{field}.*looks through the root folder of the machine; write the folder"):
        load_study("study.yaml", {})
    assert time.monotonic() - begun < 1


def test_links_to_the_root_folder_and_working_in_it_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "all").symlink_to("/")
    with pytest.raises(ValueError, match="root folder"):
        check_start(f"{tmp_path}/all/**/x.parquet")
    monkeypatch.chdir("/")
    with pytest.raises(ValueError, match="root folder"):
        check_start("**/x.parquet")
    assert check_start("tmp/**/x.parquet") == "tmp/**/x.parquet"


def test_a_file_of_that_name_is_no_glob(lake: Path) -> None:
    assert check_start(f"{lake}/year=2025/[x].parquet")


@pytest.mark.parametrize("pattern", ["lake/**/*.parquet", "lake/*/*.parquet", "**/**/nowhere/**"])
def test_a_glob_that_looks_at_too_much_is_refused_with_the_study_and_the_field(
    lake: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    monkeypatch.setattr(listing, "MOST_ENTRIES", 5)
    Path("study.yaml").write_text(f"name: small\nformula: amount ~ 1 + (1 | category)\nsource: {{parquet: '{pattern}'}}\n")
    with pytest.raises(SourceError, match=r"small: source[.]parquet .* looks at more than 5 files and folders .* write the folder"):
        show_plan("study.yaml", as_of=None, settings=[])
    mixed = f"source: {{parquet: lake/a.parquet}}\nstandardise_to: {{parquet: '{pattern}'}}\n"
    Path("study.yaml").write_text(f"name: small\nformula: amount ~ 1 + (1 | category)\n{mixed}")
    with pytest.raises(GroupwiseError, match=r"small: standardise_to[.]parquet .* looks at more than 5 files"):
        show_plan("study.yaml", as_of=None, settings=[])


def test_a_pattern_longer_than_any_name_is_a_pattern() -> None:
    assert check_start("data/" + "x" * 5_000 + "*") == "data/" + "x" * 5_000 + "*"
