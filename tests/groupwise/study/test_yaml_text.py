"""YAML of users: plain values within bounds, or a message with the line and what to write."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.study.study_file import load_study
from groupwise.study.user_text import MOST_BYTES, show_value
from groupwise.study.yaml_text import DEEPEST, MOST_NODES, read_yaml
from multilevel.errors import StudyError


def test_values_that_a_study_needs_are_read() -> None:
    text = "a: [1, -2.5, 1.5e+3, true, null, text]\nb: {c: 2026-01-01}\n"
    assert read_yaml(text, "f") == {"a": [1, -2.5, 1500.0, True, None, "text"], "b": {"c": date(2026, 1, 1)}}
    assert read_yaml("\ufeffa: é", "f") == {"a": "é"}


def test_names_of_levels_that_yaml_would_change_stay_text() -> None:
    assert read_yaml("[NO, on, 12:30, 0012, 1_000, 0x1F, =]", "f") == ["NO", "on", "12:30", "0012", "1_000", "0x1F", "="]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: a is written twice .first in line 1."),
        ("{a: 1, a: 2}", "a is written twice"),
        ("a: &x 1", "line 1: &x is an anchor or an alias; write the value itself"),
        ("a: *x", r"\*x is an anchor or an alias"),
        ("<<: {a: 1}", "the name of a field is text, this is <<"),
        ("1: a", "write it in quotes"),
        ("? [a]\n: 1", "the name of a field is text"),
        ("a: !!int x", "the tag .* has no meaning here"),
        ("a: !!python/object/apply:os.system [ls]", "has no meaning here"),
        ("as_of: 2026-13-01", "line 1: '2026-13-01' looks like a number or a date but is none"),
        ("a: 2026-01-01 10:00:00+99:99", "looks like a number or a date"),
        ("a: .nan", "no finite number"),
        ("a: 1.0e+999", "no finite number"),
        ("a: " + "9" * 5_000, "more than 40 digits"),
        ("[" * 5_000, f"nested more than {DEEPEST} deep"),
        ("- " * 500 + "a", f"nested more than {DEEPEST} deep"),
        ("- a\n" * (MOST_NODES + 1), "more than 10,000 values"),
        ("a: " + "x" * MOST_BYTES, "longer than 256 KB"),
        ('a: "\\0"', "the character U[+]0000"),
        ('a: "\\ud800"', "the character U[+]D800"),
        ('a: "\\U00110000"', "not readable as YAML"),
        ("a: \x00", "the character U[+]0000 is not allowed"),
        ("a:\n\tb: 1", "line 2, column 1"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: 'x", "line 1, column 6"),
    ],
)
def test_what_is_refused_says_where_and_what_to_write(text: str, message: str) -> None:
    with pytest.raises(StudyError, match=f"^study.yaml: .*{message}"):
        read_yaml(text, "study.yaml")


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"%@`#?, \n\t0129.\\\x00\ud800\u2028"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_yaml(text, "f")
    except StudyError as error:
        assert str(error).startswith("f: ")


def test_a_value_is_cut_before_it_is_written() -> None:
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep, deep]
    assert len(show_value(deep)) < 500
    assert show_value("x" * 10**6).endswith("'...")
    assert show_value(10**100_000) == "a number of about 100,000 digits"
    assert show_value("s3://user:secret@bucket") == "'s3://***@bucket'"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "this file is empty"),
        (b"- a", "this file holds a list"),
        ("name: é".encode("utf-16"), "not UTF-8 text .byte 1"),
        (b"name: \xe9", "save it as UTF-8"),
        (b"#" * (MOST_BYTES + 1), "larger than 256 KB"),
        (b"as_of: 86400", "as_of: 86400: write a day such as 2026-01-01"),
        (b"seed: true", "seed: True: no field is true or false"),
        (b"family: [[[[gaussian]]]]", "the families are"),
    ],
)
def test_a_study_file_that_is_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "study.yaml"
    plain = (
        b""
        if b": " not in content or b"\xe9" in content or b"\xff" in content
        else b"name: a\nformula: y ~ (1 | g)\nsource: {parquet: x}\n"
    )
    file.write_bytes(plain + content)
    with pytest.raises(StudyError, match=message):
        load_study(file)


def test_a_folder_and_a_pipe_are_no_study_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StudyError, match="no regular file; name a study file"):
        load_study(tmp_path / "pipe")
    with pytest.raises(StudyError, match="a folder; name a study file"):
        load_study(tmp_path)


def test_settings_are_read_within_the_same_bounds(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("name: a\nformula: y ~ (1 | g)\nsource: {parquet: x}\n")
    for field, value, message in (
        ("family", "*a", "--set family: line 1: [*]a is an anchor"),
        ("seed", "9" * 5_000, "--set seed: .*more than 40 digits"),
        ("a." * 20 + "b", "1", "no field has more than 8 parts"),
        ("name.part", "1", "name is 'a', which has no parts"),
    ):
        with pytest.raises(StudyError, match=message):
            load_study(file, {field: value})
