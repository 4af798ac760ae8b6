"""What the text of a column is: whole numbers, numbers, yes or no, days, times, or text. One answer for all of its values, or text.

A first look at some rows says what each column could be; a scan of all rows decides. What could be read in two ways (03/04/2024, 1,234)
stays text, with a sentence on what to write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from groupwise.source.file_kinds import has_time
from groupwise.source.relation import literal, quote
from groupwise.source.user_sql.statement import run

LOOKED_AT = 5_000
"""Rows of the first look."""
MOSTLY = 0.8
"""Share of numbers from which the rest of a text column is named in its hint."""

MOST_WORDS = 3
"""Different words beside numbers, up to which they are named."""

SIGNS = "$€£¥%"
"""Signs at numbers that are read as text."""

_WHOLE = "[-+]?(0|[1-9][0-9]{0,37})"
_NUMBER = "[-+]?((0|[1-9][0-9]*)({point}[0-9]*)?|{point}[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[iI]nf|[nN]a[nN]"
_GROUPED = "[-+]?[1-9][0-9]{{0,2}}({comma}[0-9]{{3}})+({point}[0-9]*)?"
_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = _DAY + "[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?"
_ZONED = _TIME + " ?(Z|[-+][0-9]{2}(:?[0-9]{2})?)"
FORMATS = tuple(
    f"{day}{time}"
    for days in (("%d/%m/%Y", "%m/%d/%Y"), ("%d.%m.%Y",), ("%d-%m-%Y", "%m-%d-%Y"), ("%Y/%m/%d",), ("%d/%m/%y", "%m/%d/%y"), ("%d.%m.%y",))
    for day in days
    for time in ("", " %H:%M", " %H:%M:%S")
)
"""Days and times that are not ISO, tried in this order."""


@dataclass(frozen=True)
class Reading:
    """One way to read a column's text.

    kind : whole, number, grouped, boolean, day, time, zoned or text. type : the DuckDB type. value : SQL that gives the value, null where
    the text is none such; ``holds`` : SQL, whether the text is one, not null for text that is there.
    """

    kind: str
    type: str
    value: str
    holds: str
    format: str | None = None

    @property
    def is_foreign(self) -> bool:
        """Whether DuckDB's own cast does not read this form."""
        return self.format is not None or self.kind == "grouped" or "replace(" in self.value


@dataclass(frozen=True)
class Hint:
    """A text column that could be more: ``words`` say what to write, ``option`` and ``value`` what would make it so.

    ``option`` is None where no option does, but a query.
    """

    words: str
    option: str | None
    value: str


@dataclass(frozen=True)
class Texts:
    """How every column is read. ``decimal`` : the sign found, None where nothing says which; ``hints`` : of columns that stay text."""

    readings: Mapping[str, Reading]
    decimal: str | None
    hints: Mapping[str, Hint]


def read_texts(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    columns: Sequence[str],
    *,
    decimal: str | None = None,
    date_format: str | None = None,
) -> Texts:
    """How to read the text ``columns`` of ``sql``.

    Parameters
    ----------
    sql : a SELECT in which the columns are VARCHAR. columns : those to look at. decimal, date_format : where they are known.

    Raises
    ------
    duckdb.Error : the rows cannot be read.
    """
    if not columns:
        return Texts({}, decimal, {})
    sample = f"select {', '.join(quote(name) for name in columns)} from ({sql}) limit {LOOKED_AT}"
    signs = _signs(connection, sample, columns, decimal)
    possible = {name: _possible(name, signs[name], date_format) for name in columns}
    open_to = _holding(connection, sample, possible)
    tried = {name: _together(readings) for name, readings in open_to.items()}
    left = _holding(connection, sql, tried)
    wrong = {name: open_to[name] for name in columns if left[name] != tried[name]}
    if wrong:
        # the first rows were not like the rest: everything that they could be
        left |= {name: _together(readings) for name, readings in _holding(connection, sql, wrong).items()}
    found = {name: _choose(name, readings) for name, readings in left.items()}
    hints = {name: hint for name, (_, hint) in found.items() if hint is not None}
    hints |= _number_hints(connection, sql, [name for name, (one, hint) in found.items() if one.kind == "text" and hint is None], signs)
    known = {signs[name] for name, (one, _) in found.items() if one.kind in ("number", "grouped") and signs[name] is not None}
    return Texts({name: one for name, (one, _) in found.items()}, decimal or (known.pop() if len(known) == 1 else None), hints)


def text_of(name: str) -> Reading:
    """The column as text."""
    return Reading("text", "VARCHAR", quote(name), "true")


