"""docs/ as the site generator reads it: the guide's pages run, all else as it is.

Run: ``python -m benchmarks.guide.build_pages [--prepared] [page ...]``, as ``make site`` does. Without pages, all of docs/
is written into ``PAGES``; with them, those alone are run again.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.guide.page_run import run_page
from benchmarks.guide.page_words import WORDS
from benchmarks.guide.shop_versions import ROOT, prepare

DOCS = ROOT / "docs"
PAGES = ROOT / ".groupwise" / "guide" / "pages"
FRESH = "<!-- folder: fresh -->"
"""On the first line of a page: its code runs in a folder that holds nothing else."""

OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)\)")
"""A link that climbs."""

ESCAPED = re.compile(r"^\|.*\\\|.*$", re.MULTILINE)
CODE = re.compile(r"`[^`\n]*`")
"""A row of a table with a vertical bar in code: GitHub wants it escaped, the generator does not."""


def main(arguments: Sequence[str]) -> None:
    """Write the pages. Raises PageError where a page's code fails."""
    names = [name for name in arguments if not name.startswith("--")]
    if "--prepared" not in arguments:
        prepare()
    if not names:
        shutil.rmtree(PAGES, ignore_errors=True)
        shutil.copytree(DOCS, PAGES, ignore=shutil.ignore_patterns("ruff.toml", "__pycache__"))
        (PAGES / "decisions" / "index.md").write_text(decisions(), encoding="utf-8")
    for source in [ROOT / name for name in names] or sorted(DOCS.rglob("*.md")):
        started = time.monotonic()
        page = source.relative_to(DOCS).as_posix()
        target = PAGES / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(made(page, source.read_text(encoding="utf-8")), encoding="utf-8")
        if is_guide(page):
            print(f"{page}: {time.monotonic() - started:.1f} s", flush=True)


def decisions() -> str:
    """A page that lists the decisions."""
    lines = ["# Decisions", "", "Choices that are hard to undo, and what else was considered.", ""]
    for page in sorted((DOCS / "decisions").glob("*.md")):
        title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        lines.append(f"- [{title}]({page.name})")
    return "\n".join(lines) + "\n"


def is_guide(page: str) -> bool:
    """Whether a page of docs/ is run."""
    return page.startswith("guide/") or page == "index.md"


def made(page: str, text: str) -> str:
    """A page as the generator reads it. Raises PageError."""
    if is_guide(page):
        text = run_page(page, text, WORDS, ROOT, fresh=text.startswith(FRESH))
    text = ESCAPED.sub(lambda row: CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), text)
    return OUTSIDE.sub(lambda link: inside(link, page), text)


def inside(link: re.Match[str], page: str) -> str:
    """The link, or, of a file outside docs/, its text and its path in the repository."""
    path = os.path.normpath((Path("/docs") / page).parent / link[2])
    if path.startswith("/docs/"):
        return link[0]
    name = path.removeprefix("/")
    return f"`{name}`" if link[1].strip("`") == name else f"{link[1]} (`{name}`)"


if __name__ == "__main__":
    main(sys.argv[1:])
