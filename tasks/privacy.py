"""Privacy: distinct people behind every group, counted over the study's rows, since distinct counts do not add; then what is withheld."""

from __future__ import annotations

from typing import Any

from multilevel.tables.suppression import Level, Protection, all_withheld, suppress, without_names
from tasks.relation import connect, quote, rows_of
from tasks.run_folder import RunFolder
from tasks.study import Study


def protect(run: RunFolder) -> None:
    """Withhold the run's small groups from its tables and from what the report is written from; nothing without ``privacy``."""
    study = run.study()
    if study.privacy is None:
        return
    found = count(study, run)
    run.write_tables(suppress(run.read_tables(), found))
    hidden = all_withheld(found)
    names = {":".join(level) for levels in hidden.values() for level in levels} | {
        level[-1] for levels in hidden.values() for level in levels
    }
    run.write_json("report", _blotted(run.read_json("report"), names))


def count(study: Study, run: RunFolder) -> Protection:
    """Distinct values of the protected column behind every level of every factor, and every combination of ``cells``."""
    assert study.privacy is not None
    relation, rows = run.relation(), run.read_json("validation")["study_sql"]
    tables = run.read_tables()
    factors = sorted({str(name) for name in tables["group_coefficients"]["grouping_factor"].to_pylist()})
    columns = {name: tuple(name.split(":")) for name in factors}
    connection = connect(relation, run.path)
    try:

        def counts(keys: tuple[str, ...]) -> dict[Level, int]:
            picks = ", ".join(f"cast({quote(key)} as varchar) as key_{at}" for at, key in enumerate(keys))
            of = quote(study.privacy.of) if study.privacy else ""
            query = f"select {picks}, count(distinct {of}) as people from ({rows}) as study group by all"
            found = rows_of(connection, query, study.name, "privacy: the people behind each group cannot be counted")
            return {tuple(str(row[f"key_{at}"]) for at in range(len(keys))): int(row["people"]) for row in found}

        by_factor = {name: counts(keys) for name, keys in columns.items()}
        pair = None if study.cells is None else counts(study.cells)
    finally:
        connection.close()
    return Protection(study.privacy.of, study.privacy.k, columns, by_factor, pair, study.cells)


def _blotted(value: Any, names: set[str]) -> Any:
    if isinstance(value, str):
        return without_names(value, names)
    if isinstance(value, list):
        return [_blotted(item, names) for item in value]
    if isinstance(value, dict):
        return {key: _blotted(item, names) for key, item in value.items()}
    return value