def _possible(name: str, sign: str | None, date_format: str | None) -> list[Reading]:
    """Every reading that a column might have, the narrowest first; the last one, text, always holds."""
    text = f"trim({quote(name)})"
    point, comma = (sign or ".", "," if (sign or ".") == "." else ".")
    plain = text if point == "." else f"replace({text}, ',', '.')"
    ungrouped = f"replace({text}, {literal(comma)}, '')"
    ungrouped = ungrouped if point == "." else f"replace({ungrouped}, ',', '.')"
    number = _NUMBER.format(point="[.]" if point == "." else ",")
    whole = f"regexp_full_match({text}, {literal(_WHOLE)})"
    readings = [
        Reading("boolean", "BOOLEAN", f"try_cast({text} as boolean)", f"lower({text}) in ('true', 'false')"),
        Reading("whole", "BIGINT", f"try_cast({text} as bigint)", f"({whole} and try_cast({text} as bigint) is not null)"),
        Reading("whole", "HUGEINT", f"try_cast({text} as hugeint)", f"({whole} and try_cast({text} as hugeint) is not null)"),
        # so many digits are a name, not an amount
        Reading("number", "DOUBLE", f"try_cast({plain} as double)", f"(regexp_full_match({text}, {literal(number)}) and "
                f"not regexp_full_match({text}, '[-+]?[0-9]{{17,}}'))"),
    ]  # fmt: skip
    if sign is not None:
        groups = _GROUPED.format(point="[.]" if point == "." else ",", comma="[.]" if comma == "." else ",")
        both = f"(regexp_full_match({text}, {literal(number)}) or regexp_full_match({text}, {literal(groups)}))"
        readings.append(Reading("grouped", "DOUBLE", f"try_cast({ungrouped} as double)", both))
    readings += [
        Reading("day", "DATE", f"try_cast({text} as date)", _is(text, _DAY, "date")),
        Reading("time", "TIMESTAMP", f"try_cast({text} as timestamp)", _is(text, f"{_TIME}|{_DAY}", "timestamp")),
        Reading("zoned", "TIMESTAMP WITH TIME ZONE", f"try_cast({text} as timestamptz)", _is(text, _ZONED, "timestamptz")),
    ]
    for form in FORMATS if date_format is None else (date_format,):
        parsed = f"try_strptime({text}, {literal(form)})"
        kind = "TIMESTAMP" if has_time(form) else "DATE"
        # %Y takes a year of two digits for one of the first century
        holds = f"coalesce(year({parsed}) >= 1000, false)"
        readings.append(Reading("time" if has_time(form) else "day", kind, f"cast({parsed} as {kind.lower()})", holds, form))
    return [*readings, text_of(name)]


def _is(text: str, pattern: str, kind: str) -> str:
    return f"(regexp_full_match({text}, {literal(pattern)}) and try_cast({text} as {kind}) is not null)"


def _holding(connection: duckdb.DuckDBPyConnection, sql: str, possible: Mapping[str, Sequence[Reading]]) -> dict[str, list[Reading]]:
    """Those of the readings that hold for every value of their column."""
    picks = [f"bool_and(coalesce({quote(name)} is null or {one.holds}, false))" for name, readings in possible.items() for one in readings]
    answers = iter(run(connection, f"select {', '.join(picks)} from ({sql})").fetchall()[0])
    # of no row at all nothing is known
    return {name: [one for one in readings if next(answers) is not False] for name, readings in possible.items()}


def _together(readings: Sequence[Reading]) -> list[Reading]:
    """The narrowest reading, with those of other forms of days that hold as well."""
    first = readings[0]
    return [first, *(one for one in readings[1:] if first.format is not None and one.format is not None), readings[-1]]


def _choose(name: str, readings: Sequence[Reading]) -> tuple[Reading, Hint | None]:
    """The reading of a column, or text and why, where two forms of days hold that mean other days."""
    forms = [one.format for one in readings if one.format is not None]
    days = {form.split(" ")[0] for form in forms}
    for day_first, month_first in (("%d/%m/%Y", "%m/%d/%Y"), ("%d-%m-%Y", "%m-%d-%Y"), ("%d/%m/%y", "%m/%d/%y")):
        if {day_first, month_first} <= days:
            words = (
                f"{name} could be read with the day or the month first, and no value tells which; write options: "
                f'{{date_format: "{day_first}"}} or "{month_first}"'
            )
            return readings[-1], Hint(words, "date_format", next(form for form in forms if form.startswith(day_first)))
    return readings[0], None


