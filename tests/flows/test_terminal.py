"""Names from a user's data are printed as they are."""

import io

import pytest

from flows.commands import terminal


@pytest.mark.parametrize("name", ["dept:cat:", "size[L]", "[bold]x[/bold]", ":smile:"])
def test_no_name_is_taken_for_markup_or_a_picture(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page = io.StringIO()
    console = terminal.console()
    monkeypatch.setattr(console, "file", page)
    console.print(terminal.table((name, "n"), [(name, "1")], title=name))
    assert page.getvalue().count(name) == 3
