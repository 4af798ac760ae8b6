"""What changed in words: the sentence that is told first, and the numbers of a move."""

from __future__ import annotations

from groupwise.report.changes import SURE, Changes, Move
from groupwise.report.subject import number

PARTS = ("range", "mix", "behaviour")

NAMED = 0.5
"""A part is named where it is at least so much of the largest."""

ROUNDING = 1e-9
"""A part below so much of the earlier estimate and the change is rounding."""

WHOLE = 0.95
"""A part from this share of the change on is all of it."""


def first_sentence(found: Changes) -> str:
    """``hawaiian +5.9 %, 3 points of it mix``, or that nothing moved. A level of a sample leads only where all levels are samples."""
    led = [count for count in found.counts if not count.is_sampled] or found.counts
    move = next((move for move in found.moves if move.has_moved and move.factor in {count.factor for count in led}), None)
    if move is None:
        return f"None of {sum(count.n_compared for count in led):,} groups moved by more than {_limit(found)}."
    doubt = "" if move.probability >= SURE else f"; the probability of more than {found.threshold} is {probability_words(move.probability)}"
    return f"{move.level} {amount(move, move.change)}{_largest_parts(move)}{doubt}."


def counted(found: Changes) -> str:
    """How many groups moved, and how their probability was found."""
    by_factor = [
        f"{count.n_moved:,} of {count.n_compared:,} {count.factor}{' (a sample)' if count.is_sampled else ''}" for count in found.counts
    ]
    named = f": {', '.join(by_factor)}" if len(by_factor) > 1 else ""
    errors = "posterior sds" if found.is_posterior else "standard errors"
    return (
        f"{found.n_moved:,} of {found.n_compared:,} groups moved by more than {_limit(found)}{named}. "
        f"Probabilities are of such a change in the same direction; they take the two versions' {errors} for independent."
    )


def _limit(found: Changes) -> str:
    return f"{found.threshold} of the earlier estimate" if found.threshold.is_percent else f"{found.threshold}"


def probability_words(probability: float) -> str:
    """In percent, and never 0 or 100 where it is neither."""
    text = f"{100 * probability:.0f} %"
    return {"100 %": "over 99 %", "0 %": "under 1 %"}.get(text, text) if 0 < probability < 1 else text


def amount(move: Move, value: float) -> str:
    """A change of the move's outcome: in percent of the earlier estimate, or in units."""
    return _signed(100.0 * value / move.before, 2) + " %" if move.is_relative else _signed(value, 3)


def part_amounts(move: Move) -> tuple[tuple[str, float | None], ...]:
    """Range, mix and behaviour: in points of the earlier estimate or in units, and as numbers in units; empty where there are none."""
    if move.parts is None:
        return (("", None),) * len(PARTS)
    smallest = ROUNDING * max(abs(move.before), abs(move.change))
    values = (value if abs(value) > smallest else 0.0 for value in (move.parts.range, move.parts.mix, move.parts.behaviour))
    return tuple((_signed(100.0 * value / move.before, 2) if move.is_relative else _signed(value, 3), value) for value in values)


def _largest_parts(move: Move) -> str:
    """The largest parts, as parts of the change where they go its way, else each with its sign."""
    if move.parts is None:
        return ""
    values = {name: getattr(move.parts, name) for name in PARTS}
    largest = max(abs(value) for value in values.values())
    named = {name: value for name, value in sorted(values.items(), key=lambda each: -abs(each[1])) if abs(value) >= NAMED * largest}
    if all(0 < value / move.change <= 1 / WHOLE for value in named.values()):
        [first, *others] = named.items()
        if not others and first[1] / move.change >= WHOLE:
            return f", all of it {first[0]}"
        return f", {_points(move, abs(first[1]))} of it {first[0]}" + "".join(f" and {_points(move, abs(v))} {name}" for name, v in others)
    return ": " + ", ".join(f"{name} {_points(move, value, signed=True)}" for name, value in named.items())


def _points(move: Move, value: float, *, signed: bool = False) -> str:
    share = 100.0 * value / move.before
    if not move.is_relative:
        return _signed(value, 3) if signed else number(value)
    return f"{_signed(share, 2) if signed else number(share, 2)} point{'' if abs(share) == 1.0 else 's'}"


def _signed(value: float, digits: int) -> str:
    text = number(abs(value), digits)
    return text if value == 0 else f"{'+' if value > 0 else '-'}{text}"
