"""A cell plan as one DuckDB query: grouped by the key as it is stored, everything derived and cast to text after aggregation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Template

from groupwise.compression.sql_expressions import TABLE, as_sql, counted, double
from groupwise.compression.unit_table import UnitTable
from groupwise.source.relation import quote
from multilevel.cells.cell_plan import CellPlan, LevelMean
from multilevel.cells.column_facts import Schema
from multilevel.cells.unit_sums import CELL, UNIT
from multilevel.families.registry import family_named, has_two_parts, statistics_of
from multilevel.formula.columns import columns_in
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Call, Column, Expression
from sql import read_query

FAR = 1e4
"""Ratio of a cell's mean to its standard deviation above which moments take a second pass: every digit of it costs one digit of theirs."""

TINY = 1e-14
"""Standard deviation of a cell's values relative to their mean, below which they are the same value (``CellStatistics.is_fixed``)."""

LOST = "lost_digits"
"""Column that says of a cell whether its moments need the second pass."""

ANCHOR = "of_"
"""Prefix of the columns about whose values a cell's moments are taken."""

INEXACT = "inexact."
"""Prefix of the columns that count values which a double does not hold."""

PARTITION = "partition_name"
"""Column that names the partition which a cell, or a sum by cell and unit, is of."""

LEVEL_MEAN = "level_mean_"
"""Begins the names of what is kept of level means."""

LINTER_NOTE = "  -- noqa: ST03"
"""For the linter of the template only."""


@dataclass(frozen=True)
class CellQuery:
    """The query, and the constants (``once.<name>``) among its columns."""

    sql: str
    once: tuple[str, ...]


@dataclass(frozen=True)
class _Parts:
    """Select lists: ``inputs`` alias -> SQL over rows; ``aggregates`` alias -> SQL over inputs; ``columns`` name -> SQL over cells.

    ``anchors`` : input -> SQL over a cell's inputs, a value about which the input is taken before it is aggregated.
    """

    inputs: dict[str, str]
    aggregates: dict[str, str]
    columns: dict[str, str]
    anchors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CellParts:
    """A plan as select lists: ``inputs`` over the study's rows, ``aggregates`` over inputs, ``columns`` over cells, each name -> SQL.

    keys : what is grouped by -> its name among inputs, aggregates and cells. anchors : as of a second pass; none else.
    joined, from_cells : level means that are joined on to the rows, and that the cells give -> the beginning of their columns' names.
    """

    keys: dict[Expression, str]
    inputs: dict[str, str]
    aggregates: dict[str, str]
    columns: dict[str, str]
    anchors: dict[str, str]
    joined: dict[LevelMean, str]
    from_cells: dict[LevelMean, str]


def cell_parts(plan: CellPlan, schema: Schema, *, with_outcomes: bool = False, two_passes: bool = False) -> CellParts:
    """What ``compile_cells`` makes its query of; parameters as there."""
    keys = {key: f"key_{i}" for i, key in enumerate(plan.keys)}
    means = {mean: f"{LEVEL_MEAN}{i}" for i, mean in enumerate(plan.level_means)}
    from_cells = {mean: alias for mean, alias in means.items() if mean in plan.means_from_cells}
    joined = {mean: alias for mean, alias in means.items() if mean not in from_cells}
    rows = _Rows(schema, {_between(mean): f"{alias}.mean" for mean, alias in joined.items()})
    key_parts = _key_parts(plan, schema, keys, means, rows)
    if has_two_parts(plan.family):
        statistics = _hurdle(plan, rows)
    elif statistics_of(plan.family).moments:
        statistics = _gaussian(plan, rows, from_cells, two_passes=two_passes or plan.has_weights)
    else:
        statistics = _counts(plan, rows, cell_known(keys, means), with_outcomes and plan.has_single_outcomes)
    exactness = _exactness(plan, schema)
    return CellParts(
        keys=keys,
        inputs=key_parts.inputs | statistics.inputs | exactness.inputs,
        aggregates=key_parts.aggregates | {"n": "cast(count(*) as bigint)"} | statistics.aggregates | exactness.aggregates,
        columns=key_parts.columns | statistics.columns | exactness.columns,
        anchors=statistics.anchors,
        joined=joined,
        from_cells=from_cells,
    )


