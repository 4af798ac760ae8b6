"""What a study needs of its rows: types that fit, an outcome in the family's support, no nulls, at least two levels in every factor."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from multilevel.errors import DataError, StudyError
from multilevel.formula.columns import formula_columns
from multilevel.formula.tree import Call, Column, Expression, Operation
from tasks.cell_query_expressions import as_sql
from tasks.relation import first_line, quote
from tasks.study import Study

NUMERIC = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
)
SHOWN_ROWS = 3


@dataclass(frozen=True)
class Need:
    """A condition, true for a row that breaks it, and what to say then."""

    breaks: str
    message: str
    columns: tuple[str, ...]


def check_needs(connection: duckdb.DuckDBPyConnection, study: Study, study_sql: str) -> None:
    """Raise DataError for the first need that rows break, with their count and the first of them; StudyError where a type cannot fit."""
    types = {row[0]: row[1] for row in connection.sql(f"describe {study_sql}").fetchall()}
    needs = [*_present(study, types), *_outcome(study, types), *_precisions(study)]
    counts = ", ".join(f"count(*) filter (coalesce({need.breaks}, false))" for need in needs)
    factors = list(dict.fromkeys(name for group in study.parsed_formula.groups for name in group.columns))
    levels = ", ".join(f"min(cast({quote(name)} as varchar)) is distinct from max(cast({quote(name)} as varchar))" for name in factors)
    try:
        found = connection.sql(f"select count(*), {counts}, {levels} from ({study_sql}) as study").fetchall()[0]
    except duckdb.Error as error:
        raise DataError(f"{study.name}: the study's rows cannot be checked: {first_line(error)}") from error
    for need, count in zip(needs, found[1:], strict=False):
        if count:
            raise DataError(_broken(connection, study, study_sql, need, int(count)))
    for name, varied in zip(factors, found[1 + len(needs) :], strict=True):
        if not varied:
            only = connection.sql(f"select min(cast({quote(name)} as varchar)) from ({study_sql}) as study").fetchall()[0][0]
            raise DataError(
                f"{study.name}: the grouping factor {name} has one level only ({only!r}); it needs at least two. Drop its group term."
            )


def _present(study: Study, types: dict[str, str]) -> list[Need]:
    needs = []
    for name in formula_columns(study.parsed_formula):
        kind = types[name]
        broken = f"{quote(name)} is null"
        if kind in ("DOUBLE", "FLOAT"):
            broken = f"({quote(name)} is null or not isfinite({quote(name)}))"
        hint = f"say what to do with them under missing: ({name}: exclude or level), or exclude them by where"
        needs.append(Need(broken, f"{name} is null, NaN or infinite; {hint}", (name,)))
    return needs


def _outcome(study: Study, types: dict[str, str]) -> list[Need]:
    response = study.parsed_formula.response
    inner = response.expression.arguments[0] if study.is_lognormal and isinstance(response.expression, Call) else response.expression
    names = tuple(_names(response.expression) + (_names(response.trials) if response.trials else []))
    for name in names:
        boolean_outcome = types[name] == "BOOLEAN" and study.family == "binomial"
        if not types[name].startswith(NUMERIC) and not boolean_outcome:
            raise StudyError(
                f"{study.name}: formula: the outcome {name} is {types[name]}; family {study.family} needs a number"
                + (" or true and false" if study.family == "binomial" else "")
                + "."
            )
    y = f"cast({as_sql(inner, {})} as double)"
    needs = [Need(f"not isfinite({y})", "the outcome is not finite", names)]
    match study.family:
        case "gaussian" if study.is_lognormal:
            needs.append(Need(f"{y} <= 0", "log(y) needs an outcome above zero; exclude the rest by where, or use another family", names))
        case "gamma":
            needs.append(Need(f"{y} <= 0", "family gamma needs an outcome above zero", names))
        case "poisson" | "negative_binomial":
            needs.append(Need(f"{y} < 0 or {y} <> floor({y})", f"family {study.family} needs counts 0, 1, 2, ...", names))
        case "binomial" if response.trials is not None:
            trials = f"cast({as_sql(response.trials, {})} as double)"
            needs.append(
                Need(
                    f"{y} < 0 or {y} > {trials} or {y} <> floor({y}) or {trials} <> floor({trials})",
                    "p(successes, trials) needs whole numbers with 0 <= successes <= trials",
                    names,
                )
            )
        case "binomial":
            needs.append(Need(f"{y} not in (0, 1)", "family binomial needs 0 or 1, true or false, or p(successes, trials)", names))
        case _:
            pass
    return needs


def _precisions(study: Study) -> list[Need]:
    response = study.parsed_formula.response
    found = [("weights", response.weights), ("se", response.standard_error)]
    return [Need(f"{quote(name)} <= 0", f"{kind}({name}) must be above zero", (name,)) for kind, name in found if name is not None]


def _names(expression: Expression) -> list[str]:
    match expression:
        case Column(name=name):
            return [name]
        case Call(arguments=parts) | Operation(operands=parts):
            return [name for part in parts for name in _names(part)]
        case _:
            return []


def _broken(connection: duckdb.DuckDBPyConnection, study: Study, study_sql: str, need: Need, count: int) -> str:
    """At most five lines: what is wrong, how many rows, the first of them."""
    shown = list(dict.fromkeys([*need.columns, *formula_columns(study.parsed_formula)]))[:6]
    picks = ", ".join(quote(name) for name in shown)
    rows = connection.sql(f"select {picks} from ({study_sql}) as study where coalesce({need.breaks}, false) limit {SHOWN_ROWS}").fetchall()
    lines = ["  " + ", ".join(f"{name}={value}" for name, value in zip(shown, row, strict=True))[:200] for row in rows]
    plural = "rows break" if count > 1 else "row breaks"
    return "\n".join([f"{study.name}: {count:,} {plural} what the study needs: {need.message}. The first:", *lines])
