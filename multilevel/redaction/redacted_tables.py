"""The published tables without the groups that ``privacy: {of, k}`` suppresses (``complementary_suppression.py`` says which those are).

A level inside a suppressed one is suppressed; a factor of the protected column itself is suppressed whole.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from multilevel.catalogue.published_tables import TABLES
from multilevel.redaction.complementary_suppression import Level, Margin, given_away, suppressed

GROUP_TABLES = ("group_coefficients", "group_estimates")
HIDDEN = "(withheld)"


@dataclass(frozen=True)
class Protection:
    """What was counted: ``of`` and ``k`` of the study; per table of levels its columns and, per level (their values), distinct ``of``.

    columns, counts : by factor, and ``CELLS`` for the study's ``cells``. A factor that lies inside another in these data has that one's
    columns before its own. own : how many of a factor's columns, the last ones, make its label.
    """

    of: str
    k: int
    columns: Mapping[str, tuple[str, ...]]
    counts: Mapping[str, Mapping[Level, int]]
    own: Mapping[str, int]

    def labels(self, name: str, levels: Collection[Level]) -> set[str]:
        """Full labels of a factor's levels, as ``outer:inner``."""
        return {":".join(level[-self.own[name] :]) for level in levels}


CELLS = "(cells)"


def all_suppressed(protection: Protection) -> dict[str, frozenset[Level]]:
    """Per factor, and for the combinations, what is not published; coarse ones first, as what lies inside a suppressed level is suppressed.

    Where that does not suffice, as all of a total but one small level is published elsewhere, the total is suppressed too.
    """
    order = sorted(protection.columns, key=lambda factor: (len(protection.columns[factor]), factor == CELLS))
    forced: dict[str, set[Level]] = {name: set() for name in order}
    while True:
        found: dict[str, frozenset[Level]] = {}
        for name in order:
            if protection.of in protection.columns[name]:
                found[name] = frozenset(protection.counts[name])
                continue
            counts, margins = protection.counts[name], _margins(protection, name, found)
            beyond = {level for level in counts if any(margin.total(level) is None for margin in margins.values())}
            found[name] = suppressed(counts, protection.k, [*margins.values()], beyond | forced[name])
            more = _totals_to_suppress(protection, name, found[name], margins)
            if more is not None:
                forced[more[0]].add(more[1])
                break
        else:
            return found


def _margins(protection: Protection, name: str, found: Mapping[str, frozenset[Level]]) -> dict[str, Margin]:
    """The tables before this one that it adds up to, by name."""
    columns = protection.columns[name]
    inside = {other: protection.columns[other] for other in found if set(protection.columns[other]) <= set(columns)}
    return {other: Margin(tuple(columns.index(column) for column in keys), found[other]) for other, keys in inside.items()}


def _totals_to_suppress(
    protection: Protection, name: str, hidden: frozenset[Level], margins: Mapping[str, Margin]
) -> tuple[str, Level] | None:
    """The smallest published total that a level below k is part of and given away by; None where none is given away."""
    counts = protection.counts[name]
    for level in sorted(given_away(counts, protection.k, hidden, [*margins.values()])):
        parts = [(other, margin.total(level)) for other, margin in margins.items()]
        published = [(protection.counts[other][total], other, total) for other, total in parts if total is not None]
        if published:
            _, other, total = min(published)
            return other, total
    return None


def names_of(protection: Protection, hidden: Mapping[str, Collection[Level]]) -> set[str]:
    """Every way in which a suppressed level may be called in a message: its own label and its full one; combinations have no name."""
    names: set[str] = set()
    for name, levels in hidden.items():
        if name != CELLS:
            names |= protection.labels(name, levels) | {level[-1] for level in levels}
    return names


def suppress(tables: Mapping[str, pa.Table], protection: Protection) -> dict[str, pa.Table]:
    """The tables without what is suppressed; ``diagnostics`` tells how many levels that were, and names none of them."""
    hidden = all_suppressed(protection)
    found = dict(tables)
    for name in GROUP_TABLES:
        found[name] = _without_levels(tables[name], protection, hidden)
    found["cell_estimates"] = _without_pairs(tables["cell_estimates"], protection, hidden)
    numbers = {f"withheld_groups[{'cells' if name == CELLS else name}]": len(levels) for name, levels in hidden.items()}
    found["diagnostics"] = _told(tables["diagnostics"], numbers, names_of(protection, hidden))
    return found


def is_suppressed(protection: Protection, hidden: Mapping[str, Collection[Level]]) -> Mapping[str, frozenset[str]]:
    """Per factor the full labels that are suppressed, as the tables write them (``parent:level`` where there is a parent)."""
    return {name: frozenset(protection.labels(name, levels)) for name, levels in hidden.items() if name != CELLS}


def _without_levels(table: pa.Table, protection: Protection, hidden: Mapping[str, frozenset[Level]]) -> pa.Table:
    labels = is_suppressed(protection, hidden)
    rows = zip(*(table[column].to_pylist() for column in ("grouping_factor", "level", "parent_level", "is_new")), strict=True)
    keep = []
    for factor, level, parent, is_new in rows:
        outer = factor.rpartition(":")[0]
        is_hidden = protection.of in protection.columns[factor] or (parent is not None and parent in labels.get(outer, ()))
        if not is_new:
            is_hidden = is_hidden or (level if parent is None or not outer else f"{parent}:{level}") in labels[factor]
        keep.append(not is_hidden)
    gone = table.filter(pa.array([not each for each in keep], pa.bool_()))
    return _without_comparisons(table.filter(pa.array(keep, pa.bool_())), gone)


