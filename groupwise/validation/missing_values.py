"""Missing values, as the study says for each column: exclude the row, make a level of them, or fill in the mean beside an indicator."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from groupwise.source.conditions import is_missing
from groupwise.source.relation import literal, quote, rows_of
from groupwise.study.study import Study
from groupwise.validation.suite import value_kind
from multilevel.cells.level_order import LevelOrder
from multilevel.errors import DataError, StudyError
from multilevel.formula.columns import columns_in, grouping_columns, predictor_expressions
from multilevel.formula.tree import Call

MISSING_LEVEL = "(missing)"


def label_columns(study: Study) -> frozenset[str]:
    """Columns whose values become labels, whatever their type: those that group, those inside ``C()``, those made a level of."""
    formula = study.parsed_formula
    coded = [
        name for part in predictor_expressions(formula) if isinstance(part, Call) and part.function == "C" for name in columns_in(part)
    ]
    made = [name for name, rule in study.missing.items() if rule == "level"]
    return frozenset([*grouping_columns(formula), *(study.cells or ()), *coded, *made])


def level_orders(study: Study) -> dict[str, LevelOrder]:
    """Orders of categorical predictors: the study's ``levels``; the level of missing values comes last, so that it is no reference."""
    made = [name for name, rule in study.missing.items() if rule == "level"]
    orders = {name: LevelOrder(last=(MISSING_LEVEL,)) for name in made}
    for name, listed in study.levels.items():
        if name not in study.coded_columns:
            continue  # groups are estimated the same in any order; theirs is for readers
        last = (MISSING_LEVEL,) if name in made and MISSING_LEVEL not in listed else ()
        orders[name] = LevelOrder(first=listed, last=last)
    return orders


def excluded(study: Study, types: Mapping[str, str]) -> str:
    """Predicate: the row lacks a value of a column whose rule is ``exclude``."""
    parts = [is_missing(name, types[name]) for name, rule in study.missing.items() if rule == "exclude"]
    return " or ".join(parts) or "false"


def study_types(study: Study, types: Mapping[str, str]) -> dict[str, str]:
    """Columns of the study's rows and their types: ``level`` makes text, ``mean_and_indicator`` a double and ``<column>_missing``."""
    found = dict(types)
    for name, rule in study.missing.items():
        if rule == "level":
            found[name] = "VARCHAR"
        elif rule == "mean_and_indicator":
            if value_kind(types[name]) != "number":
                raise StudyError(
                    f"{study.name}: missing: {name}: mean_and_indicator is for numbers, {name} is {types[name]}; write level or exclude."
                )
            found |= {name: "DOUBLE", f"{name}_missing": "INTEGER"}
    return found


def study_columns(study: Study, types: Mapping[str, str], means: Mapping[str, float]) -> str:
    """The select list of the study's rows: every column of the line items, with missing values replaced as the study says."""
    parts = []
    labelled = label_columns(study)
    for name, kind in types.items():
        own, absent = quote(name), is_missing(name, kind)
        # -0.0 equals 0.0 but is another text: which of the two named a level would depend on the order of rows
        value = f"{own} + cast(0 as {kind})" if name in labelled and kind in ("DOUBLE", "FLOAT") else own
        match study.missing.get(name):
            case "level":
                parts.append(f"case when {absent} then {literal(MISSING_LEVEL)} else cast({value} as varchar) end as {own}")
            case "mean_and_indicator":
                parts.append(f"case when {absent} then cast({means[name]!r} as double) else cast({own} as double) end as {own}")
                parts.append(f"cast({absent} as integer) as {quote(name + '_missing')}")
            case _:
                parts.append(own if value == own else f"{value} as {own}")
    return ", ".join(parts)


def level_counts(study: Study, types: Mapping[str, str]) -> dict[str, str]:
    """Aggregates over line items: how many meet each of ``level_conditions``."""
    return {name: f"count_if({condition})" for name, condition in level_conditions(study, types).items()}


def level_conditions(study: Study, types: Mapping[str, str]) -> dict[str, str]:
    """Conditions on line items, per column that ``missing: level`` makes text of: it has no value, it has the text of the level."""
    names = [name for name, rule in study.missing.items() if rule == "level" and value_kind(types[name]) not in ("number", "boolean")]
    picks = {}
    for name in names:
        absent = is_missing(name, types[name])
        picks[f"absent {name}"] = f"({absent})"
        picks[f"said {name}"] = f"(not {absent} and cast({quote(name)} as varchar) = {literal(MISSING_LEVEL)})"
    return picks


def counted_levels(connection: duckdb.DuckDBPyConnection, study: Study, kept: str, types: Mapping[str, str]) -> dict[str, int]:
    """``level_counts`` of the rows of the SELECT ``kept``."""
    picks = level_counts(study, types)
    if not picks:
        return {}
    listed = ", ".join(f"{sql} as {quote(name)}" for name, sql in picks.items())
    found = rows_of(connection, f"select {listed} from ({kept})", study.name, "missing: the levels cannot be counted")[0]
    return {name: int(count) for name, count in found.items()}


def refuse_literal_level(study: Study, counts: Mapping[str, int]) -> None:
    """DataError where rows hold the text ``(missing)`` beside missing values that would become it; ``counts`` : of ``level_counts``."""
    for name in study.missing:
        n_absent, n_said = counts.get(f"absent {name}", 0), counts.get(f"said {name}", 0)
        if n_absent and n_said:
            raise DataError(
                f"{study.name}: missing: {name}: level makes {n_absent:,} rows without a value the level {MISSING_LEVEL}, but {n_said:,} "
                f"rows hold that very text: the two would be one level. Rename the text in line_items, or write exclude."
            )


def column_means(connection: duckdb.DuckDBPyConnection, study: Study, kept: str, types: Mapping[str, str]) -> dict[str, float]:
    """Means over the rows of the SELECT ``kept``, of the columns that are to be filled in; DataError where there is no value at all."""
    names = [name for name, rule in study.missing.items() if rule == "mean_and_indicator"]
    if not names:
        return {}
    picks = ", ".join(f"avg(cast({quote(name)} as double)) filter (not {is_missing(name, types[name])}) as {quote(name)}" for name in names)
    found = rows_of(connection, f"select {picks} from ({kept})", study.name, "missing: the means cannot be calculated")[0]
    absent = [name for name in names if found[name] is None]
    if absent:
        raise DataError(f"{study.name}: missing: {absent[0]}: mean_and_indicator needs at least one value, the column has none.")
    return {name: float(found[name]) for name in names}
