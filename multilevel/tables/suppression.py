"""Groups of too few people are not published, nor what would give them away: the rule of ``privacy: {of, k}``.

A level is withheld if fewer than k distinct values of the protected column stand behind it. Wherever withheld levels could be found by
subtraction (a total less what is published), those withheld together must hold k themselves, so the smallest published level goes too. A
level inside a withheld one is withheld; a factor of the protected column itself is withheld whole (complementary suppression: Willenborg
and de Waal 2001, chapter 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import pyarrow as pa
import pyarrow.compute as pc

from multilevel.tables.catalogue import TABLES

type Level = tuple[str, ...]

GROUP_TABLES = ("group_coefficients", "group_estimates")
HIDDEN = "(withheld)"


@dataclass(frozen=True)
class Protection:
    """What was counted: ``of`` and ``k`` of the study; per factor its columns and, per level (their values), distinct values of ``of``.

    pair : the same of the study's ``cells``, None without.
    """

    of: str
    k: int
    columns: Mapping[str, tuple[str, ...]]
    counts: Mapping[str, Mapping[Level, int]]
    pair: Mapping[Level, int] | None = None
    pair_columns: tuple[str, str] | None = None


def withheld(counts: Mapping[Level, int], k: int, beyond: Iterable[Level] = ()) -> frozenset[Level]:
    """Levels not to be published: those below ``k``, those in ``beyond``, and what keeps either from being found by subtraction."""
    hidden = {level for level, count in counts.items() if count < k} | (set(beyond) & set(counts))
    scopes = [scope for scope in _scopes(counts) if len(scope) > 1]
    changed = bool(hidden)
    while changed:
        changed = False
        for scope in scopes:
            inside = [level for level in scope if level in hidden]
            if inside and max(counts[level] for level in inside) < k:
                rest = [level for level in scope if level not in hidden]
                if rest:
                    hidden.add(min(rest, key=lambda level: (counts[level], level)))
                    changed = True
    return frozenset(hidden)


def _scopes(counts: Mapping[Level, int]) -> list[list[Level]]:
    """Sets of levels whose sum is published or can be: all of them, and those that share any part of their label."""
    levels = sorted(counts)
    found = [levels]
    width = len(levels[0]) if levels else 0
    for size in range(1, width):
        for places in combinations(range(width), size):
            groups: dict[Level, list[Level]] = {}
            for level in levels:
                groups.setdefault(tuple(level[place] for place in places), []).append(level)
            found += groups.values()
    return found


def all_withheld(protection: Protection) -> dict[str, frozenset[Level]]:
    """Per factor the levels that are not published, coarse factors first: what lies inside a withheld level is withheld too."""
    found: dict[str, frozenset[Level]] = {}
    for name in sorted(protection.columns, key=lambda factor: len(protection.columns[factor])):
        columns, counts = protection.columns[name], protection.counts[name]
        if protection.of in columns:
            found[name] = frozenset(counts)
            continue
        beyond = {
            level for level in counts for other, hidden in found.items() if _inside(level, columns, protection.columns[other], hidden)
        }
        found[name] = withheld(counts, protection.k, beyond)
    return found


def _inside(level: Level, columns: tuple[str, ...], outer: tuple[str, ...], hidden: frozenset[Level]) -> bool:
    if not set(outer) < set(columns):
        return False
    return tuple(level[columns.index(column)] for column in outer) in hidden


def suppress(tables: Mapping[str, pa.Table], protection: Protection) -> dict[str, pa.Table]:
    """The tables without what is withheld; ``diagnostics`` tells how many levels that were, and names none of them."""
    hidden = all_withheld(protection)
    found = dict(tables)
    for name in GROUP_TABLES:
        found[name] = _without_levels(tables[name], protection, hidden)
    sides = _hidden_sides(protection, hidden)
    pairs = _hidden_pairs(protection, sides)
    found["cell_estimates"] = _without_pairs(tables["cell_estimates"], pairs, sides)
    names = {":".join(level) for levels in hidden.values() for level in levels} | {
        level[-1] for levels in hidden.values() for level in levels
    }
    found["diagnostics"] = _told(tables["diagnostics"], {name: len(levels) for name, levels in hidden.items()}, len(pairs), names)
    return found


def _without_levels(table: pa.Table, protection: Protection, hidden: Mapping[str, frozenset[Level]]) -> pa.Table:
    labels = {name: {":".join(level) for level in levels} for name, levels in hidden.items()}
    everywhere = set().union(*labels.values())
    rows = zip(*(table[column].to_pylist() for column in ("grouping_factor", "level", "parent_level", "is_new")), strict=True)
    keep = []
    for factor, level, parent, is_new in rows:
        is_hidden = protection.of in protection.columns[factor] or parent in everywhere
        if not is_new:
            is_hidden = is_hidden or level in labels[factor] or f"{parent}:{level}" in labels[factor]
        keep.append(not is_hidden)
    return table.filter(pa.array(keep, pa.bool_()))


def _hidden_sides(protection: Protection, hidden: Mapping[str, frozenset[Level]]) -> tuple[set[str], set[str]]:
    """Values of either column of ``cells`` that are withheld as levels of a factor."""
    first, second = (
        {level[-1] for name, levels in hidden.items() if protection.columns[name][-1] == column for level in levels}
        for column in protection.pair_columns or ("", "")
    )
    return first, second


def _hidden_pairs(protection: Protection, sides: tuple[set[str], set[str]]) -> frozenset[Level]:
    if protection.pair is None or protection.pair_columns is None:
        return frozenset()
    if protection.of in protection.pair_columns:
        return frozenset(protection.pair)
    return withheld(protection.pair, protection.k, {pair for pair in protection.pair if pair[0] in sides[0] or pair[1] in sides[1]})


def _without_pairs(table: pa.Table, pairs: frozenset[Level], sides: tuple[set[str], set[str]]) -> pa.Table:
    first, second = (table[column].to_pylist() for column in ("customer_group", "product_group"))
    keep = [(a, b) not in pairs and a not in sides[0] and b not in sides[1] for a, b in zip(first, second, strict=True)]
    return table.filter(pa.array(keep, pa.bool_()))


def _told(table: pa.Table, numbers: Mapping[str, int], n_pairs: int, names: set[str]) -> pa.Table:
    rows = [row | {"message": without_names(row["message"], names)} for row in table.to_pylist()]
    like = rows[0]
    counted = {**{f"withheld_groups[{name}]": number for name, number in numbers.items()}, "withheld_groups[cells]": n_pairs}
    for check, number in counted.items():
        message = "levels that are not published because too few people stand behind them, or behind another that they would give away"
        rows.append(like | {"check": check, "value": float(number), "threshold": None, "passed": True, "message": message})
    told = pa.Table.from_pylist(rows, schema=table.schema)
    return told.take(pc.sort_indices(told, sort_keys=[(key, "ascending") for key in TABLES["diagnostics"].sort_key]))


def without_names(text: str, names: set[str]) -> str:
    """The text with every withheld level's name blotted out, longest first."""
    for name in sorted((name for name in names if len(name) > 1), key=len, reverse=True):
        text = text.replace(name, HIDDEN)
    return text
