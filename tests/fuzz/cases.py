"""Try many texts of one kind in this process, within limits of time and memory, and write down how they ended.

Run as a program: ``cases.py formulas|studies|conditions CASES SEED FIGURES.json``; see ``make fuzz``.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import mutate

from groupwise.compression.cell_query import compile_cells
from groupwise.source.conditions import check_type, row_condition
from groupwise.study.study_file import load_study
from multilevel.cells.cell_plan import plan_cells
from multilevel.cells.column_facts import Schema
from multilevel.errors import GroupwiseError
from multilevel.formula.columns import formula_columns, predictor_expressions, standardised
from multilevel.formula.labels import expression_label
from multilevel.formula.parse import parse_formula

MEMORY_BYTES = 6 * 1024**3
"""Address space; DuckDB reserves far more than it uses."""

SECONDS = 2.0
"""Of processor time for one case."""

MOST_COMPILED = 60
"""Terms up to which an accepted formula is compiled too: the query grows with their square."""

ROWS = "select 1.5::decimal(10, 2) as amount, false as is_fuel, timestamp '2024-03-02' as ts, 'GROCERY' as department, 3 as n"
COLUMNS = ("amount", "is_fuel", "ts", "department", "n")

type Try = Callable[[Any], None]


class TooSlowError(Exception):
    """A case took longer than ``SECONDS``."""


@dataclass
class Outcomes:
    """How the cases of one kind ended; ``not_ours`` keeps the first twenty that ended in another exception, or too late."""

    tried: int = 0
    refused: int = 0
    accepted: int = 0
    n_not_ours: int = 0
    slowest_seconds: float = 0.0
    slowest: str = ""
    not_ours: list[str] = field(default_factory=list)

    def count(self, case: Any, attempt: Try) -> None:
        """Try one case."""
        self.tried += 1
        start = time.process_time()
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
            attempt(case)
            self.accepted += 1
        except GroupwiseError:
            self.refused += 1
        except Exception as error:  # noqa: BLE001  whatever else comes out is what is looked for
            self.n_not_ours += 1
            self.not_ours = [*self.not_ours, f"{type(error).__name__}: {str(error)[:200]} for {str(case)[:300]!r}"][:20]
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        seconds = time.process_time() - start
        if seconds > self.slowest_seconds:
            self.slowest_seconds, self.slowest = seconds, str(case)[:200]


def try_formula(text: str) -> None:
    """Parse; what is accepted compiles to exactly one SELECT for columns that are all numbers."""
    formula = parse_formula(text)
    n_terms = len(formula.population) + sum(len(group.terms) for group in formula.groups)
    if n_terms > MOST_COMPILED:
        return
    inner = [e for part in (*predictor_expressions(formula), *formula.offsets) for e in standardised(part)]
    names = formula_columns(formula)
    schema = Schema(
        dict.fromkeys(names, "number"),
        distinct=dict.fromkeys(names, 1_000),
        moments={expression_label(e): (0.0, 1.0) for e in inner},
        n_rows=10_000,
    )
    family = "binomial" if formula.response.trials is not None else "gaussian"
    statements = duckdb.extract_statements(compile_cells(plan_cells(formula, schema, family), schema, "select * from t").sql)
    assert [statement.type for statement in statements] == [duckdb.StatementType.SELECT]


def try_study(case: tuple[Path, bytes, tuple[str, str] | None]) -> None:
    """Write the file and load it, one in four with an override."""
    file, content, setting = case
    file.write_bytes(content)
    load_study(file, None if setting is None else dict([setting])).model_dump_json()


def try_condition(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """What is accepted is one expression, and runs where no file can be reached."""
    condition = row_condition(text, COLUMNS, study="fuzz")
    check_type(connection, ROWS, condition, study="fuzz")
    query = f"select ({condition}) from ({ROWS}) as t"
    assert [statement.type for statement in duckdb.extract_statements(query)] == [duckdb.StatementType.SELECT]
    # a value that does not fit is the run's to refuse
    with suppress(duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.InvalidInputException):
        connection.sql(query).fetchall()


def cases_of(kind: str, random: Random, folder: Path) -> tuple[Iterator[Any], Try]:
    """Cases without end, and how one is tried."""
    if kind == "formulas":
        return mutate.formulas(random), try_formula
    if kind == "studies":
        file = folder / "study.yaml"
        return (
            (file, content, mutate.settings(random) if random.random() < 0.25 else None) for content in mutate.study_files(random)
        ), try_study
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("set enable_external_access = false")
    return mutate.conditions(random), lambda text: try_condition(connection, text)


def main(kind: str, n_cases: int, seed: int, figures: Path) -> None:
    """Try the cases and write the figures."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGVTALRM, _too_slow)
    found = Outcomes()
    with tempfile.TemporaryDirectory() as folder:
        cases, attempt = cases_of(kind, Random(seed), Path(folder))
        for case in islice(cases, n_cases):
            found.count(case, attempt)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kept = vars(found) | {"kind": kind, "seed": seed, "memory_mb": memory, "not_ours": found.n_not_ours, "examples": found.not_ours}
    figures.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def _too_slow(number: int, frame: object) -> None:
    raise TooSlowError(f"more than {SECONDS:g} s")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
