"""A regular expression of a suite finds the same rows in DuckDB and in pandas, or is refused."""

from __future__ import annotations

import duckdb
import pytest

from groupwise.validation.regex import UnclearRegexError, python_regex

TEXTS = [
    "", "a", "ab", "abc", "abc\n", "\n", "a\nb", "3", "\u0663", "é", "a\u00a0b", "a b", "a]b", "]", "[", "^", "$", "a$", "ß", "K", "\u212a",
    "_", "\t", "\x0b", "\x1c", "a.b", "1 Mon", "GROC / X", "GROC / X\n", "a\\b", "-",
]  # fmt: skip


REGEXES = [
    "c$", r"^\d$", r"^\w+$", r"\s", r"[^\s]", r"\D", r"\W", r"\S", r"[\d\w]", "a.b", r"a\.b", "^$", "(?i)k", r"\bb\b", r"\Bb", "(?i:ß)",
    "[]a]", "[^]a]", "[$]", r"\$", r"a|b$", r"\Aa", r"a\z", "^.+ / .+$", "^[1-7] [A-Z][a-z]{2}$", r"\\", "[a-c-]", "(?:a|b)b",
]  # fmt: skip


@pytest.mark.parametrize("regex", REGEXES)
def test_both_find_the_same_texts(regex: str) -> None:
    with duckdb.connect() as connection:
        query = "select t, regexp_matches(t, $regex) as found from (select unnest($texts) as t)"
        rows = connection.sql(query, params={"texts": TEXTS, "regex": regex}).df()
    assert rows["t"].astype(str).str.contains(python_regex(regex), regex=True).tolist() == rows["found"].tolist()


@pytest.mark.parametrize(
    "regex", [r"\p{L}", "[[:alpha:]]", "(?s)a.b", "(?m)^a", "(?U)a+", r"(a)\1", r"[\D]", r"\Qa\E", r"\x41", "a**", "("]
)
def test_what_they_read_differently_is_refused(regex: str) -> None:
    with pytest.raises(UnclearRegexError):
        python_regex(regex)


def test_the_plain_translation_would_not_do() -> None:
    """The reason for it: pandas alone finds other rows than DuckDB does."""
    with duckdb.connect() as connection:
        rows = connection.sql("select t, regexp_matches(t, 'c$') as found from (select unnest($texts) as t)", params={"texts": TEXTS}).df()
    assert rows["t"].astype(str).str.contains("c$", regex=True).tolist() != rows["found"].tolist()
