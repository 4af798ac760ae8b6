"""docs/python-reference.md says what the docstrings say; they have numpydoc's sections, and their examples run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import groupwise as gw
from benchmarks.python_reference import CLASSES, FUNCTIONS, PAGE, documented, members, reference, run_examples


def public() -> Iterator[tuple[str, Any]]:
    """Every function, class, method and property."""
    for name in (*FUNCTIONS, *CLASSES):
        yield name, getattr(gw, name)
    for name in CLASSES:
        yield from ((f"{name}.{member}", value) for member, value in members(getattr(gw, name)))


CALLS = {name: value for name, value in public() if callable(getattr(value, "__func__", value)) and not inspect.isclass(value)}


def sections(text: str) -> dict[str, str]:
    """A docstring's sections by name."""
    pieces = re.split(r"^([A-Z][a-z]+)\n-+\n", text, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def test_the_page_says_what_the_docstrings_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: make docs"


def test_every_public_name_has_a_sentence() -> None:
    assert len(CALLS) > 12
    for name, value in (*public(), *((name, getattr(gw, name)) for name in gw.__all__)):
        first = documented(value).split("\n\n", maxsplit=1)[0]
        assert first.endswith((".", ":")), name


@pytest.mark.parametrize("name", CALLS)
def test_a_call_says_what_it_takes_and_gives(name: str) -> None:
    call = CALLS[name]
    found = sections(documented(call))
    taken = inspect.signature(inspect.unwrap(getattr(call, "__func__", call))).parameters
    named = {
        part.strip("* ") for line in re.findall(r"^(\S.*?)(?: :|$)", found.get("Parameters", ""), re.MULTILINE) for part in line.split(",")
    }
    assert named == {each for each in taken if each not in ("self", "cls")}
    assert "Returns" in found
    if name.partition(".")[0] != "Estimates":
        assert "Raises" in found


@pytest.mark.operations
def test_the_examples_run(sleepstudy: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sleepstudy.to_parquet("sleep.parquet")
    results = run_examples({"sleepstudy": sleepstudy})
    assert results.attempted > 15
    assert results.failed == 0