def compile_cells(
    plan: CellPlan,
    schema: Schema,
    study_sql: str,
    *,
    with_outcomes: bool = False,
    two_passes: bool = False,
    with_key: bool = False,
    units: UnitTable | None = None,
    partition: str | None = None,
) -> CellQuery:
    """The query that reduces the study's rows to cells.

    Parameters
    ----------
    plan, schema : from ``plan_cells`` and ``groupwise.compression.column_scan.read_schema``.
    study_sql : one complete SELECT that gives the study's rows.
    with_outcomes : keep single rows' outcomes too, where the plan's family has such.
    two_passes : gaussian moments about every cell's own mean, as weighted ones always are; the rows are read twice.
    with_key : name every cell by a hash of its key. units : sums by cell and unit instead, of the units in that table.
    partition : SQL over ``study``; cells are those of each of its values, named in the column ``PARTITION``.
    """
    parts = cell_parts(plan, schema, with_outcomes=with_outcomes, two_passes=two_passes)
    inputs, aggregates, columns = parts.inputs, parts.aggregates, parts.columns
    if with_key or units is not None:
        columns = columns | {CELL: cell_key(parts)}
    relation, key_names = _relation(parts.joined, schema), list(parts.keys.values())
    if units is not None:
        inputs, aggregates, columns = inputs | {UNIT: units.input}, aggregates | {UNIT: UNIT}, units.kept(columns)
        relation += units.join
        key_names.append(UNIT)
    if partition is not None:
        named = (inputs, partition), (aggregates, PARTITION), (columns, PARTITION)
        inputs, aggregates, columns = ({**part, PARTITION: sql} for part, sql in named)
        key_names.append(PARTITION)
    shown = {"inputs": listed(inputs) if inputs else "1 as one", "statistics": listed(aggregates), "columns": listed(columns)}
    tables = {"relation": relation, "cells": cells_with_means(parts), "values": _values(inputs, parts.anchors, key_names)}
    sql = render("cell_statistics", study_rows=subquery(study_sql), **shown, **tables)
    if units is not None:
        sql = f"select * from (\n{sql}\n) as by_unit where {UNIT} is not null"
    return CellQuery(sql, tuple(name.removeprefix("once.") for name in columns if name.startswith("once.")))


def render(name: str, **parts: str) -> str:
    """``sql/<name>.sql`` with its $placeholders filled in."""
    return Template(read_query(name).replace(LINTER_NOTE, "")).substitute(parts)


def subquery(study_sql: str) -> str:
    """The study's rows as a table expression."""
    return f"(\n{study_sql.rstrip().rstrip(';')}\n) as study_rows"


@dataclass(frozen=True)
class _Rows:
    """SQL over the study's rows."""

    schema: Schema
    known: Mapping[Expression, str]

    def sql(self, expression: Expression) -> str:
        return as_sql(expression, self.schema.moments, self.known)

    def product(self, expressions: tuple[Expression, ...]) -> str:
        return " * ".join(self.sql(expression) for expression in expressions)

    def total(self, expressions: tuple[Expression, ...]) -> str:
        return " + ".join(self.sql(expression) for expression in expressions) or "0e0"


def listed(parts: Mapping[str, str]) -> str:
    """A select list, one column a line; what has its name already is not named again."""
    return ",\n        ".join(sql if sql in {alias, quote(alias)} else f"{sql} as {quote(alias)}" for alias, sql in parts.items())


def _between(mean: LevelMean) -> Call:
    return Call("between", (mean.value, *(Column(name) for name in mean.columns)))


def _relation(means: Mapping[LevelMean, str], schema: Schema) -> str:
    """The study's rows, with the mean of each level joined on; ``is not distinct from`` so that no row can fall out."""
    joins = ["study"]
    for mean, alias in means.items():
        columns = ", ".join(quote(name) for name in mean.columns)
        match = " and ".join(f"study.{quote(name)} is not distinct from {alias}.{quote(name)}" for name in mean.columns)
        value = as_sql(mean.value, schema.moments)
        joins.append(f"inner join (select {columns}, favg({value}) as mean from study group by {columns}) as {alias} on {match}")
    return "\n    ".join(joins)


def cell_key(parts: CellParts) -> str:
    """SQL over cells: what names a cell."""
    return f"hash({', '.join(parts.keys.values())})"


