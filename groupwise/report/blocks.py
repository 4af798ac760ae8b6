"""What the page is made of: sections with paragraphs, facts, figures and tables."""

from __future__ import annotations

from dataclasses import dataclass

from groupwise.report.charts import Figure


@dataclass(frozen=True)
class Cell:
    """A cell of a short table: what is read, and what is sorted by (None: the text)."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of a short table; ``flag`` is a CSS class."""

    cells: tuple[Cell, ...]
    flag: str = ""


@dataclass(frozen=True)
class ShortTable:
    """A table written into the page whole."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        return tuple(any(row.cells[i].value is not None for row in self.rows) for i in range(len(self.columns)))


@dataclass(frozen=True)
class LongColumn:
    """A column of a long table: the dataset's key, its heading, how its values are written."""

    key: str
    title: str
    format: str


@dataclass(frozen=True)
class LongTable:
    """A table whose rows the page makes from an embedded dataset, so that ten thousand cost nothing until they are asked for."""

    title: str
    dataset: str
    kind: str
    columns: tuple[LongColumn, ...]


@dataclass(frozen=True)
class Fact:
    """One key figure."""

    name: str
    value: str


@dataclass(frozen=True)
class Finding:
    """A paragraph of the answer: what it is about, what was found, and points of which each stands for itself."""

    head: str
    text: str
    points: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A section of the page; what it has nothing of is empty."""

    id: str
    title: str
    paragraphs: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    figures: tuple[Figure, ...] = ()
    big_tables: tuple[LongTable, ...] = ()
    tables: tuple[ShortTable, ...] = ()
    mathematics: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
