"""A page of the guide is run from top to bottom: its code, its commands, and the numbers in its sentences.

A fenced block says after its language what is done with it:

- ``python run`` and ``sql run``: run, and shown with what it printed, or selected. ``sh run``: each line is a command; ``groupwise``
  and ``python`` are this checkout's. ``most=20`` shows that many lines of the output at most;
  with ``fails`` the command is refused, and the refusal is shown.
- ``yaml file=study.yaml``: written into the file of that name, and shown; any language.
- ``python hidden``: run, and not shown.
- ``math``: a formula, and on its last line, after ``said:``, how it is read aloud. In a sentence a formula is between dollar signs.
- nothing: shown. ``NOT_RUN`` names the languages for which that is allowed.

Code that is shown sees only code that is shown, so a reader can type it; hidden code and sentences also see ``words``, the helpers of this
package. A sentence has values in double braces, ``{{ money(spend) }}``, as Jinja evaluates them; one that has no value is an error.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from benchmarks.guide.shop_versions import ROOT
from benchmarks.guide.wording import formula, math

FENCE = re.compile(r"^```(?P<language>\w+)(?P<does>[^\n`]*)\n(?P<code>.*?)^```$\n?", re.MULTILINE | re.DOTALL)
NOT_RUN = frozenset({"r", "text", "mermaid", "dbt"})
"""Languages whose blocks are shown as they are: there is no R here, and text is no code."""

FORMULA = re.compile(r"(?<![\\\w`])\$(?=\S)([^$\n`]+?)(?<=\S)\$(?!\w)")

PER_CENT = re.compile(r"`[^`\n]*`|(\d) %")
"""A number and its sign, which no line divides; what is between backquotes is for typing."""

SENTENCES = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)


class PageError(Exception):
    """Something on a page cannot be run; the message names the page and the line."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what is done with it, its code, and the line that it begins at."""

    language: str
    does: str
    code: str
    line: int

    def option(self, name: str) -> str | None:
        """The value of ``name=value`` after the language."""
        found = re.search(rf"\b{name}=(\S+)", self.does)
        return found[1] if found else None


@dataclass
class PageRun:
    """The state of a page while it is run.

    ``page``: for messages. ``words``: what hidden code and sentences may use. ``folder``: where code and commands run.
    """

    page: str
    words: Mapping[str, object]
    folder: Path
    shown: dict[str, object] = field(default_factory=lambda: {"__name__": "__main__"})
    hidden: dict[str, object] = field(default_factory=dict)

    def run(self, text: str) -> str:
        """The page as Markdown with outputs and numbers. Raises PageError."""
        made = []
        for part in parts_of(text):
            line = part.line if isinstance(part, Block) else 0
            try:
                made.append(self._block(part) if isinstance(part, Block) else self._sentences(part))
            except PageError:
                raise
            except Exception as error:
                where = f"{self.page}, line {line}" if line else f"{self.page}, {str(part).strip()[:60]!r}"
                raise PageError(f"{where}: {type(error).__name__}: {error}") from error
        return "".join(made)

    def _sentences(self, text: str) -> str:
        text = FORMULA.sub(lambda found: math(found[1]), text)
        if "{{" in text or "{%" in text:
            text = SENTENCES.from_string(text).render({**self.words, **self.hidden, **self.shown})
        return PER_CENT.sub(lambda found: found[0].replace(" ", "\u00a0") if found[1] else found[0], text)

    def _block(self, block: Block) -> str:
        does = block.does.split()
        if block.language == "python" and "hidden" in does:
            return self._hidden(block.code)
        if block.language == "math":
            latex, _, said = block.code.partition("said:")
            return formula(latex.strip(), said=said.strip())
        fence = f"```{block.language}\n{block.code}```\n"
        name = block.option("file")
        if name is not None:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.code, encoding="utf-8")
            return f'``` {{ .{block.language} title="{name}" }}\n{block.code}```\n'
        if "run" not in does:
            if block.language not in NOT_RUN:
                raise PageError(f"{self.page}, line {block.line}: a block of {block.language} must be run, hidden, or a file")
            return fence
        printed = cut(self._printed(block).replace(f"{self.folder}/", ""), block.option("most"))
        return f"{fence}\n``` {{ .text .output }}\n{printed}\n```\n" if printed else fence

    def _hidden(self, code: str) -> str:
        space = {**self.words, **self.hidden, **self.shown}
        with working_in(self.folder):
            exec(compile(code, self.page, "exec"), space)
        self.hidden = space
        return ""

    def _printed(self, block: Block) -> str:
        with working_in(self.folder):
            if block.language == "python":
                written = io.StringIO()
                with contextlib.redirect_stdout(written):
                    exec(compile(block.code, self.page, "exec"), self.shown)
                return written.getvalue().rstrip()
            if block.language == "sql":
                return selected(block.code)
            if block.language == "sh":
                fails = "fails" in block.does.split()
                return "\n".join(command_output(line, fails=fails) for line in commands_of(block.code)).rstrip()
        raise PageError(f"{self.page}, line {block.line}: nothing runs {block.language}")


def run_page(page: str, text: str, words: Mapping[str, object], root: Path, *, fresh: bool = False) -> str:
    """Run a page in the repository's folder, or in a fresh one that holds nothing else. Raises PageError."""
    if not fresh:
        return PageRun(page, words, root).run(text)
    with tempfile.TemporaryDirectory(prefix="groupwise-guide-") as folder:
        return PageRun(page, words, Path(folder)).run(text)


def parts_of(text: str) -> Iterator[Block | str]:
    """Blocks and the sentences between them, in order."""
    end = 0
    for found in FENCE.finditer(text):
        if found.start() > end:
            yield text[end : found.start()]
        yield Block(found["language"], found["does"].strip(), found["code"], text.count("\n", 0, found.start()) + 1)
        end = found.end()
    if end < len(text):
        yield text[end:]


def commands_of(code: str) -> list[str]:
    """One command a line, comments left out; a backslash at the end continues it."""
    lines = code.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def command_output(line: str, *, fails: bool = False) -> str:
    """What a command writes to standard output, or, where it is to fail, what it says. Raises PageError where it does otherwise."""
    words = shlex.split(line, comments=True)
    ours = {"groupwise": [sys.executable, "-m", "groupwise"], "python": [sys.executable]}
    command = [*ours.get(words[0], words[:1]), *words[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if bool(done.returncode) != fails:
        raise PageError(f"{line}: exit {done.returncode}: {done.stderr.strip()[-600:]}")
    if fails:
        return textwrap.fill(done.stderr.strip(), 100)
    return re.sub(r"[ \t]+$", "", done.stdout, flags=re.MULTILINE).strip("\n")


def selected(query: str) -> str:
    """The rows of a query as DuckDB prints them, over files in the present folder."""
    import duckdb

    with duckdb.connect() as connection:
        return str(connection.sql(query)).rstrip()


def cut(text: str, most: str | None) -> str:
    """The first lines of an output, and how many more there are."""
    lines = text.splitlines()
    if most is None or len(lines) <= int(most):
        return text
    return "\n".join([*lines[: int(most)], f"... {len(lines) - int(most)} more lines"])


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """The process's working folder, for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
