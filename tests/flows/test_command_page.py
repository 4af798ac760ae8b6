"""``docs/commands.md`` says what the app says, and its examples print what stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from groupwise.commands import command_line
from groupwise.commands.command_examples import EXAMPLES, make_example_files, run_examples
from groupwise.commands.command_page import command_page, commands, sessions_on

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def run_here(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["groupwise", *arguments])
    return command_line._run()


def words(text: str) -> list[str]:
    """The text without its numbers, the widths of its columns and the lengths of its lines."""
    return re.sub(r"─+", "─", NUMBER.sub("#", text)).split()


def numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in NUMBER.findall(text)]


def test_the_page_has_every_command_option_and_example_of_the_app() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == command_page(sessions_on(page)), "run: make docs"


def test_every_command_has_an_example_and_every_example_a_command() -> None:
    assert set(EXAMPLES) == set(commands()) == set(sessions_on(PAGE.read_text(encoding="utf-8")))


@pytest.mark.operations
@pytest.mark.timeout(180)
def test_the_examples_print_what_the_page_says(
    tmp_path: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(arguments: list[str]) -> str:
        capfd.readouterr()
        code = run_here(arguments, monkeypatch)
        out, err = capfd.readouterr()
        assert code == 0, err
        return out

    monkeypatch.chdir(tmp_path)
    make_example_files(tmp_path)
    printed = run_examples(tmp_path, run)
    for name, told in sessions_on(PAGE.read_text(encoding="utf-8")).items():
        assert words(printed[name]) == words(told), f"{name}: run make docs"
        # four digits are printed; the last may turn with another BLAS
        assert numbers(printed[name]) == pytest.approx(numbers(told), rel=2e-3, abs=2e-3), f"{name}: run make docs"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["plan", "no_such_study.yaml"], 1),
        (["prune", "no_such_study.yaml", "--keep", "1"], 1),
        (["plot"], 2),
        (["plan"], 2),
        (["plan", "study.yaml", "--fast"], 2),
        (["simulate", "--line-items", "0", "--database", "shop.duckdb"], 2),
    ],
)
def test_a_command_ends_with_the_exit_code_of_the_page(arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"| {code} |" in PAGE.read_text(encoding="utf-8")
    assert run_here(arguments, monkeypatch) == code


def test_an_interrupted_command_says_so_and_ends_with_the_exit_code_of_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("groupwise.commands.plan.show_plan", interrupted)
    assert run_here(["plan", "study.yaml"], monkeypatch) == 130
    assert capsys.readouterr().err == "groupwise: interrupted; nothing was published\n"
    assert "| 130, 143, 129 |" in PAGE.read_text(encoding="utf-8")


def test_without_a_command_all_of_them_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here([], monkeypatch) == 0
    listed = capsys.readouterr().out
    assert [name for name in commands() if f"\n  {name} " not in listed] == []
