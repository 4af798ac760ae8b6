"""The guide's sources: every page opens and ends as it should, is short, is in the navigation, and uses no term before it is defined."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.guide.build_pages import decisions
from benchmarks.guide.page_run import FENCE, NOT_RUN

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide"
PAGES = sorted(GUIDE.glob("*.md"))
WORDS_A_MINUTE, MINUTES = 200, 12
LONGEST_LINE = 90
"""Of code that is shown: a page of the site has room for it."""


class Config(yaml.SafeLoader):
    """mkdocs.yml without what its tags would import."""


Config.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


@cache
def navigation() -> list[str]:
    def files(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [file for each in (entry.values() if isinstance(entry, dict) else entry) for file in files(each)]

    return files(yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Config)["nav"])


@cache
def prose(page: Path) -> str:
    """The sentences of a page: no code, no values, no addresses of links, no titles, promises and pointers to other pages."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    text = re.sub(r'<div class="(able|next)".*?</div>|^#[^\n]*', " ", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\{\{.*?\}\}|<[^>]+>|`[^`\n]*`", " ", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", text)


def numbered() -> list[Path]:
    """Pages 1 to 10, in their order."""
    pages = [GUIDE / Path(file).name for file in navigation() if file.startswith("guide/")]
    return [page for page in pages if re.search(r"^# \d+ ", page.read_text(encoding="utf-8"), re.MULTILINE)]


def test_the_guide_has_ten_pages_in_their_order() -> None:
    titles = [re.search(r"^# (\d+) ", page.read_text(encoding="utf-8"), re.MULTILINE) for page in numbered()]
    assert [int(title[1]) for title in titles if title] == list(range(1, 11))


def test_the_navigation_has_every_page_once() -> None:
    """Of decisions it has the list, which the build writes."""
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "decisions"}
    assert len(navigation()) == len(set(navigation()))
    assert set(navigation()) == pages | {"decisions/index.md"}


def test_the_list_of_decisions_has_them_all() -> None:
    names = [page.name for page in (ROOT / "docs" / "decisions").glob("*.md")]
    assert all(f"]({name})" in decisions() for name in names) and len(names) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_opens_with_what_the_reader_will_be_able_to_do_and_ends_with_where_to_go(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    opening = re.search(r'^# .+\n\n<div class="able" markdown>\nAfter this page you will ', text, re.MULTILINE)
    assert opening, "the title, then <div class=able> with: After this page you will be able to ..."
    ending = text.rstrip().rsplit("\n\n", 1)[-1]
    assert ending.startswith('<div class="next" markdown>\n**Where to go next.** ') and "](" in ending


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_takes_less_than_twelve_minutes(page: Path) -> None:
    assert len(prose(page).split()) / WORDS_A_MINUTE < MINUTES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_figure_and_picture_has_an_alternative_text(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    hidden = "".join(block["code"] for block in FENCE.finditer(text) if "hidden" in block["does"])
    figures = hidden.count("= figure(")
    assert figures == len(re.findall(r"^    alt=", hidden, re.MULTILINE)) == len(re.findall(r"^    caption=", hidden, re.MULTILINE))
    assert not re.search(r"!\[\]\(|<img(?![^>]*alt=)", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_run_or_is_no_code_of_ours(page: Path) -> None:
    for block in FENCE.finditer(page.read_text(encoding="utf-8")):
        language, does = block["language"], block["does"].split()
        assert language in {*NOT_RUN, "math"} or {"run", "hidden"} & set(does) or block["does"].strip().startswith("file="), block[0][:80]
        if language == "math":
            assert "\nsaid: " in block["code"], block[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_shown_code_fits_on_the_page(page: Path) -> None:
    shown = [
        block["code"]
        for block in FENCE.finditer(page.read_text(encoding="utf-8"))
        if "hidden" not in block["does"] and block["language"] != "math"
    ]
    assert not [line for code in shown for line in code.splitlines() if len(line) > LONGEST_LINE]


@cache
def glossary() -> dict[str, str]:
    """Term, as its heading has it -> the first page that it names."""
    found = re.findall(r"^### (.+)\n(?:.*\n)*?.*?\]\(([\w-]+)\.md\)", (GUIDE / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    return dict(found)


def test_the_glossary_is_in_the_order_of_the_alphabet_and_complete() -> None:
    terms = [term.lower() for term in glossary()]
    assert terms == sorted(terms) and len(terms) > 40
    headings = re.findall(r"^### (.+)$", (GUIDE / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == list(glossary()), "an entry names the page that defines it"


@pytest.mark.parametrize("term", glossary())
def test_a_term_is_defined_in_bold_on_its_page(term: str) -> None:
    word = term.split(" (", maxsplit=1)[0]
    assert re.search(rf"\*\*`?{word}s?(es|ed)?\b", (GUIDE / f"{glossary()[term]}.md").read_text(encoding="utf-8"), re.IGNORECASE)


@pytest.mark.parametrize("term", [term for term in glossary() if "(" not in term])
def test_no_term_is_used_before_it_is_defined(term: str) -> None:
    """A term in parentheses in the glossary, such as level (of a factor), is an everyday word too."""
    word = re.compile(rf"(?<![\w-]){term.replace(' ', chr(92) + 's')}s?(?![\w-])", re.IGNORECASE)
    home = GUIDE / f"{glossary()[term]}.md"
    for page in numbered():
        text = prose(page)
        if page == home:
            definition = re.search(rf"\*\*{term}", text, re.IGNORECASE)
            assert definition is not None
            earlier = word.search(text[: definition.start()])
            assert earlier is None, text[max(0, earlier.start() - 60) : earlier.end() + 20]
            return
        found = word.search(text)
        assert found is None, (page.name, text[max(0, found.start() - 60) : found.end() + 20])


def test_bold_terms_of_the_guide_are_in_the_glossary() -> None:
    """Bold lower-case words inside a sentence are definitions; those that begin one are headings of a paragraph."""
    known = {term.split(" (")[0].lower() for term in glossary()}
    known |= {f"{term}s" for term in known} | {"publishes"}
    for page in numbered():
        for bold in re.findall(r"(?<=[a-z,:] )\*\*([a-z][a-z -]+)\*\*", prose(page)):
            assert bold in known, (page.name, bold)


def test_ten_questions_have_ten_answers_that_name_pages() -> None:
    text = (GUIDE / "ten-questions.md").read_text(encoding="utf-8")
    questions = re.split(r"^### \d+\. ", text, flags=re.MULTILINE)[1:]
    assert len(questions) == 10
    assert all('??? success "Answer"' in question and re.search(r"\[[Pp]age \d+\]\(", question) for question in questions)
