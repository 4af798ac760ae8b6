"""The narrowest DuckDB type that holds the values of two others exactly; None where there is no such type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from groupwise.source.shards.footer_schemas import NO_VALUES

SIGNED = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
UNSIGNED = {"UTINYINT": 8, "USMALLINT": 16, "UINTEGER": 32, "UBIGINT": 64}
DIGITS = {
    "TINYINT": 3,
    "SMALLINT": 5,
    "INTEGER": 10,
    "BIGINT": 19,
    "UTINYINT": 3,
    "USMALLINT": 5,
    "UINTEGER": 10,
    "UBIGINT": 20,
    "HUGEINT": 39,
}
FLOATS = ("FLOAT", "DOUBLE")
MOST_DIGITS = 38
"""Digits of DuckDB's widest decimal."""

DIGITS_OF_A_DOUBLE = 15
"""Decimal digits that every double keeps."""

LARGEST_WHOLE_DOUBLE = 2**53
"""Whole numbers up to here are doubles exactly."""

DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")


def common_type(types: Iterable[str]) -> str | None:
    """The type that holds the values of all ``types``, whatever their order; columns without values fit everything."""
    kinds = sorted(set(types) - {NO_VALUES})
    if len(kinds) <= 1:
        return kinds[0] if kinds else NO_VALUES
    if all(_is_whole(kind) or kind in FLOATS or DECIMAL.fullmatch(kind) for kind in kinds):
        return _number(kinds)
    if set(kinds) <= {"DATE", "TIMESTAMP", "TIMESTAMP_NS"}:
        return "TIMESTAMP_NS" if "TIMESTAMP_NS" in kinds else "TIMESTAMP"
    return None


def common_label(types: Iterable[str]) -> str | None:
    """``common_type`` where the values' text must not change either: whole numbers of any width, otherwise one type."""
    kinds = set(types) - {NO_VALUES}
    return common_type(kinds) if len(kinds) <= 1 or all(map(_is_whole, kinds)) else None


def exact_if(source: str, target: str, value: str) -> str | None:
    """A condition on ``value`` under which its cast is exact, where the types alone do not say so; None: it always is."""
    if target == "DOUBLE" and (SIGNED | UNSIGNED).get(source, 0) > 32:
        return f"{value} between {-LARGEST_WHOLE_DOUBLE} and {LARGEST_WHOLE_DOUBLE}"
    if target == "TIMESTAMP_NS" and source != target:
        return f"{value} between timestamp '1678-01-01' and timestamp '2262-01-01'"
    return None


def _is_whole(kind: str) -> bool:
    return kind in SIGNED or kind in UNSIGNED


def _number(kinds: Sequence[str]) -> str | None:
    decimals = [found for found in map(DECIMAL.fullmatch, kinds) if found]
    if any(kind in FLOATS for kind in kinds):
        return None if any(int(found[1]) > DIGITS_OF_A_DOUBLE for found in decimals) else "DOUBLE"
    if decimals:
        return _decimal(kinds)
    widest: str | None = kinds[0]
    for kind in kinds[1:]:
        widest = None if widest is None else _whole(widest, kind)
    return widest


def _whole(a: str, b: str) -> str | None:
    if a == b:
        return a
    if (a in SIGNED) == (b in SIGNED):
        widths = SIGNED if a in SIGNED else UNSIGNED
        return max((a, b), key=widths.__getitem__)
    signed, unsigned = (a, b) if a in SIGNED else (b, a)
    fitting = [name for name, bits in SIGNED.items() if bits > UNSIGNED[unsigned] and bits >= SIGNED[signed]]
    return min(fitting, key=SIGNED.__getitem__, default=None)


def _decimal(kinds: Sequence[str]) -> str | None:
    digits = [_digits(kind) for kind in kinds]
    whole, scale = max(before for before, _ in digits), max(after for _, after in digits)
    return f"DECIMAL({whole + scale},{scale})" if whole + scale <= MOST_DIGITS else None


def _digits(kind: str) -> tuple[int, int]:
    """Digits before and after the point."""
    found = DECIMAL.fullmatch(kind)
    return (int(found[1]) - int(found[2]), int(found[2])) if found else (DIGITS[kind], 0)
