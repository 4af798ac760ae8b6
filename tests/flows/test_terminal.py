"""Names from a user's data are printed as they are."""

import io
import logging
from pathlib import Path

import pytest

from groupwise.commands import terminal


@pytest.mark.parametrize("name", ["dept:cat:", "size[L]", "[bold]x[/bold]", ":smile:"])
def test_no_name_is_taken_for_markup_or_a_picture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page = io.StringIO()
    console = terminal.console()
    monkeypatch.setattr(console, "file", page)
    console.print(terminal.table((name, "n"), [(name, "1")], title=name))
    assert page.getvalue().count(name) == 3


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("A\x1b]0;owned\x07", "A\\x1b]0;owned\\x07"),
        ("A\x1b[2J", "A\\x1b[2J"),
        ("A\x9b2J", "A\\x9b2J"),
        ("A\x00B", "A\\x00B"),
        ("two\nlines", "two\\x0alines"),
        ("\u202egnirts\u2066", "\\u202egnirts\\u2066"),
        ("A\u2028B", "A\\u2028B"),
        ("a\rb\x08", "a\\x0db\\x08"),
    ],
)
def test_names_that_would_act_on_a_terminal_are_written_out(name: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page = io.StringIO()
    console = terminal.console()
    monkeypatch.setattr(console, "file", page)
    console.print(terminal.table((name, "n"), [(name, "1")], title=name))
    assert page.getvalue().count(shown) == 3
    console.print(name, markup=False)
    assert set(page.getvalue()).isdisjoint("\x00\x07\x08\x0d\x1b\x9b\u202e\u2028\u2066")


def test_words_of_other_scripts_keep_their_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    page = io.StringIO()
    console = terminal.console()
    monkeypatch.setattr(console, "file", page)
    name = "Müller 日本 می\u200cخواهم 👩\u200d👩"
    console.print(terminal.table((name,), [(name,)]))
    assert page.getvalue().count(name) == 2


def test_a_runs_log_does_not_act_on_the_terminal_that_shows_it(tmp_path: Path) -> None:
    from groupwise.commands.run_log import log_consoles_to

    logger = logging.getLogger("prefect.a_test_of_the_log")
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    root_handlers = list(logging.getLogger().handlers)
    try:
        log_consoles_to(tmp_path / "run.log")
        logger.error("level %s", "A\x1b]0;owned\x07\u202e")
        text = (tmp_path / "run.log").read_text(encoding="utf-8")
    finally:
        logging.getLogger().handlers = root_handlers
    assert "level A\\x1b]0;owned\\x07\\u202e" in text
    assert set(text).isdisjoint("\x1b\x07\u202e")