def cells_with_means(parts: CellParts, whole: str = "cell") -> str:
    """The table expression ``cell``, with the level means that the cells ``whole`` give joined on."""
    joins = ["cell"]
    for mean, alias in parts.from_cells.items():
        columns = [parts.keys[Column(name)] for name in mean.columns]
        named = ", ".join(f"{column} as {alias}_{column}" for column in columns)
        match = " and ".join(f"cell.{column} is not distinct from {alias}_{column}" for column in columns)
        average = f"sum(n * {alias}_in_cell) / sum(n) as {alias}"
        joins.append(f"inner join (select {named}, {average} from {whole} group by {', '.join(columns)}) as of_{alias} on {match}")
    return "\n    ".join(joins)


def _values(inputs: Mapping[str, str], anchors: Mapping[str, str], keys: Sequence[str]) -> str:
    """The inputs, those with an anchor less that of their cell: a second pass, in which large numbers cost no digits."""
    if not anchors:
        return "input"
    shown = [f"input.{alias} - {ANCHOR}{alias} as {alias}, {ANCHOR}{alias}" if alias in anchors else f"input.{alias}" for alias in inputs]
    named = [f"{key} as {ANCHOR}{key}" for key in keys]
    found = [f"{sql} as {ANCHOR}{alias}" for alias, sql in anchors.items()]
    by = f" group by {', '.join(keys)}" if keys else ""
    match = " and ".join(f"input.{key} is not distinct from {ANCHOR}{key}" for key in keys) or "true"
    columns, of_cell = (",\n        ".join(part) for part in (shown, [*named, *found]))
    anchor = f"(\n        select {of_cell} from input{by}\n    ) as anchor"
    return f"(\n        select {columns}\n    from input inner join {anchor} on {match}\n    ) as centred"


def cell_known(keys: Mapping[Expression, str], means: Mapping[LevelMean, str]) -> dict[Expression, str]:
    """What is known of a cell once its rows are gone."""
    known: dict[Expression, str] = {_between(mean): alias for mean, alias in means.items()}
    return known | {key: f"cast({alias} as double)" for key, alias in keys.items()}


def _key_parts(plan: CellPlan, schema: Schema, keys: Mapping[Expression, str], means: Mapping[LevelMean, str], rows: _Rows) -> _Parts:
    inputs = {alias: f"study.{quote(key.name)}" if isinstance(key, Column) else rows.sql(key) for key, alias in keys.items()}
    aggregates = {alias: alias for alias in keys.values()}
    for mean, alias in means.items():
        if mean in plan.means_from_cells:
            inputs[f"{alias}_of_row"] = rows.sql(mean.value)
            aggregates[f"{alias}_in_cell"] = f"favg({alias}_of_row)"
        else:
            inputs[alias] = f"{alias}.mean"
            aggregates[alias] = f"any_value({alias})"
    known = cell_known(keys, means)
    columns = {f"g.{name}": _level(Column(name), keys[Column(name)], schema) for name in plan.groups}
    for expression in plan.labels:
        inner = expression.arguments[0] if isinstance(expression, Call) else expression
        value = keys[inner] if inner in keys else as_sql(inner, schema.moments, known)
        columns[f"c.{expression_label(expression)}"] = _level(inner, value, schema)
    for expression in plan.numbers:
        columns[f"x.{expression_label(expression)}"] = as_sql(expression, schema.moments, known)
    return _Parts(inputs, aggregates, columns)


def _level(expression: Expression, value: str, schema: Schema) -> str:
    """Levels as text; whole numbers stay numbers in the file, which a million customers read ten times faster."""
    whole = isinstance(expression, Column) and expression.name in schema.integers
    return f"cast({value} as {'bigint' if whole else 'varchar'})"


def _exactness(plan: CellPlan, schema: Schema) -> _Parts:
    """Per wide column that is calculated with, how many of a cell's rows have a value that a double does not hold: a microsecond's or a
    nanosecond's digits would be gone before anything could be centred."""
    used = (plan.outcome, plan.raw_outcome, *([plan.trials] if plan.trials else []), *plan.numbers, *plan.offsets)
    names = [name for e in (*used, *(e for product in plan.features for e in product)) for name in columns_in(e)]
    names += [name for name in (plan.weights, plan.standard_error) if name]
    wide = [name for name in dict.fromkeys(names) if name in schema.wide]
    inputs = {
        f"inexact_{i}": f"try_cast(cast({TABLE}.{quote(name)} as double) as {schema.wide[name]}) is distinct from {TABLE}.{quote(name)}"
        for i, name in enumerate(wide)
    }
    aggregates = {f"{INEXACT}{name}": f"count(*) filter (inexact_{i})" for i, name in enumerate(wide)}
    return _Parts(inputs, aggregates, {name: quote(name) for name in aggregates})


