"""What people see of a user's text: its letters, and nothing that acts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from groupwise.printable import markdown_text, printable, printable_lines, printable_value


@given(st.text())
def test_nothing_printable_names_contain_can_act(text: str) -> None:
    shown = printable(text)
    assert all(
        character.isprintable() or character in "\u200c\u200d" or character.isspace() or ord(character) > 0xA0 for character in shown
    )
    assert not set(shown) & set("\n\r\t\x1b\x07\x9b\u202e\u2066\u2028\ufeff\u200b")


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_letters_digits_and_signs_stay_as_they_are(text: str) -> None:
    assert printable(text) == text


def test_lines_and_tabs_stay_in_longer_texts() -> None:
    assert printable_lines("a\n\tb\x1b\r") == "a\n\tb\\x1b\\x0d"


def test_every_text_of_nested_values_is_written_out() -> None:
    assert printable_value({"\x1b": ["a\u202e", {"b": ("\x00",)}, 1, None]}) == {"\\x1b": ["a\\u202e", {"b": ["\\x00"]}, 1, None]}


TITLES = ("[click](javascript:alert(1))", "![x](https://example.org/x.png)", "<img src=x onerror=alert(1)>", "# big", "**bold** `code`")
TITLES += (
    "- list",
    "1. one",
    "a | b\n--|--\n1 | 2",
    "<https://example.org>",
    "https://example.org",
    "&lt;b&gt;",
    "~~gone~~",
    "===",
    "a_b_c",
    "\\[x\\]",
)


@pytest.mark.parametrize("title", TITLES)
def test_markdown_shows_a_title_letter_by_letter(title: str) -> None:
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(f"x {markdown_text(title)}")
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert {child.type for child in tokens[1].children or []} <= {"text", "text_special"}
    assert "".join(child.content for child in tokens[1].children or []) == f"x {printable(title)}"


@given(st.text(min_size=1))
def test_markdown_never_leaves_the_paragraph(title: str) -> None:
    tokens = MarkdownIt("commonmark").parse(f"x {markdown_text(title)}")
    assert {child.type for child in tokens[1].children or []} <= {"text", "text_special"}
