"""The words of the house: one term for one thing, module names that say what a file does, references that lead somewhere."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("flows", "tasks", "groupwise", "multilevel", "sql", "expectations", "benchmarks")
PAGES = sorted(
    file
    for place in (*ROOMS, "tests", "docs", "studies")
    for file in (ROOT / place).rglob("*")
    if file.suffix in {".py", ".md", ".j2", ".js", ".sql", ".yaml"} and file != Path(__file__) and "__pycache__" not in file.parts
)
PAGES += [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "prefect.yaml")]

REPLACED = {
    "saved model": r"\bkept (model|joint|coefficient)s?\b|\bKeptModel\b",
    "lock": r"\btakes? turns\b|\b(its|their) turn\b",
    "clean-up": r"\bsweep(s|ing)?\b|\bswept\b",
    "suppressed, redacted": r"\bblotted\b|\bwithholds?\b|(?<!\()\bwithheld\b(?!\)|_groups)",
    "attachments": r"\bBeside\b(?=[(:.])|\bNOTHING_BESIDE\b",
    "above which": r"\bfrom which on\b",
    "quarantined": r"\b(put|puts|set) (them |rows )?aside\b",
    "within": r"\b(lies|lie|lying|lay) in\b",
}
"""What each of the project's terms is used for, and other words for it that would be a second name."""

LONGEST = 400


@cache
def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize("term", REPLACED)
def test_one_thing_has_one_name(term: str) -> None:
    pattern = re.compile(REPLACED[term])
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for file in PAGES
        for number, line in enumerate(text_of(file).splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"write {term!r}"


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("saved model", "the kept model of a version"),
        ("lock", "Runs take turns."),
        ("clean-up", "what the sweep removes"),
        ("suppressed, redacted", "a group that is withheld"),
        ("attachments", "beside=Beside(report)"),
        ("quarantined", "Rows were put aside."),
        ("within", "shops lie in regions"),
    ],
)
def test_another_name_is_found(term: str, text: str) -> None:
    assert re.search(REPLACED[term], text)


def modules() -> list[Path]:
    return [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py")) if not file.name.startswith("__")]


def test_no_two_modules_have_the_same_name() -> None:
    counts = Counter(file.name for file in modules())
    assert not [name for name, count in counts.items() if count > 1]


def test_a_long_module_says_why_on_its_first_line() -> None:
    for file in modules():
        lines = file.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= LONGEST or " since " in lines[0], file


def test_references_to_sections_name_their_page() -> None:
    """A section of a book has an author; a section of ours has the page that it is in."""
    for file in PAGES:
        assert not re.search(r"\bdesign section\b", text_of(file)), file
        for page, section in re.findall(r"(docs/[\w/-]+\.md), section (\d+)", text_of(file)):
            assert re.search(rf"^## {section}\. ", text_of(ROOT / page), re.MULTILINE), (file, page, section)
