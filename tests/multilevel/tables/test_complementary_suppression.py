"""Whoever knows every total and everything published cannot work out a level below k: shown by linear algebra, not by the rule itself."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations, permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from multilevel.redaction.complementary_suppression import Level, Margin, given_away, suppressed, totals
from multilevel.redaction.redacted_tables import CELLS, Protection, all_suppressed

COLUMNS = ("region", "city", "category")
TABLES = [keys for size in (1, 2, 3) for keys in combinations(COLUMNS, size)]
# (person, region, city, category) of every line item
LINES = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.sampled_from("vwx"), st.sampled_from("123")), min_size=1, max_size=90
)


def protection(lines: list[tuple[int, str, str, str]], k: int, tables: list[tuple[str, ...]]) -> Protection:
    people: dict[str, dict[Level, set[int]]] = {":".join(keys): defaultdict(set) for keys in tables}
    for person, *values in lines:
        row = dict(zip(COLUMNS, values, strict=True))
        for keys in tables:
            people[":".join(keys)][tuple(row[key] for key in keys)].add(person)
    counts = {name: {level: len(found) for level, found in levels.items()} for name, levels in people.items()}
    return Protection("person", k, {":".join(keys): keys for keys in tables}, counts, {":".join(keys): len(keys) for keys in tables})


def worked_out(counts: dict[str, dict[Level, int]], hidden: dict[str, frozenset[Level]]) -> set[tuple[str, Level]]:
    """Withheld levels whose number of line items follows: published ones are known, tables add up to all, wider ones to narrower ones."""
    unknown = {(name, level): at for at, (name, level) in enumerate((name, level) for name in counts for level in counts[name])}
    rows = [[(name, level)] for name, level in unknown if level not in hidden[name]]
    rows += [[(name, level) for level in counts[name]] for name in counts]
    known = np.zeros((len(rows), len(unknown)))
    for at, row in enumerate(rows):
        known[at, [unknown[each] for each in row]] = 1.0
    sums = []
    for narrow, wide in permutations(counts, 2):
        if set(inner := narrow.split(":")) < set(outer := wide.split(":")):
            for level in counts[narrow]:
                row = np.zeros(len(unknown))
                row[unknown[narrow, level]] = -1.0
                parts = [part for part in counts[wide] if tuple(part[outer.index(column)] for column in inner) == level]
                row[[unknown[wide, part] for part in parts]] = 1.0
                sums.append(row)
    _, size, directions = np.linalg.svd(np.vstack([known, *sums]))
    unseen = directions[int((size > 1e-9).sum()) :]
    return {each for each, at in unknown.items() if each[1] in hidden[each[0]] and np.abs(unseen[:, at]).max(initial=0.0) < 1e-7}


@given(lines=LINES, k=st.integers(2, 12), tables=st.lists(st.sampled_from(TABLES), min_size=1, max_size=4, unique=True))
@settings(max_examples=500, deadline=None, derandomize=True)
def test_no_published_number_nor_any_difference_of_them_is_that_of_a_group_below_k(
    lines: list[tuple[int, str, str, str]], k: int, tables: list[tuple[str, ...]]
) -> None:
    found = protection(lines, k, tables)
    hidden = all_suppressed(found)
    for name, level in worked_out(found.counts, hidden):
        # one level that holds all line items is their total, which is told in any case
        assert found.counts[name][level] >= k or len(found.counts[name]) == 1, (name, level)
    for name, levels in found.counts.items():
        assert {level for level, people in levels.items() if people < k} <= hidden[name]


@given(lines=LINES, tables=st.lists(st.sampled_from(TABLES), min_size=1, max_size=4, unique=True))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_nothing_is_suppressed_without_need(lines: list[tuple[int, str, str, str]], tables: list[tuple[str, ...]]) -> None:
    assert not any(all_suppressed(protection(lines, 1, tables)).values())


def test_a_single_small_level_takes_the_next_smallest_with_it() -> None:
    assert suppressed({("north",): 4, ("south",): 30, ("west",): 50}, 10) == {("north",), ("south",)}
    assert suppressed({("north",): 4, ("east",): 7, ("south",): 30, ("west",): 50}, 10) == {("north",), ("east",), ("south",)}


def test_a_level_that_its_column_tells_protects_nothing_in_its_row() -> None:
    counts = {("a", "v"): 2, ("a", "w"): 12, ("a", "x"): 30, ("b", "v"): 30, ("b", "w"): 31, ("b", "x"): 32}
    margins = (Margin((0,)), Margin((1,)))
    # alone in column w, (a, w) follows from the column's total, and row a then gives (a, v) away
    assert given_away(counts, 10, {("a", "v"), ("a", "w"), ("b", "v")}, margins) == {("a", "v")}
    hidden = suppressed(counts, 10, margins)
    assert given_away(counts, 10, hidden, margins) == frozenset()
    assert ("b", "x") not in hidden


def test_a_large_table_is_decided_in_seconds() -> None:
    rng = np.random.default_rng(1)
    counts = {(str(i), str(j)): int(rng.integers(1, 400)) for i in range(20) for j in range(500)}
    hidden = suppressed(counts, 10, (Margin((0,)), Margin((1,))))
    small = sum(count < 10 for count in counts.values())
    assert small < len(hidden) < 8 * small
    assert len(totals(counts, (Margin((0,)), Margin((1,))))) == 520


def test_combinations_follow_the_factors_they_are_made_of() -> None:
    found = all_suppressed(
        Protection(
            "person",
            10,
            {"region": ("region",), CELLS: ("region", "category")},
            {
                "region": {("north",): 4, ("south",): 30, ("west",): 50},
                CELLS: {(region, category): 4 if region == "north" else 30 for region in ("north", "south", "west") for category in "xy"},
            },
            {"region": 1, CELLS: 2},
        )
    )
    assert {level for level in found[CELLS] if level[0] == "west"} == set()
    assert len(found[CELLS]) == 4
