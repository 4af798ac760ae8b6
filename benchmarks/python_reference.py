"""docs/python-reference.md, generated from the docstrings of what ``import groupwise as gw`` offers, and the examples' session."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import groupwise as gw

PAGE = Path(__file__).parents[1] / "docs" / "python-reference.md"
FUNCTIONS = ("fit", "open", "run")
CLASSES = ("Estimates", "Fit", "Published", "Study")
SESSION = ("fit", "Estimates", "Fit", "run", "open", "Published", "Study")
"""The order in which the examples follow one another: each uses what those before have made."""

_OPENING = """# Python reference

Generated from the docstrings by `make docs`; a test fails when they disagree with this page, and runs every example as one session,
with lme4's `sleepstudy` as a data frame and in `sleep.parquet`. [python.md](python.md) is the introduction, [tables.md](tables.md)
describes the tables' columns.
"""
_SECTIONS = re.compile(r"^(?P<name>[A-Z][a-z]+)\n-+\n", re.MULTILINE)


def members(kind: type) -> list[tuple[str, Any]]:
    """Public methods and properties that a class itself adds, in the order of its text. A study's fields are left out."""
    homes = [base for base in kind.__mro__ if base is kind or base.__name__ == "StudyObject"]
    own = {name: value for home in homes for name, value in vars(home).items()}
    fields = set(getattr(kind, "model_fields", ())) | {"model_config", "parsed_formula"}
    kinds = (property, classmethod, staticmethod)
    return [
        (name, value)
        for name, value in own.items()
        if not name.startswith("_") and name not in fields and (callable(value) or isinstance(value, kinds) or hasattr(value, "func"))
    ]


def documented(value: Any) -> str:
    """The docstring, its margin removed."""
    inner = getattr(value, "__func__", None) or getattr(value, "fget", None) or getattr(value, "func", None) or value
    return inspect.cleandoc(inner.__doc__ or "")


def signature(name: str, value: Any) -> str:
    """A call as it is written; a property's name alone."""
    inner = getattr(value, "__func__", value)
    if not callable(inner):
        return name
    found = inspect.signature(inspect.unwrap(inner))
    kept = [each.replace(annotation=each.empty) for key, each in found.parameters.items() if key not in ("self", "cls")]
    return f"{name}{found.replace(parameters=kept, return_annotation=found.empty)}"


def examples() -> Iterator[tuple[str, str]]:
    """Name and docstring of everything that may have examples, in the order of the session."""
    for name in SESSION:
        value = getattr(gw, name)
        yield name, documented(value)
        yield from ((f"{name}.{member}", documented(own)) for member, own in (members(value) if inspect.isclass(value) else ()))


def run_examples(scope: dict[str, Any]) -> doctest.TestResults:
    """Every example in one session, in the working directory."""
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    parser = doctest.DocTestParser()
    for name, text in examples():
        test = parser.get_doctest(text, {}, name, None, None)
        test.globs = scope  # each goes on with what those before have made
        runner.run(test, clear_globs=False)
    return runner.summarize(verbose=False)


def reference() -> str:
    """The page."""
    parts = [_OPENING, "## Functions\n"]
    parts += [_entry(f"gw.{signature(name, getattr(gw, name))}", documented(getattr(gw, name)), 3) for name in FUNCTIONS]
    parts.append("## Classes\n")
    for name in CLASSES:
        kind = getattr(gw, name)
        parts.append(_entry(f"gw.{name}", documented(kind), 3))
        parts += [_entry(signature(member, value), documented(value), 4) for member, value in members(kind)]
    rows = [f"| `gw.{name}` | {documented(getattr(gw, name))} |" for name in gw.__all__ if name not in (*FUNCTIONS, *CLASSES)]
    parts.append("## Errors and warnings\n\n| | |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _entry(title: str, text: str, level: int) -> str:
    return f"{'#' * level} `{title}`\n\n{_markdown(text)}\n"


def _markdown(text: str) -> str:
    """A docstring's sections as Markdown: names in bold, parameters as a list, examples as code."""
    pieces = _SECTIONS.split(text)
    found = [pieces[0].strip().replace("``", "`")]
    for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
        inside = f"```pycon\n{body.rstrip()}\n```" if name == "Examples" else _items(body.replace("``", "`"))
        found.append(f"**{name}**\n\n{inside}")
    return "\n\n".join(found)


def _items(body: str) -> str:
    """``name : type`` and the indented lines below it as an item each."""
    lines = []
    for line in body.splitlines():
        if line.startswith(" "):
            lines[-1] += " " + line.strip()
        elif line:
            head, separator, kind = line.partition(" : ")
            lines.append(f"- `{head}`" + (f" ({kind}):" if separator else ":"))
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
