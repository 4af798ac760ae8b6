"""Which levels are not published: those of too few people, and what would give them away (complementary suppression).

Totals are published beside the parts they are made of: a factor's levels add up to all line items, the levels inside a parent to the
parent's, a row of a table of combinations to its margin. A reader who subtracts what is published from a total learns the sum of what is
suppressed in it, and may put such sums together. So the levels suppressed are added to until no level below k can be worked out, nor any
remainder of one total in which only such levels are left (Willenborg and de Waal 2001, chapter 4). Bounds that follow from counts being
positive are not considered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

type Level = tuple[str, ...]
type Node = tuple[int, Level | None]
type Edge = tuple[Level, Node, Node]


@dataclass(frozen=True)
class Margin:
    """A coarser table that is published too: the places of its columns in a level, and its own levels that are suppressed."""

    places: tuple[int, ...]
    suppressed: frozenset[Level] = frozenset()

    def total(self, level: Level) -> Level | None:
        """The total that a level is part of; None is the total of all that the margin suppresses."""
        label = tuple(level[place] for place in self.places)
        return None if label in self.suppressed else label


EVERYTHING = Margin(())


def suppressed(counts: Mapping[Level, int], k: int, margins: Sequence[Margin] = (), beyond: Iterable[Level] = ()) -> frozenset[Level]:
    """Levels not to be published: those below ``k``, those in ``beyond``, and what keeps the former from being worked out.

    counts : distinct people behind every level; a level of several columns has one value for each of them.
    """
    known_totals = (EVERYTHING, *margins)
    hidden = {level for level, count in counts.items() if count < k} | (set(beyond) & set(counts))
    scopes = totals(counts, known_totals)
    found = len(hidden) > 0
    while found:
        more = _protectors(counts, k, hidden, scopes, known_totals)
        hidden |= more
        found = len(more) > 0
    return frozenset(hidden)


def given_away(counts: Mapping[Level, int], k: int, hidden: Iterable[Level], margins: Sequence[Margin]) -> frozenset[Level]:
    """Levels below ``k`` that follow from the totals though they are suppressed: where a published margin is a single level, say."""
    known_totals, inside = (EVERYTHING, *margins), set(hidden)
    scopes = totals(counts, known_totals)
    known = worked_out(inside, scopes, known_totals)
    found = {level for level in known if counts[level] < k}
    for scope in scopes:
        rest = inside.intersection(scope) - known
        if rest and len(rest) < len(scope) and max(counts[level] for level in rest) < k:
            found |= rest
    return frozenset(found)


def totals(levels: Iterable[Level], margins: Sequence[Margin]) -> list[list[Level]]:
    """The sets of levels whose sum a reader knows."""
    groups: dict[Node, list[Level]] = defaultdict(list)
    for level in sorted(levels):
        for at, margin in enumerate(margins):
            groups[at, margin.total(level)].append(level)
    return list(groups.values())


def _protectors(
    counts: Mapping[Level, int], k: int, hidden: set[Level], scopes: Sequence[list[Level]], margins: Sequence[Margin]
) -> set[Level]:
    """Published levels to suppress too: of every total that gives something away the smallest; empty where none does."""
    known = worked_out(hidden, scopes, margins)
    # what was worked out though it must not be, and what gave it away
    at_fault = {level for level in known if counts[level] < k}
    open_scopes: list[tuple[list[Level], set[Level]]] = []
    more: set[Level] = set()
    for scope in scopes:
        inside = {level for level in scope if level in hidden}
        rest = inside - known
        tells = bool(rest) and max(counts[level] for level in rest) < k
        if len(inside) < len(scope):
            open_scopes.append((scope, inside))
            more |= {_smallest(scope, inside, counts)} if tells else set()
        elif tells:
            at_fault |= inside & known
    return more | {_smallest(scope, inside, counts) for scope, inside in open_scopes if not at_fault.isdisjoint(inside)}


def _smallest(scope: Iterable[Level], hidden: set[Level], counts: Mapping[Level, int]) -> Level:
    return min((level for level in scope if level not in hidden), key=lambda level: (counts[level], level))


def worked_out(hidden: set[Level], scopes: Sequence[list[Level]], margins: Sequence[Margin]) -> set[Level]:
    """Withheld levels that follow from the totals: alone in one, those worked out before taken off, or from two margins together."""
    known: set[Level] = set()
    found = True
    while found:
        left = [[level for level in scope if level in hidden and level not in known] for scope in scopes]
        new = {rest[0] for rest in left if len(rest) == 1}
        if not new:
            new = set().union(*(_bridges(hidden - known, *pair) for pair in combinations(margins, 2)))
        known |= new
        found = len(new) > 0
    return known


def _bridges(hidden: set[Level], first: Margin, second: Margin) -> set[Level]:
    """Levels that follow from the totals of a two-way table: edges between its rows and columns that lie on no cycle of suppressed ones.

    Every edge outside a spanning forest is given a random number, an edge of the forest the exclusive or of those that run over it: 0 where
    no cycle does.
    """
    edges: list[Edge] = [(level, (0, first.total(level)), (1, second.total(level))) for level in sorted(hidden)]
    order, above = _forest(edges)
    tree, random = set(above.values()), Random(0)
    value, mark = [0] * len(edges), dict.fromkeys(order, 0)
    for at, (_, a, b) in enumerate(edges):
        if at not in tree:
            value[at] = random.getrandbits(64) | 1
            mark[a] ^= value[at]
            mark[b] ^= value[at]
    for node in reversed(order):
        if node in above:
            at = above[node]
            value[at] = mark[node]
            mark[_other_end(edges[at], node)] ^= mark[node]
    return {edge[0] for edge, number in zip(edges, value, strict=True) if number == 0}


def _forest(edges: Sequence[Edge]) -> tuple[list[Node], dict[Node, int]]:
    """Nodes from the roots outwards, and the edge that leads to each but the roots."""
    neighbours: dict[Node, list[int]] = defaultdict(list)
    for at, (_, a, b) in enumerate(edges):
        neighbours[a].append(at)
        neighbours[b].append(at)
    order: list[Node] = []
    above: dict[Node, int] = {}
    seen: set[Node] = set()
    for root in neighbours:
        if root in seen:
            continue
        seen.add(root)
        place = len(order)
        order.append(root)
        while place < len(order):
            node = order[place]
            place += 1
            for at in neighbours[node]:
                other = _other_end(edges[at], node)
                if other not in seen:
                    seen.add(other)
                    above[other] = at
                    order.append(other)
    return order, above


def _other_end(edge: Edge, node: Node) -> Node:
    return edge[2] if edge[1] == node else edge[1]