def _signs(connection: duckdb.DuckDBPyConnection, sample: str, columns: Sequence[str], decimal: str | None) -> dict[str, str | None]:
    """The decimal sign of every column: the one given; else the one of the table, where its numbers leave no doubt; None: neither."""
    if decimal is not None:
        return dict.fromkeys(columns, decimal)
    shapes = {}
    for sign, other in ((",", "."), (".", ",")):
        point, comma = ("[.]" if one == "." else "," for one in (sign, other))
        number = f"{_NUMBER.format(point=point)}|{_GROUPED.format(point=point, comma=comma)}"
        # three digits behind one sign could be thousands
        certain = f"[-+]?[0-9]*{point}([0-9]|[0-9]{{2}}|[0-9]{{4,}})|[-+]?0{point}[0-9]+|[-+]?[0-9]+({comma}[0-9]{{3}})+{point}[0-9]*"
        shapes[sign] = (number, certain)
    picks = []
    for name in columns:
        text = f"trim({quote(name)})"
        for number, certain in shapes.values():
            is_number = f"bool_and(coalesce({quote(name)} is null or regexp_full_match({text}, {literal(number)}), false))"
            is_certain = f"bool_or(coalesce(regexp_full_match({text}, {literal(certain)}), false))"
            picks.append(f"count({quote(name)}) > 0 and {is_number} and {is_certain}")
    answers = iter(run(connection, f"select {', '.join(picks)} from ({sample})").fetchall()[0])
    found: dict[str, list[str]] = {name: [sign for sign in shapes if next(answers)] for name in columns}
    plain = {signs[0] for signs in found.values() if len(signs) == 1}
    table = plain.pop() if len(plain) == 1 else None
    return {name: signs[0] if len(signs) == 1 else table for name, signs in found.items()}


def _number_hints(
    connection: duckdb.DuckDBPyConnection, sql: str, columns: Sequence[str], signs: Mapping[str, str | None]
) -> dict[str, Hint]:
    """What to write for text columns that are numbers but for some words, or whose numbers have a sign that means two things."""
    hints = {}
    for name in columns:
        text = f"trim({quote(name)})"
        point = {",": ",", ".": "[.]", None: "[.,]"}[signs[name]]
        number = f"regexp_full_match({text}, {literal(_NUMBER.format(point=point))})"
        query = f"select count(*) filter ({number}), count({quote(name)}) from ({sql})"
        n, total = run(connection, query).fetchall()[0]
        if not total:
            continue
        if not n and (sign := _sign_of(connection, sql, name)):
            hints[name] = sign
        if n / total < MOSTLY:
            continue
        if n == total:
            words = (
                f"{name} has numbers such as 1,234, in which the comma could be the decimal sign or stand between thousands; write "
                'options: {decimal: ","} or "."'
            )
            hints[name] = Hint(words, "decimal", ".")
            continue
        others = f"select {quote(name)} as word, count(*) as n from ({sql}) where {quote(name)} is not null and not {number} group by all"
        found = run(connection, f"select word, n from ({others}) order by n desc, word limit {MOST_WORDS + 1}").fetchall()
        if 0 < len(found) <= MOST_WORDS:
            listed = ", ".join(f"{word!r} ({count:,} row{'s' if count > 1 else ''})" for word, count in found)
            words = f"{name} has numbers, and {listed}; if that means missing, write options: {{nulls: [{found[0][0]}]}}"
            hints[name] = Hint(words, "nulls", str(found[0][0]))
    return hints


def _sign_of(connection: duckdb.DuckDBPyConnection, sql: str, name: str) -> Hint | None:
    """What to write for a column whose every value is a number with one sign of a currency, or of per cent, at it."""
    column, text = quote(name), f"trim({quote(name)})"
    sign = f"regexp_extract({text}, '[{SIGNS}]')"
    rest = f"trim(replace({text}, {sign}, ''))"
    number = f"regexp_full_match(replace({rest}, ',', ''), {literal(_NUMBER.format(point='[.]'))})"
    query = f"select count(distinct {sign}), min({sign}), bool_and({sign} <> '' and {number}), min({column}) from ({sql})"
    n_signs, found, are_all, example = run(connection, f"{query} where {column} is not null").fetchall()[0]
    if n_signs != 1 or not are_all:
        return None
    plain = f"replace(replace({column}, '{found}', ''), ',', '')"
    words = (
        f"{name} has numbers written as {example}, which are read as text; a query makes numbers of them: line_items: query.sql with "
        f"select * replace (cast({plain} as double) as {column}) from source"
    )
    return Hint(words, None, "")