def _counts(plan: CellPlan, rows: _Rows, known: Mapping[Expression, str], with_outcomes: bool) -> _Parts:
    """Families that keep sums: sizes, totals and constants."""
    outcome = rows.sql(plan.raw_outcome) if plan.trials is None else counted(plan.raw_outcome, rows.schema.moments, rows.known)
    inputs = {"outcome": outcome}
    aggregates = {"total": "sum(outcome)"}
    if plan.trials is not None:
        inputs["trials"] = rows.sql(plan.trials)
        aggregates["size"] = "sum(trials)"
    elif plan.offsets and not plan.offset_in_key:
        inputs["log_exposure"] = rows.total(plan.offsets)
        aggregates["size"] = "sum(exp(log_exposure))"
    once = family_named(plan.family).row_sums(has_trials=plan.trials is not None, has_offset=bool(plan.offsets))
    aggregates |= {f"once.{name}": "cast(0 as double)" if part.sql is None else f"sum({part.sql})" for name, part in once.items()}
    columns = {"n": "n", "total": "total"} | ({"size": "size"} if "size" in aggregates else {})
    own_size = "trials" if "trials" in inputs else "exp(log_exposure)" if "log_exposure" in inputs else None
    aggregates |= (observed := _observed("outcome", own_size))
    columns |= {name: quote(name) for name in observed}
    if with_outcomes:
        size = "trials" if "trials" in inputs else "exp(log_exposure)" if "log_exposure" in inputs else "1"
        aggregates["outcomes"] = f"histogram(struct_pack(value := cast(outcome as double), size := cast({size} as double)))"
        columns["outcomes"] = "outcomes"
    if plan.offset_in_key:
        columns["offset"] = " + ".join(as_sql(e, rows.schema.moments, known) for e in plan.offsets)
        if plan.has_exposure:
            columns["observed.size"] = f"exp({columns['offset']})"
    return _Parts(inputs, aggregates, columns | {f"once.{name}": quote(f"once.{name}") for name in once})


def _observed(outcome: str, size: str | None) -> dict[str, str]:
    """Moments of single rows' outcomes (an input), and of their ``size`` (SQL) where it is not 1."""
    found = {"observed.mean": f"favg({outcome})", "observed.square": f"var_pop({outcome}) * count(*)"}
    if size is not None:
        found["observed.size"] = f"favg({size})"
        found["observed.size_square"] = f"var_pop({size}) * count(*)"
        found["observed.product"] = f"covar_pop({outcome}, {size}) * count(*)"
    return found


def _hurdle(plan: CellPlan, rows: _Rows) -> _Parts:
    """Rows, those above zero, their sum and the moments of their logarithms: both parts of the model in one pass."""
    outcome = rows.sql(plan.raw_outcome)
    inputs = {"outcome": outcome, "log_outcome": f"case when {outcome} > 0 then ln({outcome}) end"}
    aggregates = {
        "weight": "cast(count(log_outcome) as double)",
        "total": "sum(outcome)",
        "once.sum_log_outcome": "coalesce(sum(log_outcome), 0e0)",
        "once.n_negative": "cast(count(*) filter (outcome < 0) as double)",
    }
    aggregates |= _observed("outcome", None)
    if statistics_of(plan.family).moments:
        aggregates["mean.0"] = "coalesce(avg(log_outcome), 0e0)"
        aggregates["cross.0.0"] = "coalesce(var_pop(log_outcome) * count(log_outcome), 0e0)"
    return _Parts(inputs, aggregates, {"n": "n"} | {name: quote(name) for name in aggregates})


