"""A first study for a table: outcome, family, window, grouping terms, sampled units, each with its reason. Rules of thumb, all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

from groupwise.source.relation import quote
from groupwise.starting.table_profile import ID_WORDS, ROW_NAMES, ColumnProfile, TableProfile, could_group
from multilevel.errors import DataError
from multilevel.families.registry import is_linear

OUTCOMES = re.compile(
    r"amount|price|sales?\b|revenue|spen[dt]|total|value|score|response|react|rating|yield|weight|outcome|target|income|wage|salary|"
    r"cost|profit|mark|grade|gcse|achiev|mathach|test|result|height|length|len$|loss|breaks|(?<!dis)count|rate$|success|surviv|convert|churn|won|win|"
    r"use$|passed|case|betrag|umsatz|preis|montant|importe|^y$|mpg|diameter|distance|resp|time$",
    re.IGNORECASE,
)
RECEIPTS = re.compile(r"amount|sales?\b|revenue|spen[dt]|turnover|total|betrag|umsatz|montant|importe", re.IGNORECASE)
"""What was paid for a line item; a price beside it is what one piece costs."""
COUNTS = re.compile(
    r"count|^n_|^num|number of|breaks|visits|claims|deaths|accidents|seizures|births|goals|articles|ticks|eggs|calls", re.IGNORECASE
)
UNITS = re.compile(
    r"subj|patient|person|student|pupil|child|customer|kunde|client|user|member|household|family|respondent|participant|animal|rat$|mouse|"
    r"dog|bird|chick|tree|plant|worker|employee|individual|voter|player|judge|rater|panelist|account|card$|litter|dam$|sire|doctor",
    re.IGNORECASE,
)
PLACES = re.compile(
    r"school|class|teacher|hospital|clinic|store|shop|site|plot|block|batch|lot$|farm|firm|company|state|country|county|city|region|area|"
    r"district|team|lab|machine|sample|run$|field|village|center|centre|branch|category|department|product|brand|item|type|group|variety|"
    r"species|station|cask|casks|genotype|cluster|psu|neigh|lec|prof|dept|operator|wafer|rail|rater|brick|brood|location|nest$|tank|tray|pot$|seed$|habitat|quakes?|event",
    re.IGNORECASE,
)
STEPS = re.compile(
    r"^(days?|time|age|weeks?|months?|years?|dose|hours?|visits?|waves?|period|trial|occasion|grade|minutes?)$", re.IGNORECASE
)
MOST_LEVELS = 2_000
"""Levels up to which a unit becomes a group term; of more, its design effect is measured."""
MOST_TERMS = 3
MOST_STEPS = 53
FEW_UNITS = 200
FEW_LEVELS = 12
LONG_TAIL = 1.0
"""Skewness."""
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED = frozenset({"p", "I", "C", "log", "exp", "sqrt", "center", "scale", "within", "between", "bin", "offset", "weights", "se"})


@dataclass(frozen=True)
class Proposal:
    """A study in parts. ``reasons`` : field of the study -> why. ``numbers`` : columns that could be predictors."""

    outcome: str
    response: str
    family: str
    predictors: tuple[str, ...]
    groups: tuple[str, ...]
    where: str | None = None
    window: tuple[str, int] | None = None
    sampled: tuple[str, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    cells: tuple[str, str] | None = None
    reasons: tuple[tuple[str, str], ...] = ()
    numbers: tuple[str, ...] = ()

    @property
    def formula(self) -> str:
        """The formula, names in backquotes where they need them."""
        return f"{self.response} ~ {' + '.join(['1', *map(name, self.predictors), *(f'(1 | {term})' for term in self.groups)])}"

    def reason(self, field: str) -> str:
        """Why a field is as it is."""
        return dict(self.reasons).get(field, "")


def name(column: str) -> str:
    """A column in a formula."""
    return column if PLAIN.fullmatch(column) and column not in RESERVED else f"`{column}`"


def proposals(table: TableProfile) -> Iterator[Proposal]:
    """Studies to try, the best first; each later one asks for less.

    Raises
    ------
    DataError : no column could be an outcome, or none could group.
    """
    for outcome in _outcomes(table):
        first = _of_outcome(table, outcome)
        if first is None:
            continue
        yield from _simpler(table, outcome, first)


def _simpler(table: TableProfile, outcome: ColumnProfile, first: Proposal) -> Iterator[Proposal]:
    """The proposal; then without predictors; then with one group term after the other; the plain outcome last."""
    yield first
    alone = replace(first, predictors=())
    if first.predictors:
        yield alone
    for count in range(len(first.groups) - 1, 0, -1):
        yield replace(alone, groups=first.groups[:count], cells=None)
    for term in first.groups[1:]:
        yield replace(alone, groups=(term,), cells=None)
    if not is_linear(first.family) or first.where is not None:
        own = name(outcome.name)
        reasons = (*((field, why) for field, why in first.reasons if field != "family"), ("family", "other families do not fit these data"))
        yield replace(alone, response=own, family="gaussian", where=None, groups=first.groups[:1], cells=None, reasons=reasons)


def _outcomes(table: TableProfile) -> list[ColumnProfile]:
    """Columns that could be the outcome, the likeliest first."""
    found = []
    for at, column in enumerate(table.columns.values()):
        if column.is_id or column.levels < 2 or "`" in column.name or ROW_NAMES.fullmatch(column.name):
            continue
        is_binary = column.kind == "boolean" or (column.kind == "number" and column.whole and (column.low, column.high) == (0, 1))
        if column.kind != "number" and not is_binary:
            continue
        said = bool(OUTCOMES.search(column.name)) and not (ID_WORDS.search(column.name) or STEPS.match(column.name))
        is_unit = any(words.search(column.name) for words in (UNITS, PLACES, ID_WORDS)) and column.whole
        is_designed = column.whole and column.smallest * column.levels == column.n and column.levels <= MOST_STEPS
        varied = column.levels >= max(5, min(0.02 * column.n, 20))
        # a measurement that is called like an outcome, then one, then yes or no, then steps, units and what somebody has set evenly
        rank = 3 * said + 2 * _is_money(column) + 2 * (varied and not column.whole) + varied + (is_binary and said)
        rank += bool(RECEIPTS.search(column.name))
        rank -= 4 * is_unit + 4 * bool(STEPS.match(column.name)) + 3 * is_designed
        found.append((-rank, at, column))
    if not found:
        raise DataError("no column could be an outcome: none holds numbers that vary, or true and false. Say what it is in a query.")
    return [column for _, _, column in sorted(found, key=lambda one: one[:2])][:4]


def _of_outcome(table: TableProfile, outcome: ColumnProfile) -> Proposal | None:
    factors = [column for column in table.columns.values() if column.name != outcome.name and _is_factor(column)]
    days = _days(table, outcome)
    groups, dropped = _groups(table, outcome, factors)
    if not groups:
        return None
    response, family, where, reasons = _family(outcome)
    grouped = list(dict.fromkeys(part for term in groups for part in _columns(term)))
    predictors = [column for column in factors if column.levels == 2 and column.name not in grouped and not column.nulls][:2]
    steps = [
        column
        for column in table.columns.values()
        if STEPS.match(column.name) and column.kind == "number" and column.levels > 2 and not column.nulls and is_linear(family)
        and column.name not in (*grouped, outcome.name)
    ][:1]  # fmt: skip
    sampled = [
        column
        for column in table.columns.values()
        if UNITS.search(column.name) and column.name != outcome.name and column.levels >= 10 and column.rows_a_level >= 1.2
        and column.kind in ("text", "number", "other") and (column.kind != "number" or column.whole) and "`" not in column.name
    ][:1]  # fmt: skip
    # a unit that is not known is no unit of its own
    unknown = {column.name: "exclude" if column in sampled else "level" for column in factors if column.nulls}
    missing = [(column, unknown[column]) for column in grouped if column in unknown]
    if outcome.nulls:
        missing.append((outcome.name, "exclude"))
    all_reasons = [("outcome", _why_outcome(outcome)), *reasons]
    all_reasons.append(("groups", "; ".join(_why_group(table, part) for part in grouped) + dropped))
    if predictors:
        all_reasons.append(
            ("predictors", f"{', '.join(one.name for one in predictors)}: two levels are too few for a variance of their own")
        )
    if steps:
        all_reasons.append(("steps", f"{steps[0].name} orders the rows of a group"))
    if sampled:
        unit = sampled[0]
        what = f"{unit.levels:,} values, about {unit.rows_a_level:,.1f} rows each"
        all_reasons.append(("sampled", f"{unit.name} names units that stand for others like them ({what})"))
    simple = [term for term in groups if "/" not in term]
    cells = None
    if len(groups) >= 2:
        pair = [_columns(term)[-1] for term in groups[:2]]
        product = table.columns[pair[0]].levels * table.columns[pair[1]].levels
        is_nested = pair[0] in table.nested.get(pair[1], ()) or pair[1] in table.nested.get(pair[0], ())
        cells = (pair[0], pair[1]) if product <= 5_000 and not is_nested and len(simple) >= 1 else None
    others = [
        column.name
        for column in table.columns.values()
        if column.kind == "number" and column.name not in (outcome.name, *grouped) and not _is_name(column) and column.name not in
        {one.name for one in (*steps, *predictors)}
    ]  # fmt: skip
    return Proposal(
        outcome=outcome.name,
        response=response,
        family=family,
        predictors=tuple(column.name for column in (*steps, *predictors)),
        groups=tuple(groups),
        where=where,
        window=days,
        sampled=tuple(column.name for column in sampled),
        missing=tuple(missing),
        cells=cells,
        reasons=tuple(all_reasons),
        numbers=tuple(others[:8]),
    )


def _is_factor(column: ColumnProfile) -> bool:
    if not could_group(column) or column.is_id or "`" in column.name or ROW_NAMES.fullmatch(column.name):
        return False
    if column.kind in ("text", "boolean"):
        return True
    is_named = bool(UNITS.search(column.name) or PLACES.search(column.name) or ID_WORDS.search(column.name))
    return column.whole and not STEPS.match(column.name) and (is_named or column.levels <= FEW_LEVELS)


def _groups(table: TableProfile, outcome: ColumnProfile, factors: Sequence[ColumnProfile]) -> tuple[list[str], str]:
    """Grouping terms, the likeliest first: (outer/inner) where one nests in the other."""
    twins = {b for a, b in table.same if a != outcome.name}
    fitting = [
        column
        for column in factors
        if 3 <= column.levels <= MOST_LEVELS and column.name not in twins and 2 * column.levels <= column.n
    ]  # fmt: skip
    named = [column for column in fitting if column.kind == "text" or UNITS.search(column.name) or PLACES.search(column.name)]
    # numbers of few values group where nothing else does, months and steps last
    steps = [one for one in table.columns.values() if one.whole and could_group(one) and 3 <= one.levels <= MOST_STEPS]
    steps = sorted((one for one in steps if one.name != outcome.name and "`" not in one.name), key=_likeness)
    used = named or fitting or steps[:1]
    # many levels first, but those of units that are better measured than listed
    used = sorted(used, key=lambda one: (_order(one), -one.levels))
    dropped = ""
    if not used:
        used = sorted((column for column in factors if column.levels == 2), key=lambda one: one.kind != "text")[:1]
        dropped = "; two levels tell little about a variance: more groups would" if used else ""
    terms: list[str] = []
    taken: set[str] = set()
    for column in used:
        if len(terms) == MOST_TERMS or column.name in taken:
            continue
        outer = [other for other in table.nested.get(column.name, ()) if other in {one.name for one in used}]
        if outer:
            parent = max(outer, key=lambda one: table.columns[one].levels)
            if name(parent) in terms:
                terms.remove(name(parent))
            elif any(parent in _columns(term) for term in terms):
                parent_term = next(term for term in terms if parent in _columns(term))
                if parent_term.endswith(name(parent)):
                    terms[terms.index(parent_term)] = f"{parent_term}/{name(column.name)}"
                taken.add(column.name)
                continue
            terms.append(f"{name(parent)}/{name(column.name)}")
            taken |= {parent, column.name}
        else:
            terms.append(name(column.name))
            taken.add(column.name)
    return terms, dropped


def _likeness(column: ColumnProfile) -> tuple[bool, bool, int]:
    """How little a number of few values is like a group: many values, steps of time."""
    return (column.levels > FEW_LEVELS, bool(STEPS.match(column.name)), column.levels)


def _order(column: ColumnProfile) -> int:
    if column.levels > FEW_UNITS and UNITS.search(column.name):
        return 3
    if column.kind == "text":
        return 0
    return 1 if UNITS.search(column.name) or PLACES.search(column.name) else 2


def _columns(term: str) -> list[str]:
    return [part[1:-1] if part.startswith("`") else part for part in re.findall(r"`[^`]*`|[^/]+", term)]


def _family(outcome: ColumnProfile) -> tuple[str, str, str | None, list[tuple[str, str]]]:
    """Response, family, ``where``, and reasons."""
    own = name(outcome.name)
    if outcome.kind == "boolean" or (outcome.whole and (outcome.low, outcome.high) == (0, 1)):
        return (
            own,
            "binomial",
            None,
            [("family", f"{outcome.name} is yes or no: {outcome.mean:.0%} yes" if outcome.kind == "number" else "yes or no")],
        )
    if (
        outcome.whole
        and outcome.low >= 0
        and (COUNTS.search(outcome.name) or (outcome.zeros > 0 and outcome.mean < 20 and outcome.skew > 0.8))
    ):
        moments = f"mean {outcome.mean:,.3g}, variance {outcome.variance:,.3g}"
        spread = f"{outcome.name} counts something: whole numbers from {outcome.low:,.0f}, {moments}"
        family = "negative_binomial" if outcome.variance > 1.5 * outcome.mean else "poisson"
        return own, family, None, [("family", spread)]
    gone = outcome.negatives + outcome.zeros
    is_skewed = outcome.skew > LONG_TAIL or (outcome.middle > 0 and outcome.high > 10 * outcome.middle)
    if outcome.middle > 0 and gone <= 0.1 * outcome.n and (is_skewed or (gone and _is_money(outcome))):
        why = f"{outcome.name} is above zero and skewed (median {outcome.middle:,.4g}, greatest {outcome.high:,.4g}): effects multiply"
        if not gone:
            return f"log({own})", "gaussian", None, [("family", why)]
        left = f"{gone:,} rows at or below zero ({outcome.negatives:,} below: returns?) are left out, and counted"
        return f"log({own})", "gaussian", f"{quote(outcome.name)} > 0", [("family", why), ("where", left)]
    has_two_parts = is_skewed and outcome.zeros > 0.1 * outcome.n and not (outcome.negatives or outcome.whole)
    return own, "hurdle_gamma" if has_two_parts else "gaussian", None, [("family", _why_plain(outcome, has_two_parts=has_two_parts))]


def _why_plain(outcome: ColumnProfile, *, has_two_parts: bool) -> str:
    """Why the outcome is modelled as it is, without a logarithm."""
    if has_two_parts:
        return f"{outcome.name} is zero in {outcome.zeros:,} rows and has a long tail: whether it is zero is one part, how much the other"
    if outcome.negatives and _is_money(outcome):
        return f"{outcome.name} has {outcome.negatives:,} values below zero, which log() does not take"
    return f"{outcome.name} is a number {_tail(outcome)}"


def _tail(outcome: ColumnProfile) -> str:
    if abs(outcome.skew) <= LONG_TAIL:
        return f"without a long tail (skewness {outcome.skew:.1f})"
    return f"with a long tail (skewness {outcome.skew:.1f}), and zeros or values below, which log() does not take"


def _is_name(column: ColumnProfile) -> bool:
    """Whether numbers stand for things."""
    return column.is_id or bool(ID_WORDS.search(column.name)) or bool(UNITS.search(column.name) and column.whole)


def _is_money(outcome: ColumnProfile) -> bool:
    return bool(
        re.search(r"amount|price|sales|revenue|spen[dt]|total|value|betrag|umsatz|preis|montant|importe", outcome.name, re.IGNORECASE)
    )


def _days(table: TableProfile, outcome: ColumnProfile) -> tuple[str, int] | None:
    for column in table.columns.values():
        if column.kind != "time" or column.name == outcome.name or not column.n or column.nulls > 0.05 * table.rows or "`" in column.name:
            continue
        try:
            first, last = (date.fromisoformat(text[:10]) for text in (column.first, column.last))
        except ValueError:
            continue
        span = (last - first).days + 1
        if last.year < 9000 and span <= 36_525:
            return column.name, span if span <= 731 else 365
    return None


def _why_outcome(outcome: ColumnProfile) -> str:
    said = "its name says so" if OUTCOMES.search(outcome.name) else "the first column that is a measurement"
    return f"{outcome.name}: {said}"


def _why_group(table: TableProfile, column: str) -> str:
    found = table.columns[column]
    small = f", the smallest with {found.smallest:,} row{'s' if found.smallest != 1 else ''}" if found.smallest else ""
    outer = table.nested.get(column, ())
    return f"{column} has {found.levels:,} levels{small}" + (f" and is nested in {', '.join(outer)}" if outer else "")
