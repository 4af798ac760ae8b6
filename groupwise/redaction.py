"""Privacy: distinct people behind every group, counted over the study's rows, since distinct counts do not add; then what is suppressed.

Applied to a run's tables as soon as they are made, before anything is published or written for the report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import permutations

import pyarrow as pa

from groupwise.run_folder import RunFolder
from groupwise.source.conditions import is_missing
from groupwise.source.relation import connect, quote, rows_of
from groupwise.source.time_limit import close
from groupwise.study.study import Study
from groupwise.validation.missing_values import study_types
from multilevel.errors import DataError
from multilevel.redaction.complementary_suppression import Level
from multilevel.redaction.redacted_tables import CELLS, Protection, report_without, suppress

type Counts = dict[tuple[str, ...], dict[Level, int]]

CODED = re.compile(r"(?:^|:)([^:\[\]()]+)\[")
"""The column of a dummy in a term: ``size[L]`` or ``x:size[L]``."""


def protect(run: RunFolder) -> None:
    """Withhold the run's small groups from its tables and from what the report is written from; nothing without ``privacy``.

    Raises DataError where a predictor's category has fewer than k people behind it: its coefficient would be theirs.
    """
    study = run.study()
    if study.privacy is None:
        return
    tables = run.read_tables()
    found = count(study, run, tables)
    run.write_tables(suppress(tables, found))
    run.write_json("report", report_without(run.read_json("report"), found))


def count(study: Study, run: RunFolder, tables: Mapping[str, pa.Table]) -> Protection:
    """Distinct values of the protected column behind every level of every factor, and every combination of ``cells``; one query."""
    assert study.privacy is not None
    of, k = study.privacy.of, study.privacy.k
    own = {str(name): tuple(str(name).split(":")) for name in tables["group_coefficients"]["grouping_factor"].unique().to_pylist()}
    wanted = {name: columns for name, columns in own.items() if of not in columns}
    if study.cells is not None and of not in study.cells:
        wanted[CELLS] = study.cells
    pairs = {
        (outer, inner): _union(wanted[outer], wanted[inner]) for outer, inner in permutations(wanted, 2) if CELLS not in (outer, inner)
    }
    coded = _coded_columns(tables)
    counts = _counted(study, run, {*wanted.values(), *pairs.values(), *((column,) for column in coded)})
    _check_categories(study, {column: counts[(column,)] for column in coded})
    columns = {name: _nested(name, wanted, pairs, counts) for name in wanted}
    by_table = {name: counts[keys] for name, keys in columns.items()}
    if study.cells is not None and of in study.cells:
        columns[CELLS], by_table[CELLS] = study.cells, {}
    for name in own.keys() - wanted.keys():
        columns[name], by_table[name] = own[name], _levels_of(tables["group_coefficients"], name)
    return Protection(of, k, columns, by_table, {name: len(own.get(name, study.cells or ())) for name in columns})


def _union(outer: tuple[str, ...], inner: tuple[str, ...]) -> tuple[str, ...]:
    return (*(column for column in outer if column not in inner), *inner)


def _nested(
    name: str, wanted: Mapping[str, tuple[str, ...]], pairs: Mapping[tuple[str, str], tuple[str, ...]], counts: Counts
) -> tuple[str, ...]:
    """A factor's columns, after those of the widest factor that it lies inside in these data, though the formula does not say."""
    own = wanted[name]
    outer = [keys for (_, inner), keys in pairs.items() if inner == name and len(keys) > len(own) and len(counts[keys]) == len(counts[own])]
    return max(outer, key=len, default=own)


def _counted(study: Study, run: RunFolder, sets: set[tuple[str, ...]]) -> Counts:
    """Distinct people by every set of columns."""
    assert study.privacy is not None
    ordered = sorted(sets)
    columns = sorted({column for keys in ordered for column in keys})
    quoted = ", ".join(quote(column) for column in columns)
    picks = ", ".join(f"cast({quote(column)} as varchar) as key_{at}" for at, column in enumerate(columns))
    grouping = ", ".join(f"({', '.join(quote(column) for column in keys)})" for keys in ordered)
    relation, of = run.relation(), study.privacy.of
    # neither a null nor a NaN is a person
    people = f"count(distinct {quote(of)}) filter (not {is_missing(of, study_types(study, relation.columns)[of])})"
    query = (
        f"select {picks}, grouping({quoted}) as which, {people} as people "
        f"from ({run.read_json('validation')['study_sql']}) as study group by grouping sets ({grouping})"
    )
    by_mask = {_mask(keys, columns): keys for keys in ordered}
    places = {keys: [f"key_{columns.index(column)}" for column in keys] for keys in ordered}
    found: Counts = {keys: {} for keys in ordered}
    connection = connect(relation, run.path)
    try:
        for row in rows_of(connection, query, study.name, "privacy: the people behind each group cannot be counted"):
            keys = by_mask[int(row["which"])]
            found[keys][tuple(str(row[place]) for place in places[keys])] = int(row["people"])
    finally:
        close(connection)
    # one set twice in another order of its columns has one mask
    for keys in ordered:
        twin = by_mask[_mask(keys, columns)]
        if twin != keys:
            found[keys] = {tuple(level[twin.index(column)] for column in keys): people for level, people in found[twin].items()}
    return found


def _mask(keys: tuple[str, ...], columns: list[str]) -> int:
    """What ``grouping(columns)`` says of a set: a bit for every column that is not in it, the first column's the highest."""
    return sum(1 << (len(columns) - 1 - at) for at, column in enumerate(columns) if column not in keys)


def _levels_of(table: pa.Table, factor: str) -> dict[Level, int]:
    rows = zip(*(table[column].to_pylist() for column in ("grouping_factor", "parent_level", "level", "is_new")), strict=True)
    own = {(parent, level) for name, parent, level, is_new in rows if name == factor and not is_new}
    return {(*(() if parent is None else (parent,)), str(level)): 1 for parent, level in own}


def _coded_columns(tables: Mapping[str, pa.Table]) -> list[str]:
    terms = {str(term) for name in ("population_coefficients", "group_coefficients") for term in tables[name]["term"].unique().to_pylist()}
    return sorted({column for term in terms for column in CODED.findall(term)})


def _check_categories(study: Study, counts: Mapping[str, Mapping[Level, int]]) -> None:
    assert study.privacy is not None
    for column, levels in counts.items():
        for (level,), people in sorted(levels.items()):
            if people < study.privacy.k:
                raise DataError(
                    f"{study.name}: privacy: the predictor {column} has a category {level!r} with {people} distinct {study.privacy.of}, "
                    f"fewer than {study.privacy.k}, so that a published coefficient would be theirs. Merge it with another category in the "
                    "line items, or leave it out with `where`."
                )