def _without_comparisons(kept: pa.Table, gone: pa.Table) -> pa.Table:
    """``group_estimates`` without what places a level beside those that are ``gone``: the mean of all levels less the published ones would
    give their mean, and a rank that nobody has tells between whom they stand."""
    if "rank_in_parent" not in kept.column_names:
        return kept
    factors = set(gone["grouping_factor"].to_pylist())
    parents = set(zip(gone["grouping_factor"].to_pylist(), gone["parent_level"].to_pylist(), strict=True))
    own = list(zip(kept["grouping_factor"].to_pylist(), kept["parent_level"].to_pylist(), strict=True))
    told = {"probability_above_average": [name in factors for name, _ in own]}
    told |= {column: [each in parents for each in own] for column in ("rank_in_parent", "rank_in_parent_lower", "rank_in_parent_upper")}
    for column, is_hidden in told.items():
        at = kept.schema.get_field_index(column)
        values = pc.if_else(pa.array(is_hidden, pa.bool_()), pa.scalar(None, pa.float64()), kept[column])
        kept = kept.set_column(at, kept.schema.field(at), values)
    return kept


def _without_pairs(table: pa.Table, protection: Protection, hidden: Mapping[str, frozenset[Level]]) -> pa.Table:
    """Without suppressed combinations, and without those of a suppressed level that were never seen."""
    if CELLS not in hidden or protection.of in protection.columns[CELLS]:
        return table.slice(0, 0) if CELLS in hidden else table
    sides: list[set[str]] = [
        {level[0] for name, levels in hidden.items() if protection.columns[name] == (column,) for level in levels}
        for column in protection.columns[CELLS]
    ]
    first, second = (table[column].to_pylist() for column in ("customer_group", "product_group"))
    keep = [(a, b) not in hidden[CELLS] and a not in sides[0] and b not in sides[1] for a, b in zip(first, second, strict=True)]
    return table.filter(pa.array(keep, pa.bool_()))


def report_without(report: Mapping[str, Any], protection: Protection) -> dict[str, Any]:
    """What the report is written from, without the points of suppressed levels and the picture of all cells; names are redacted."""
    hidden = all_suppressed(protection)
    labels = is_suppressed(protection, hidden)
    lines = [_line_without(line, labels[line["grouping_factor"]]) for line in report.get("group_level_lines") or ()]
    kept = {**report, "group_level_lines": [line for line in lines if line is not None], "predictive": None}
    names = names_of(protection, hidden)
    text = str(kept)
    return {key: _redacted(value, {name for name in names if name in text}) for key, value in kept.items()}


def _line_without(line: Mapping[str, Any], labels: Collection[str]) -> dict[str, Any] | None:
    """A group-level predictor's line with the published levels' points, drawn as far as those reach; None where fewer than two are left."""
    named = zip(line["levels"], line["parents"], strict=True)
    keep = [level not in labels and f"{parent}:{level}" not in labels for level, parent in named]
    if sum(keep) < 2:
        return None
    points = ("levels", "parents", "n", "x", "estimate", "lower", "upper")
    kept = {name: [value for value, is_kept in zip(line[name], keep, strict=True) if is_kept] for name in points}
    inside = [min(kept["x"]) <= x <= max(kept["x"]) for x in line["line"]["x"]]
    ribbon = {name: [value for value, is_inside in zip(values, inside, strict=True) if is_inside] for name, values in line["line"].items()}
    return {**line, **kept, "line": ribbon}


def _redacted(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, str):
        return without_names(value, names)
    if isinstance(value, list):
        return [_redacted(item, names) for item in value]
    if isinstance(value, dict):
        return {key: _redacted(item, names) for key, item in value.items()}
    return value


def _told(table: pa.Table, numbers: Mapping[str, int], names: Collection[str]) -> pa.Table:
    text = "\n".join(str(message) for message in table["message"].to_pylist())
    present = {name for name in names if name in text}
    rows = [row | {"message": without_names(row["message"] or "", present)} for row in table.to_pylist()]
    like = rows[0]
    message = "levels that are not published because too few people stand behind them, or behind another that they would give away"
    for check, number in numbers.items():
        rows.append(like | {"check": check, "value": float(number), "threshold": None, "passed": True, "message": message})
    told = pa.Table.from_pylist(rows, schema=table.schema)
    return told.take(pc.sort_indices(told, sort_keys=[(key, "ascending") for key in TABLES["diagnostics"].sort_key]))


def without_names(text: str, names: Collection[str]) -> str:
    """The text with every suppressed level's name redacted, longest first; a number only where messages name levels, not as a figure."""
    for name in sorted(names, key=len, reverse=True):
        exact = re.escape(name)
        is_number = re.fullmatch(r"[-+\d.,]*", name) is not None
        pattern = rf"(?:(?<=\[)|(?<=, )|(?<=within )){exact}(?=[,:\]]| and \d+ more)" if is_number else rf"(?<!\w){exact}(?!\w)"
        text = re.sub(pattern, HIDDEN, text)
    return text
