"""What a source is once it can be queried: one SELECT, and what its reader must know."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from groupwise.source.text_files.column_text import Texts

FILE_COLUMN = "groupwise: file"
"""Column of Parquet sources that says which file a row is from, where a study keeps statistics; none of the line items' own."""


@dataclass(frozen=True)
class ColumnUse:
    """What the study does with columns.

    texts : names and expressions in which the study names columns, and the query. labels : those whose text becomes a label. cast : those
    of ``types``. by_file : whether ``FILE_COLUMN`` is wanted.
    """

    texts: Sequence[str]
    labels: Collection[str]
    cast: Collection[str]
    by_file: bool = False

    def names(self, column: str) -> bool:
        """Whether the study names the column anywhere (an expression may do so without meaning it: then it counts as named)."""
        word = re.compile(rf"(?<!\w){re.escape(column)}(?!\w)", re.IGNORECASE)
        return any(word.search(text) for text in self.texts)


@dataclass(frozen=True)
class CsvText:
    """How a CSV file is written: ``texts`` of its columns, ``delimiter`` between its values."""

    texts: Texts
    delimiter: str


@dataclass(frozen=True)
class SourceTable:
    """``sql``: one SELECT over the whole source; ``notes``: sentences on what was read how; ``hints``: column -> what to write, where
    its text could be more than text; ``folders``: columns that only the folders' names have, where those are not read; ``text``: how a CSV
    file is written."""

    sql: str
    notes: tuple[str, ...] = ()
    hints: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    text: CsvText | None = None