def _gaussian(plan: CellPlan, rows: _Rows, means: Mapping[LevelMean, str], *, two_passes: bool) -> _Parts:
    """Means (favg: compensated sums, which keep the digits of values far from zero) and centred cross-products of features and outcome.

    In one pass a covariance far from zero loses digits, however it is updated (Chan, Golub and LeVeque 1983, section 3).
    """
    centred = {i: mean for i, mean in enumerate(map(plan.centred_feature, plan.features)) if mean is not None}
    inputs = {f"v{i}": rows.sql(centred[i].value) if i in centred else rows.product(p) for i, p in enumerate(plan.features)}
    last = len(inputs)
    outcome = rows.sql(plan.outcome)
    inputs[f"v{last}"] = f"{outcome} - ({rows.total(plan.offsets)})" if plan.offsets else outcome
    aggregates: dict[str, str] = {}
    observed: dict[str, str] = {}
    once: dict[str, str] = {}
    if plan.log_outcome or plan.offsets or plan.has_weights:
        inputs["raw"] = rows.sql(plan.raw_outcome)
        aggregates |= {"total": "sum(raw)"} | (observed := _observed("raw", None))
    if plan.log_outcome:
        inputs["response"] = outcome
        once["log_jacobian"] = "-sum(response)"
    pairs = [(i, j) for i in range(last + 1) for j in range(i, last + 1)]
    if plan.has_weights:
        inputs["weight"] = rows.sql(Column(plan.weights)) if plan.weights else f"pow({rows.sql(Column(str(plan.standard_error)))}, -2)"
        moments, columns = _weighted(last, pairs)
        once["log_weights"] = "sum(ln(weight))"
    else:
        moments = {f"mean.{i}": f"favg(v{i})" for i in range(last + 1)}
        moments |= {f"cross.{i}.{j}": f"var_pop(v{i}) * count(*)" if i == j else f"covar_pop(v{i}, v{j}) * count(*)" for i, j in pairs}
        columns = {name: quote(name) for name in moments} | ({} if two_passes else {LOST: _lost_digits(last)})
    anchors = {f"v{i}": _anchor(f"v{i}", weighted=plan.has_weights) for i in range(last + 1)} if two_passes else {}
    if anchors:
        moments |= {f"{ANCHOR}v{i}": f"any_value({ANCHOR}v{i})" for i in range(last + 1)}
        columns |= {f"mean.{i}": f"{ANCHOR}v{i} + {columns[f'mean.{i}']}" for i in range(last + 1)}
    # within(x, g): the spread of x, its mean moved by that of the level
    columns |= {f"mean.{i}": f"{columns[f'mean.{i}']} - {means[mean]}" for i, mean in centred.items()}
    aggregates |= moments | {f"once.{name}": sql for name, sql in once.items()}
    kept = {name: quote(name) for name in ("total", *observed) if name in aggregates}
    columns = {"n": "n"} | kept | columns
    return _Parts(inputs, aggregates, columns | {f"once.{name}": quote(f"once.{name}") for name in once}, anchors)


def _lost_digits(last: int) -> str:
    """SQL: whether a moment is so small relative to the mean that a single pass lost digits; below ``TINY`` it is rounding."""
    size = [f'n * "mean.{i}" * "mean.{i}"' for i in range(last + 1)]
    return " or ".join(
        f'("cross.{i}.{i}" > {double(TINY**2)} * {size[i]} and "cross.{i}.{i}" < {double(FAR**-2)} * {size[i]})' for i in range(last + 1)
    )


def _anchor(value: str, *, weighted: bool) -> str:
    """A cell's mean to rounding; the value itself where it does not vary, so that its moments are zero and not rounding."""
    mean = f"fsum(weight * {value}) / fsum(weight)" if weighted else f"favg({value})"
    return f"case when min({value}) = max({value}) then min({value}) else {mean} end"


def _weighted(last: int, pairs: list[tuple[int, int]]) -> tuple[dict[str, str], dict[str, str]]:
    """DuckDB has no weighted variance: weighted sums about a cell's anchor, moved to its own mean after aggregation.

    Columns name what they need once: an expression written out in every product would take DuckDB long to plan.
    """
    aggregates = {"weight": "fsum(weight)"} | {f"first_{i}": f"fsum(weight * v{i})" for i in range(last + 1)}
    aggregates |= {f"second_{i}_{j}": f"sum(weight * v{i} * v{j})" for i, j in pairs}
    columns = {"weight": "weight"} | {f"mean.{i}": f"first_{i} / weight" for i in range(last + 1)}
    columns |= {f"cross.{i}.{j}": f"second_{i}_{j} - first_{i} * first_{j} / weight" for i, j in pairs}
    return aggregates, columns
