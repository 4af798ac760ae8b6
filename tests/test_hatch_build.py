"""What the wheel's build hook rewrites, what it leaves alone, and where it ends the build."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatch_build import BundleError, Moves

MOVES = Moves(Path(__file__).parents[1], {room: f"house._bundled.{room}" for room in ("flows", "tasks", "sql", "expectations")})


def rewritten(text: str, file: str = "groupwise/module.py") -> str:
    return MOVES.rewrite(text.encode(), file).decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from sql import read_query as read\n", "from house._bundled.sql import read_query as read\n"),
        ("def f():\n    é = 1; from tasks.policy import policy\n", "def f():\n    é = 1; from house._bundled.tasks.policy import policy\n"),
        ("import json, sql\n", "import json, house._bundled.sql as sql\n"),
        ("import flows.automations as a, sql as q\n", "import house._bundled.flows.automations as a, house._bundled.sql as q\n"),
        ('E = "flows.command_run:run_as_flow"\n', 'E = "house._bundled.flows.command_run:run_as_flow"\n'),
        (
            "E = ['tasks.policy', 'flows.automations.FILE']\n",
            "E = ['house._bundled.tasks.policy', 'house._bundled.flows.automations.FILE']\n",
        ),
        ('files("sql")\n', 'files("house._bundled.sql")\n'),
        ('c = [python, "-m", "flows", "plan"]\n', 'c = [python, "-m", "house._bundled.flows", "plan"]\n'),
    ],
)
def test_names_of_modules_are_rewritten_and_nothing_else_is(before: str, after: str) -> None:
    assert rewritten(before) == after


@pytest.mark.parametrize(
    "text",
    [
        'path.parent == Path("sql")\n',
        'Path("expectations") / f"{suite}.json"\n',
        'wanted = {"flows": {"name": 1}, "tasks": 2}\n',
        'message = f"expectations/{suite}.json needs a list `expectations`."\n',
        'message = f"expectations: {suite}: rule"\n',
        'sql = connection.sql; sql("select 1"); flows.automations\n',
        '"""``flows.automations`` is what ``python -m flows`` reads."""\n',
        "from .sql import statement\nfrom groupwise.sql import statement\nimport sqlglot\n",
        'logger = "groupwise.tasks"; mail = "x.flows.automations"; file = "flows/automations.py:8"; other = "sqlite:memory"\n',
    ],
)
def test_words_that_are_no_modules_stay(text: str) -> None:
    assert rewritten(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "import flows.automations\n",
        "from \\\n    sql import read_query\n",
        'E = "flows." "automations:write"\n',
        'E = f"flows.{name}:run"\n',
        'E = "flows." + name\n',
        'E = f"{python} -m flows.automations"\n',
        'E = "python -m flows plan"\n',
        'E = r"tasks.policy"\n',
        'E = """\nfirst\nsee tasks.policy:policy\n"""\n',
    ],
)
def test_a_name_that_would_be_left_ends_the_build_and_says_where(text: str) -> None:
    with pytest.raises(BundleError, match=r"groupwise/module\.py:\d+: "):
        rewritten("x = 1\n" + text)


def test_the_line_is_that_of_the_name() -> None:
    with pytest.raises(BundleError, match=r"groupwise/module\.py:3: tasks\.policy"):
        rewritten('E = """\nfirst\nsee tasks.policy:policy\n"""\n')


def test_data_is_never_rewritten_and_ends_the_build_where_it_names_a_module() -> None:
    assert rewritten("reads: flows/automations.yaml\n", "flows/automations.yaml") == "reads: flows/automations.yaml\n"
    assert rewritten("select 1 from tasks.policy\n", "sql/any.sql") == "select 1 from tasks.policy\n"
    with pytest.raises(BundleError, match=r"flows/automations\.yaml:2: flows\.command_run"):
        rewritten("name: one\nentrypoint: flows.command_run:run_as_flow\n", "flows/automations.yaml")


def test_a_rewritten_file_has_nothing_left_to_rewrite() -> None:
    for file in (MOVES.root / "flows").glob("*.py"):
        once = rewritten(file.read_text(encoding="utf-8"), file.name)
        assert rewritten(once, file.name) == once
