"""What the first line items say before the scan: how many different values, keys and units there may be in all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from groupwise.source.relation import quote
from groupwise.source.user_sql.statement import one_statement, run
from groupwise.validation.row_scan import RowScan, flag
from multilevel.cells.column_facts import DISCRETE

FIRST = 40_000
"""Line items that are looked at."""
ROUGHLY = 2.0
"""Times as many rows as DuckDB estimates, of a table or a file that it reads."""
LOOK = "memory.main.first_lines"


@dataclass(frozen=True)
class FirstLook:
    """The first line items of a window, as a table of the study's columns.

    is_all : whether there are no others. n_about : line items that the window has at most, as far as DuckDB estimates them.
    """

    connection: duckdb.DuckDBPyConnection
    n_rows: int
    is_all: bool
    n_about: float

    def distinct(self, names: Sequence[str]) -> dict[str, int]:
        """About how many different values each column has. In more line items the sketch counts as many or more."""
        return self._counts({name: f"approx_count_distinct({quote(name)})" for name in names})

    def different(self, keys: Sequence[str]) -> int:
        """How many different combinations there are; ``keys`` : SQL over ``study``."""
        return self._counts({"n": f"count(distinct hash({', '.join(keys)}))"})["n"] if keys else 1

    def expected(self, keys: Sequence[str]) -> float:
        """How many there may be in all line items: those of one half that the other has too tell how many neither has.

        From two samples of a population (Lincoln and Petersen, as in Seber 1982, chapter 3); as many as line items where the halves have
        none in common, as of line items that come sorted by what is counted.
        """
        if not keys:
            return 1.0
        first = f"rowid < {self.n_rows // 2}"
        own = f"hash({', '.join(keys)})"
        halves = {"all": "", "one": f" filter ({first})", "other": f" filter (not {first})"}
        found = self._counts({name: f"count(distinct {own}){which}" for name, which in halves.items()})
        if self.is_all:
            return float(found["all"])
        both = found["one"] + found["other"] - found["all"]
        return min(self.n_about, found["one"] * found["other"] / both if both else math.inf)

    def _counts(self, facts: Mapping[str, str]) -> dict[str, int]:
        if not facts:
            return {}
        row = self.connection.execute(f"select {', '.join(facts.values())} from {LOOK} as study").fetchone() or ()
        return dict(zip(facts, map(int, row), strict=True))


def is_discrete(count: int) -> bool:
    """Whether a predictor with about so many values among the first line items may have few values among all."""
    return count <= DISCRETE


def look_at_first(connection: duckdb.DuckDBPyConnection, scan: RowScan, columns: Sequence[str]) -> FirstLook:
    """Have the first line items looked at: those of them that are left, and these of their columns."""
    picks = ", ".join(quote(name) for name in dict.fromkeys(columns)) or "1 as one"
    kept = flag("is kept")
    first = f"select * from ({scan.flagged_sql()}) limit {FIRST}"
    run(connection, f"create or replace table {LOOK} as select {kept}, {picks} from ({first})")
    n_all = int((connection.execute(f"select count(*) from {LOOK}").fetchone() or (0,))[0])
    run(connection, f"create or replace table {LOOK} as select {picks} from {LOOK} where {kept}")
    n_left = int((connection.execute(f"select count(*) from {LOOK}").fetchone() or (0,))[0])
    return FirstLook(connection, n_left, n_all < FIRST, ROUGHLY * _about_rows(connection, scan.flagged_sql()))


def _about_rows(connection: duckdb.DuckDBPyConnection, sql: str) -> float:
    """The most rows that DuckDB expects in any part of a query; infinite where it does not say."""
    row = connection.execute(f"explain (format json) {one_statement(sql).query}").fetchone()
    operators = list(json.loads(row[1])) if row else []
    found = []
    while operators:
        operator = operators.pop()
        found.append(float(operator.get("extra_info", {}).get("Estimated Cardinality", "inf")))
        operators += operator.get("children", [])
    return max((one for one in found if one < math.inf), default=math.inf)
