"""Tables and lines in a terminal, the same for every command."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from groupwise.printable import printable, printable_lines

PIPED_WIDTH = 200
"""Columns where the output is no terminal: nothing is cut in a file."""


class PlainConsole(Console):
    """A console on which the text of a user's data cannot act: its escape sequences and invisible characters are written out."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The renderable's segments; those that rich itself uses to steer the terminal stay as they are."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable_lines(segment.text))


def console() -> Console:
    """A console on standard output that leaves numbers and names (``dept:cat:`` is no picture of a cat) as they are."""
    return PlainConsole(highlight=False, emoji=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def text_console(file: TextIO) -> Console:
    """A console that writes plain text, nothing cut."""
    return PlainConsole(file=file, highlight=False, emoji=False, width=PIPED_WIDTH, force_terminal=False, no_color=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None, text: Sequence[str] = ()) -> Table:
    """A table of plain text: a term such as ``size[L]`` is no markup. ``text``: the columns that are aligned to the left."""
    made = Table(
        title=None if title is None else Text(printable(title), style="table.title"),
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in columns:
        made.add_column(Text(printable(name)), justify="left" if name in text else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made
