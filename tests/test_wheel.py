"""A wheel, installed elsewhere, has two top-level modules and needs neither the repository nor the names of its folders."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOVED = ("flows", "tasks", "sql", "expectations")
PLACES = {room: f"groupwise/_bundled/{room}" for room in MOVED} | {"groupwise": "groupwise", "multilevel": "multilevel"}
BY_ROOM = pytest.mark.parametrize("room", PLACES)
NAMES = "|".join(MOVED)
UV = str(Path(sys.executable).with_name("uv"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content in a folder of its own."""
    place = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's project with packages of the repository's names, none of which can be imported, and a suite of its own."""
    place = tmp_path_factory.mktemp("project")
    for room in MOVED:
        (place / room).mkdir()
        (place / room / "__init__.py").write_text("raise ImportError('this is the project')\n", encoding="utf-8")
    (place / "expectations" / "line_items.json").write_text('{"expectations": []}', encoding="utf-8")
    return place


def run(installed: Path, project: Path, code: str) -> str:
    """Run code in the project's folder, which is the first place that Python looks in; the wheel is the second."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=project, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_has_two_top_level_modules(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {"groupwise", "multilevel"}


@BY_ROOM
def test_every_query_suite_template_and_module_is_inside(installed: Path, room: str) -> None:
    own = [path for path in (ROOT / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    copies = {path: installed / PLACES[room] / path.relative_to(ROOT / room) for path in own}
    assert copies
    assert not [path for path, copy in copies.items() if not copy.is_file()]
    assert not [path for path, copy in copies.items() if path.suffix != ".py" and path.read_bytes() != copy.read_bytes()]


def test_types_are_for_those_who_install_it(installed: Path) -> None:
    assert (installed / "groupwise" / "py.typed").is_file()
    assert (installed / "multilevel" / "py.typed").is_file()


def test_no_module_imports_a_package_that_has_moved(installed: Path) -> None:
    imports = re.compile(rf"^[ \t]*(?:from|import(?:[ \t]+[\w. \t]+,)*)[ \t]+(?:{NAMES})\b.*", re.MULTILINE)
    found = {file: imports.findall(file.read_text(encoding="utf-8")) for file in installed.rglob("*.py")}
    assert len(found) > 300
    assert not {file: lines for file, lines in found.items() if lines}


def test_no_file_names_one_in_an_entry_point_a_command_or_a_loader(installed: Path) -> None:
    named = re.compile(
        rf"(?<![\w./-])(?:{NAMES})(?:\.\w+)+:\w|-m\W+(?:{NAMES})\b|(?:files|import_module|find_spec|PackageLoader)\(\W*(?:{NAMES})\b"
    )
    files = [path for path in installed.rglob("*") if path.is_file()]
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    # docstrings may speak of the repository
    found = [(path, match[0]) for path, text in texts.items() for match in named.finditer(re.sub(r'"""(?s:.*?)"""|``.*?``', "", text))]
    assert not found


def test_queries_suites_and_templates_are_read_beside_packages_of_their_names(installed: Path, project: Path) -> None:
    code = (
        "from groupwise._bundled import sql; from groupwise.validation.suite_file import suite_entries; "
        "from importlib.resources import files; page = (files('groupwise.validation') / 'templates' / 'validation.html.j2').read_text(); "
        "suites = [len(suite_entries(name)) for name in ('baskets', 'line_items')]; "
        "print(sql.__file__, len(sql.read_query('line_items')), *suites, page.count('<html'))"
    )
    file, query, ours, theirs, pages = run(installed, project, code).split()
    assert Path(file).is_relative_to(installed)
    assert int(query) > 100
    assert int(ours) > 0
    assert int(theirs) == 0, "the project's own suite comes before the one of the same name in the wheel"
    assert int(pages) == 1


def test_its_script_knows_the_commands(installed: Path, project: Path) -> None:
    scripts = ConfigParser()
    [found] = installed.glob("*.dist-info/entry_points.txt")
    scripts.read(found, encoding="utf-8")
    assert dict(scripts["console_scripts"]) == {"groupwise": "groupwise.commands:main"}
    code = "import sys; sys.argv = ['groupwise', '--help']; import groupwise.commands as c; print(c.__file__, flush=True); c.main()"
    out = run(installed, project, code)
    assert Path(out.splitlines()[0]).is_relative_to(installed)
    assert "estimate" in out


@pytest.mark.operations
def test_the_notebook_runs_from_the_wheel(installed: Path, project: Path, tmp_path: Path) -> None:
    """Every code cell in order, in one namespace, outside the repository; its own assertions hold."""
    notebook = ROOT / "docs" / "first-fit.ipynb"
    code = (
        f"import json, os, pathlib; cells = json.loads(pathlib.Path({str(notebook)!r}).read_text(encoding='utf-8'))['cells']; "
        f"os.chdir({str(tmp_path)!r}); scope = {{}}\n"
        "for cell in cells:\n"
        "    if cell['cell_type'] == 'code':\n"
        "        exec(''.join(cell['source']), scope)\n"
        "print(scope['gw'].__file__, scope['published'].folder, sep='\\n')"
    )
    *_, module, folder = run(installed, project, code).splitlines()
    assert Path(module).is_relative_to(installed)
    assert Path(folder, "group_estimates.parquet").is_file()
    cells = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in cells), "run: make docs"


def test_an_editable_install_is_the_repository_on_the_path(tmp_path: Path) -> None:
    code = f"from hatchling.build import build_editable; print(build_editable({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tmp_path / done.stdout.strip()) as archive:
        [place] = [name for name in archive.namelist() if ".dist-info/" not in name]
        assert archive.read(place).decode().strip() == str(ROOT)
    assert place.endswith(".pth")


@pytest.mark.operations
def test_the_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    # without --wheel, the wheel is built from the archive
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)], check=True, capture_output=True)
    [other] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(other) as theirs:
        assert {name: ours.read(name) for name in ours.namelist()} == {name: theirs.read(name) for name in theirs.namelist()}


@pytest.mark.operations
@pytest.mark.parametrize("platform", ["linux", "macos", "windows"])
def test_the_base_has_a_wheel_of_every_package(platform: str) -> None:
    """No compiler is needed to install it: nothing is built, on any platform."""
    asked = [UV, "pip", "compile", "pyproject.toml", "--quiet", "--no-header", "--constraints", "requirements.lock"]
    asked += ["--only-binary", ":all:", "--python-version", "3.12", "--python-platform", platform]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=ROOT)
    _skip_without_an_index(done.stderr)
    assert done.returncode == 0, done.stderr
    assert "duckdb==" in done.stdout


@pytest.mark.operations
def test_it_runs_by_uvx_without_an_install_and_without_building_anything(wheel: Path, tmp_path: Path) -> None:
    asked = [UV, "tool", "run", "--python", sys.executable, "--no-build", "--from", str(wheel), "groupwise"]
    for words in (["--version"], ["--help"]):
        done = subprocess.run([*asked, *words], capture_output=True, text=True, check=False, cwd=tmp_path)
        _skip_without_an_index(done.stderr)
        assert done.returncode == 0, done.stderr
        assert "groupwise" in done.stdout


def _skip_without_an_index(said: str) -> None:
    """Where no package index is reached nothing can be said."""
    if "dns error" in said or "client error (Connect)" in said:
        pytest.skip("no package index is reached")
