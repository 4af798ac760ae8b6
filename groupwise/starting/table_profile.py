"""What is in a table: of each column how many values, levels and nulls, what nests in what, how many rows are there twice."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import duckdb

from groupwise.source.relation import quote
from groupwise.source.user_sql.statement import run
from groupwise.validation.suite import value_kind

EXACT_ROWS = 2_000_000
"""Rows up to which distinct values are counted; beyond, they are estimated to within a few per cent."""
MOST_FACTORS = 12
MOST_COLUMNS = 200
COLUMNS_AT_ONCE = 40
SHOWN = 40
ROW_NAMES = re.compile(r"row_?(names?|id|nr|num(ber)?)|index|unnamed.*|column1|x|_+", re.IGNORECASE)


@dataclass(frozen=True)
class ColumnProfile:
    """One column.

    n : values that are there; nulls : those that are not, NaN among them. levels : different values. smallest : rows of its rarest value,
    of columns that could group; 0 otherwise. low, high, middle, mean : of numbers. negatives, zeros, whole : of numbers. skew : of numbers.
    first, last : least and greatest value as text.
    """

    name: str
    type: str
    kind: str
    n: int
    nulls: int
    levels: int
    first: str = ""
    last: str = ""
    low: float = 0.0
    high: float = 0.0
    middle: float = 0.0
    mean: float = 0.0
    variance: float = 0.0
    skew: float = 0.0
    negatives: int = 0
    zeros: int = 0
    whole: bool = False
    smallest: int = 0

    @property
    def rows_a_level(self) -> float:
        """Rows of a level, on average."""
        return self.n / self.levels if self.levels else 0.0

    @property
    def is_id(self) -> bool:
        """Whether every row has a value of its own that says nothing else."""
        if self.n < 2 or self.kind in ("time", "boolean"):
            return False
        is_unique = self.levels >= self.n
        if self.kind == "number":
            is_run = self.whole and self.high - self.low + 1 <= 1.1 * self.n
            return is_unique and self.whole and (is_run or bool(ID_WORDS.search(self.name)) or bool(ROW_NAMES.fullmatch(self.name)))
        return self.levels >= 0.98 * self.n and self.n >= 10


ID_WORDS = re.compile(r"(^|[_\W])(id|key|code|nr|no|number|uuid|guid)$|[a-z](Id|ID)$", re.IGNORECASE)


@dataclass(frozen=True)
class TableProfile:
    """``columns`` by name; ``duplicates``: rows that are there once more; ``copies``: such rows that were left out before;
    ``nested``: inner column -> the outer ones that it is within;
    ``same``: pairs of columns that divide the rows alike; ``crossed``: pairs, and how many of their combinations there are."""

    rows: int
    columns: Mapping[str, ColumnProfile]
    duplicates: int = 0
    copies: int = 0
    nested: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    same: tuple[tuple[str, str], ...] = ()
    crossed: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The profile in sentences, a line for each column."""
        again = self.duplicates or self.copies
        found = [f"{self.rows + self.copies:,} rows" + (f", {again:,} of them the same as another row" if again else "")]
        return (
            found
            + [f"{column.name}: {_sentence(column)}" for column in self.columns.values()]
            + [f"{inner} is nested in {' and '.join(outer)}" for inner, outer in self.nested.items()]
        )


def profile(connection: duckdb.DuckDBPyConnection, sql: str, types: Mapping[str, str], *, duplicates: bool = True) -> TableProfile:
    """Profile the rows of a SELECT.

    Parameters
    ----------
    sql : the SELECT. types : name -> DuckDB type of its columns. duplicates : count rows that are there twice.

    Raises
    ------
    duckdb.Error : the rows cannot be read.
    """
    names = [name for name, kind in list(types.items())[:MOST_COLUMNS] if _is_plain(kind)]
    (rows,) = run(connection, f"select count(*) from ({sql})").fetchall()[0]
    columns = _columns(connection, sql, {name: types[name] for name in names}, exact=rows <= EXACT_ROWS)
    factors = [name for name, column in columns.items() if could_group(column)]
    smallest = {name: _smallest(connection, sql, name) for name in factors}
    columns = {name: replace(column, smallest=smallest.get(name, 0)) for name, column in columns.items()}
    nested, same, crossed = _pairs(connection, sql, sorted(factors, key=lambda name: columns[name].levels)[:MOST_FACTORS], columns)
    return TableProfile(rows, columns, _duplicates(connection, sql, names, rows) if duplicates and names else 0, 0, nested, same, crossed)


def could_group(column: ColumnProfile) -> bool:
    """Whether a column divides the rows into groups: at least two levels, and two rows in each on average."""
    if column.levels < 2 or column.rows_a_level < 2 or column.kind in ("time", "other"):
        return False
    return column.kind in ("text", "boolean") or column.whole


def _is_plain(kind: str) -> bool:
    return value_kind(kind) != "other" or kind in ("UUID", "TIME")


