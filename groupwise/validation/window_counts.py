"""The fingerprint of a window and everything that ``validate`` counts of it, from one scan: where nothing else has to be known before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb

from groupwise.compression.column_scan import ValueCounts, numeric_predictors, schema_of_types
from groupwise.compression.sql_expressions import TABLE
from groupwise.source.fingerprint import Fingerprint, fingerprint, fingerprint_of, fingerprinted, hash_select, packed_hash
from groupwise.source.relation import Relation, quote, rows_of
from groupwise.study.study import Study
from groupwise.validation.missing_values import level_counts
from groupwise.validation.row_scan import FLAGS, Counts, RowScan, flag, select_list
from groupwise.validation.suite import load_rules
from groupwise.whole_files import write_whole
from multilevel.families.registry import is_linear

COUNTS = "counts.json"
HASH = f"{FLAGS}hash"
ABOUT = "about "
"""Begins the names of counts of a numeric predictor's different values."""


class NotedCounts:
    """What ``count_window`` has noted."""

    def __init__(self, path: Path) -> None:
        self._content = json.loads(path.read_text(encoding="utf-8"))

    def counts(self) -> Counts:
        """As a scan counts them."""
        content: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in self._content["counts"].items()
        }
        return Counts(**content)

    def values(self) -> ValueCounts:
        """Rows that are left, and about how many different values each numeric predictor has that could join the key."""
        scattered = self._content.get("scattered")
        found = None if scattered is None else frozenset(scattered)
        return ValueCounts(self._content["counts"]["left"], dict(self._content["distinct"]), found)

    def means(self) -> dict[str, float]:
        """Of columns that are filled in, where there are such."""
        return dict(self._content.get("means", {}))

    def noted(self, name: str) -> Any:
        """What else is noted under this name; None where nothing is."""
        return self._content.get(name)

    def write_quarantine(self, scan: RowScan, connection: duckdb.DuckDBPyConnection, folder: Path) -> Path:
        """Write the quarantined rows, from a scan of their own."""
        return scan.write_quarantine(connection, folder)


def noted_counts(folder: Path) -> NotedCounts | None:
    """What is noted in a run's folder; None where ``validate`` has to count."""
    path = folder / COUNTS
    return NotedCounts(path) if path.exists() else None


def count_window(connection: duckdb.DuckDBPyConnection, study: Study, relation: Relation, names: Sequence[str], path: Path) -> Fingerprint:
    """The fingerprint of the line items in the window; what else the scan counts is noted in ``path``.

    Rules that compare line items, means that fill in and texts that ``missing: level`` must not meet take scans of their own: then the
    fingerprint alone is taken, and ``path`` is not written.
    """
    scan = countable(study, relation)
    if scan is None:
        path.unlink(missing_ok=True)
        return fingerprint(connection, relation, names)
    kept = flag("is kept")
    about = {f"{ABOUT}{name}": f"approx_count_distinct({TABLE}.{quote(name)}) filter ({kept})" for name in predictors_to_count(scan)}
    own = packed_hash(fingerprinted(names, relation.columns))
    sums = select_list(scan.sums() | scan.variations() | about)
    query = f"select {hash_select(quote(HASH))}, {sums} from ({scan.flagged_sql(f', {own} as {quote(HASH)}')}) as {TABLE}"
    row = rows_of(connection, query, study.name, "the line items cannot be checked")[0]
    counts = scan.counts({name: value for name, value in row.items() if not name.startswith(ABOUT)})
    distinct = {name.removeprefix(ABOUT): int(row[name]) for name in about}
    note_counts(path, counts, distinct)
    return fingerprint_of(row)


def countable(study: Study, relation: Relation) -> RowScan | None:
    """The scan that counts a window; None where other scans have to come before."""
    rules = load_rules(study, relation.columns)
    fills = any(rule == "mean_and_indicator" for rule in study.missing.values())
    if fills or any(rule.is_unique for rule in rules) or level_counts(study, relation.columns):
        return None
    return RowScan(study, relation, rules, {})


def note_counts(path: Path, counts: Counts, distinct: Mapping[str, int], **more: object) -> None:
    """Write what ``noted_counts`` reads; ``more`` : what else is noted of the scan."""
    write_whole(path, json.dumps({"counts": asdict(counts), "distinct": dict(distinct), **more}))


def predictors_to_count(scan: RowScan) -> list[str]:
    """Numeric predictors whose number of different values decides whether they join the key."""
    formula = scan.study.parsed_formula
    return numeric_predictors(formula, schema_of_types(scan.study_types, {})) if is_linear(scan.study.family) else []
