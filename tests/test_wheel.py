"""A wheel, installed elsewhere, reads its queries and suites and knows its commands without the repository."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content in a folder of its own."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = (place / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return place / "site"


def run(installed: Path, code: str) -> str:
    """Run code that finds the wheel's packages first, isolated from the working directory and the environment."""
    first = f"import sys; sys.path.insert(0, {str(installed)!r}); "
    done = subprocess.run([sys.executable, "-I", "-c", first + code], capture_output=True, text=True, check=True, cwd=installed.parent)
    return done.stdout.strip()


def test_queries_suites_and_templates_are_inside(installed: Path) -> None:
    for folder in ("sql", "expectations", "tasks", "multilevel"):
        wanted = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.suffix in {".sql", ".json", ".html", ".css", ".js"}}
        assert {path for path in wanted if not (installed / path).is_file()} == set()


def test_it_reads_its_queries_and_suites(installed: Path) -> None:
    code = "import sql, expectations; print(sql.__file__, len(sql.read_query('line_items')), len(expectations.read_suite('line_items')))"
    file, query, suite = run(installed, code).split()
    assert Path(file).is_relative_to(installed)
    assert int(query) > 100
    assert int(suite) > 100


def test_it_knows_its_commands(installed: Path) -> None:
    code = "sys.argv = ['groupwise', '--help']; import groupwise.commands.command_line as c; print(c.__file__); c._run()"
    out = run(installed, code)
    assert Path(out.splitlines()[0]).is_relative_to(installed)
    assert "estimate" in out


def test_tests_benchmarks_and_data_stay_at_home(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {
        "flows", "tasks", "sql", "expectations", "multilevel",
    }  # fmt: skip