def _columns(connection: duckdb.DuckDBPyConnection, sql: str, types: Mapping[str, str], *, exact: bool) -> dict[str, ColumnProfile]:
    found = {}
    names = list(types)
    for start in range(0, len(names), COLUMNS_AT_ONCE):
        some = names[start : start + COLUMNS_AT_ONCE]
        facts = {name: _facts(name, types[name], exact=exact) for name in some}
        answer = iter(run(connection, f"select {', '.join(fact for own in facts.values() for fact in own)} from ({sql})").fetchall()[0])
        for name in some:
            found[name] = _column(name, types[name], [next(answer) for _ in facts[name]])
    return found


def _facts(name: str, kind: str, *, exact: bool) -> list[str]:
    own = quote(name)
    distinct = f"count(distinct {own})" if exact else f"approx_count_distinct({own})"
    facts = [f"count({own})", "count(*)", distinct, f"cast(min({own}) as varchar)", f"cast(max({own}) as varchar)"]
    if value_kind(kind) != "number":
        return facts
    value = f"cast({own} as double)"
    there = f"filter (where isfinite({value}))"
    facts[0], facts[2] = f"count({own}) {there}", f"{distinct} {there}"
    middle = f"median({value})" if exact else f"approx_quantile({value}, 0.5)"
    moments = [f"min({value})", f"max({value})", middle, f"avg({value})", f"var_samp({value})", f"skewness({value})"]
    counts = [f"count_if({value} < 0)", f"count_if({value} = 0)", f"bool_and({value} = floor({value}))"]
    return [*facts, *(f"{made} {there}" for made in (*moments, *counts))]


def _column(name: str, kind: str, answer: Sequence[Any]) -> ColumnProfile:
    n, total, levels, first, last, *numbers = answer
    column = ColumnProfile(
        name, kind, value_kind(kind), int(n), int(total - n), min(int(levels), int(n)), str(first)[:SHOWN], str(last)[:SHOWN]
    )
    if not numbers or not n:
        return column
    low, high, middle, mean, variance, skew, negatives, zeros, whole = numbers
    return replace(
        column, low=low, high=high, middle=middle, mean=mean, variance=variance or 0.0, skew=skew or 0.0, negatives=int(negatives),
        zeros=int(zeros), whole=bool(whole),
    )  # fmt: skip


def _smallest(connection: duckdb.DuckDBPyConnection, sql: str, name: str) -> int:
    own = quote(name)
    query = f"select min(n) from (select count(*) as n from ({sql}) where {own} is not null group by {own})"
    return int(run(connection, query).fetchall()[0][0] or 0)


def _pairs(
    connection: duckdb.DuckDBPyConnection, sql: str, names: Sequence[str], columns: Mapping[str, ColumnProfile]
) -> tuple[dict[str, tuple[str, ...]], tuple[tuple[str, str], ...], dict[tuple[str, str], int]]:
    pairs = list(combinations(names, 2))
    if not pairs:
        return {}, (), {}
    picks = [f"count(distinct ({quote(a)}, {quote(b)})) filter (where {quote(a)} is not null and {quote(b)} is not null)" for a, b in pairs]
    counts = run(connection, f"select {', '.join(picks)} from ({sql})").fetchall()[0]
    nested: dict[str, tuple[str, ...]] = {}
    same, crossed = [], {}
    for (outer, inner), n in zip(pairs, counts, strict=True):
        few, many = columns[outer].levels, columns[inner].levels
        if n == few == many:
            same.append((outer, inner))
        elif n == many and many > few:
            nested[inner] = (*nested.get(inner, ()), outer)
        else:
            crossed[outer, inner] = int(n)
    return nested, tuple(same), crossed


def _duplicates(connection: duckdb.DuckDBPyConnection, sql: str, names: Sequence[str], rows: int) -> int:
    distinct = f"select count(*) from (select distinct {', '.join(map(quote, names))} from ({sql}))"
    return rows - int(run(connection, distinct).fetchall()[0][0])


def _sentence(column: ColumnProfile) -> str:
    parts = []
    if column.kind == "number":
        parts.append(
            f"{'whole numbers' if column.whole else 'numbers'} from {column.low:,.6g} to {column.high:,.6g}, median {column.middle:,.6g}"
        )
        if column.negatives:
            parts.append(f"{column.negatives:,} below zero")
        if column.zeros:
            parts.append(f"{column.zeros:,} zero")
    elif column.kind == "time":
        parts.append(f"{'days' if column.type == 'DATE' else 'times'} from {column.first} to {column.last}")
    else:
        parts.append({"boolean": "true or false", "text": "text"}.get(column.kind, column.type.lower()))
    if column.is_id:
        parts.append("another value in every row")
    elif column.kind in ("text", "other") or column.smallest:
        smallest = f", the smallest with {column.smallest:,} row{'s' if column.smallest != 1 else ''}" if column.smallest else ""
        parts.append(f"{column.levels:,} level{'s' if column.levels != 1 else ''}{smallest}")
    if column.nulls:
        parts.append(f"{column.nulls:,} missing")
    return "; ".join(parts)
