"""What can be known to go wrong from the design alone, each with its own words: refused where no fit is possible, else a warning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from multilevel.cells.statistics import CellStatistics
from multilevel.design.aliasing import NOTHING_LEFT, independent_columns, variance_left
from multilevel.design.coding import CodedColumn, code_terms
from multilevel.design.factors import full_labels, parent_levels
from multilevel.design.identification import check_identified
from multilevel.design.model import Design, DesignColumn, Factor, GroupBlock
from multilevel.design.predictor_kinds import rounding_of
from multilevel.design.table_keys import check_keys
from multilevel.design.unit_free import unit_of
from multilevel.design.variation import check_variation
from multilevel.errors import FitError
from multilevel.families.registry import family_named
from multilevel.formula.columns import columns_in
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Column, Formula

type WarningKind = Literal[
    "no_variation",
    "aliased",
    "few_levels",
    "level_per_row",
    "constant_slope",
    "no_average",
    "far_from_zero",
    "nearly_constant",
    "identified",
    "varies_within",
]

NEARLY = 0.99
"""Share of a factor's levels within which a predictor is constant that is suspicious when it is not all of them."""

FAR = 5.0
"""Standard deviations between a predictor's mean and 0 from which a varying intercept is an extrapolation."""

PRODUCT_FAR = 1e4
"""Standard deviations between zero and the mean of a number from which products and powers of it lose digits that matter."""

FEWEST_DIGITS = 1e-9
"""Smallest share of a product's variance that the preceding terms may leave unexplained: moments hold 15 digits."""

NAMED = 5
"""Levels or columns that a warning names."""


@dataclass(frozen=True)
class DesignWarning:
    """Something that changes how the numbers should be read; ``kind`` names it in ``diagnostics``, ``kind[factor]`` where it is of one."""

    kind: WarningKind
    message: str
    factor: str | None = None

    @property
    def check(self) -> str:
        """The name of its row in ``diagnostics``."""
        return self.kind if self.factor is None else f"{self.kind}[{self.factor}]"


def check_design(formula: Formula, design: Design) -> tuple[DesignWarning, ...]:
    """Check a design before anything is fitted.

    Raises
    ------
    FitError
        Labels that stand for two things, one level in a factor, factors nested the wrong way round or confounded, more effects than
        rows, variances that are not identified, outcomes that do not vary, an offset that is not finite.
    """
    check_keys(formula, design)
    _check_offset(design.cells)
    _check_products_far_from_zero(formula, design)
    for block in design.blocks:
        _check_levels(block)
    _check_confounding(design)
    _check_room(design)
    check_identified(design)
    check_variation(design, expression_label(formula.response.expression))
    return (
        *_left_out(formula, design),
        *_few_levels(design),
        *_level_per_row(design),
        *_same_counts(design, expression_label(formula.response.expression)),
        *_constant_slopes(design),
        *_no_average(formula, design),
        *_far_from_zero(design),
        *_nearly_constant(design),
    )


def _check_offset(cells: CellStatistics) -> None:
    bad = ~np.isfinite(cells.offset) | ~np.isfinite(cells.size)
    if family_named(cells.family).statistics.size == "exposure":
        bad |= cells.size <= 0
    if bad.any():
        raise FitError(
            f"The offset is not finite in {int(bad.sum())} of {cells.n_cells} cells ({int(cells.n[bad].sum())} rows): "
            "an exposure of 0 has no logarithm. Leave such rows out with `where`, or mend the column."
        )


def _check_products_far_from_zero(formula: Formula, design: Design) -> None:
    """A product or power of numbers far from zero is, to all the digits of a double, a multiple of the numbers themselves."""
    coded = code_terms(formula.population, design.cells)
    formed = {column.label: found for column in coded if (found := _formed_far_from_zero(column, design.cells)) is not None}
    if not formed:
        return
    for column, left in zip(coded, variance_left(coded, design.cells), strict=True):
        if column.label in formed and left < (FEWEST_DIGITS if column.feature else NOTHING_LEFT):
            raise FitError(
                f"{column.label} cannot be told from the terms before it: it is formed of numbers far from zero "
                f"({formed[column.label]}), so that what it adds to those terms is below the precision of a double. Subtract a "
                "typical value first, in the line_items query or in the formula: I((x - 2000) ** 2) for I(x ** 2), center(x):z for x:z."
            )


def _formed_far_from_zero(column: CodedColumn, cells: CellStatistics) -> str | None:
    """What a calculated number of the column is formed of and lies far from zero, with its mean and sd; None where there is no such."""
    plain = [factor.name for factor in column.term.factors if isinstance(factor, Column)]
    calculated = [label for label in column.numbers if label not in plain]
    if not calculated:
        return None
    inside = {name for factor in column.term.factors for name in columns_in(factor)}
    for label in [*calculated, *sorted(inside)]:
        if label not in cells.numbers and label not in cells.features:
            continue
        centre, spread = unit_of(cells, label)
        if abs(centre) > PRODUCT_FAR * spread:
            return f"{label}, mean {centre:.6g}, sd {spread:.3g}"
    return None


def _check_levels(block: GroupBlock) -> None:
    factor = block.factor
    if block.n_seen_levels < 2:
        only = factor.levels[factor.codes[0]]
        raise FitError(
            f"The grouping factor {factor.name} has one level ({only}): how much levels differ cannot be learned from one. "
            "Leave the term out, or widen the window or `where`."
        )


def _check_confounding(design: Design) -> None:
    labels: dict[str, tuple[Factor, set[str]]] = {}
    for block in design.blocks:
        labels.setdefault(block.factor.name, (block.factor, set[str]()))[1].update(column.label for column in block.columns)
    for (first, first_terms), (second, second_terms) in combinations(labels.values(), 2):
        if first.n_levels != second.n_levels or not first_terms & second_terms or parent_levels(first, second) is None:
            continue
        raise FitError(_confounded(first, second))


def _confounded(first: Factor, second: Factor) -> str:
    outer, inner = sorted((first, second), key=lambda factor: len(factor.columns))
    if outer.columns == inner.columns[:-1]:
        a, b = ":".join(outer.columns), inner.columns[-1]
        return (
            f"(1 | {a}/{b}) is nested the wrong way round: every {a} is within one {b} only, so {inner.name} has the same "
            f"{inner.n_levels} levels as {a}. Write (1 | {b}/{a})."
        )
    return (
        f"The grouping factors {first.name} and {second.name} are the same in these data: each of their {first.n_levels} levels has one "
        "counterpart in the other, so their effects cannot be told apart. Keep one of them."
    )


def _check_room(design: Design) -> None:
    """As lme4: with a residual of its own, a model needs more rows than effects per term."""
    cells = design.cells
    if not cells.has_moments or cells.known_sigma:
        return
    for block in design.blocks:
        if block.n_seen_levels * len(block.columns) >= cells.n_rows:
            raise FitError(
                f"{block.factor.name} has {block.n_seen_levels} levels with {len(block.columns)} effects each for {cells.n_rows} rows: "
                "the effects and the residual cannot be told apart. Use a coarser factor, or se( ) if the residual sds are known."
            )
    if cells.n_rows <= len(design.population):
        raise FitError(
            f"{cells.n_rows} rows cannot carry {len(design.population)} coefficients and a residual: no degrees of freedom are left."
        )


def _left_out(formula: Formula, design: Design) -> Iterator[DesignWarning]:
    if not design.aliased:
        return
    never, determined = [], []
    for column in code_terms(formula.population, design.cells):
        if column.label not in design.aliased:
            continue
        constant = column.feature == 0 and np.all(column.multiplier == column.multiplier[0])
        if not constant:
            determined.append(column.label)
        elif column.multiplier[0] == 0 and "[" in column.label:
            never.append(column.label)
        else:
            message = f"{column.label} has no variation in these rows (it is {column.multiplier[0]:g} everywhere), so it was left out."
            yield DesignWarning("no_variation", message)
    if never:
        yield DesignWarning("no_variation", f"{_named(never)}: no row is of this kind, so it was left out.")
    if determined:
        message = f"{_named(determined)}: determined by the terms before, so left out; the coefficients of those stand for it too."
        yield DesignWarning("aliased", message)


def _few_levels(design: Design) -> Iterator[DesignWarning]:
    for block in design.blocks:
        k, levels = len(block.columns), block.factor.n_levels
        if k > 1 and levels <= max(k, 2):
            terms = ", ".join(column.label for column in block.columns)
            yield DesignWarning(
                "few_levels",
                f"{block.factor.name} has {levels} levels, too few to learn how {terms} go together: the correlation rests on the "
                "prior, or is +1 or -1. Write || for | to leave correlations out.",
            )


def _level_per_row(design: Design) -> Iterator[DesignWarning]:
    """Families whose own variation is hardly different from an effect for every row; under gaussian it is not different at all."""
    cells = design.cells
    family = family_named(cells.family)
    single = family.statistics.size == "trials" and bool(cells.size.sum() <= cells.n_rows)
    if not family.has_dispersion and not single:
        return
    own = "chance of a single 0 or 1" if single else family.scale
    advice = f", or {family.words.level_per_row}" if family.words.level_per_row else ""
    for block in design.blocks:
        if block.n_effects >= cells.n_rows:
            yield DesignWarning(
                "level_per_row",
                f"{block.factor.name} has {block.n_effects:,} effects for {cells.n_rows:,} rows: how much they differ can hardly be told "
                f"from the {own}, and sampling may not converge. Use a coarser factor{advice}.",
            )
            if single:
                message = f"{block.factor.name}: single outcomes of 0 or 1 do not tell how far levels of one row each differ."
                yield DesignWarning("identified", message, block.factor.name)


def _same_counts(design: Design, outcome: str) -> Iterator[DesignWarning]:
    """Counts that are the same in all rows of each level of a factor, several rows in some."""
    outcomes = design.cells.outcomes
    family = family_named(design.cells.family)
    if outcomes is None or family.statistics.size == "trials":
        return
    rate = outcomes.value / outcomes.size
    for factor in {block.factor.name: block.factor for block in design.blocks}.values():
        level = factor.codes[outcomes.cell]
        highest, lowest = np.full(factor.n_levels, -np.inf), np.full(factor.n_levels, np.inf)
        np.maximum.at(highest, level, rate)
        np.minimum.at(lowest, level, rate)
        if np.array_equal(rate, highest[level]) and np.array_equal(rate, lowest[level]) and len(np.unique(level)) < outcomes.n.sum():
            advice = f": {family.words.regular}" if family.words.regular else ""
            message = (
                f"{outcome} is the same in all rows of each level of {factor.name}: it varies less than counts do that are drawn one by "
                f"one, so standard errors and intervals are too wide{advice}."
            )
            yield DesignWarning("varies_within", message, factor.name)


def _constant_slopes(design: Design) -> Iterator[DesignWarning]:
    """Slopes of what is the same throughout each level: no level can tell its slope from its intercept."""
    for factor, slopes in _slopes_beside_intercepts(design):
        constant = [column.label for column in slopes if not levels_with_variation(column, factor, design.cells).any()]
        if constant:
            verb, its = ("is", "its slope") if len(constant) == 1 else ("are", "their slopes")
            yield DesignWarning(
                "constant_slope",
                f"{_named(constant)} {verb} constant within every level of {factor.name}, so no level can tell {its} from its intercept: "
                f"the variances say how far levels lie apart at different values. Leave {constant[0]} out of the brackets: (1 | ...).",
            )
            yield DesignWarning(
                "identified",
                f"{factor.name}: the columns of the slopes of {_named(constant)} are multiples of those of the intercepts, so their "
                "variances are told apart only by how the spread of levels changes with the predictor.",
                factor.name,
            )


def _no_average(formula: Formula, design: Design) -> Iterator[DesignWarning]:
    """Slopes of numbers that differ between levels around nothing: no population-level coefficient says what they are on average."""
    cells, known = design.cells, {column.label for column in design.population} | set(design.aliased)
    for group, block in zip(formula.groups, design.blocks, strict=True):
        for column in code_terms(group.terms, cells):
            if column.label == "Intercept" or column.label in known or "[" in column.label:
                continue
            own = f"within({column.label}, {block.factor.columns[-1]})"
            if own in known:
                advice = f"its slopes are published as differences from that of {own}. Write {own} in the brackets too."
            elif any(label.startswith(f"within({column.label},") for label in known) or _is_spanned(column, formula, cells):
                continue
            else:
                advice = f"its slopes are taken to be 0 on average. Add {column.label} outside the brackets, unless that is meant."
            message = f"{column.label} varies by {block.factor.name} but has no coefficient outside the brackets: {advice}"
            yield DesignWarning("no_average", message)


def _is_spanned(column: CodedColumn, formula: Formula, cells: CellStatistics) -> bool:
    """Whether population columns add up to it, as x and the intercept do to center(x)."""
    return not independent_columns([*code_terms(formula.population, cells), column], cells)[-1]


def _far_from_zero(design: Design) -> Iterator[DesignWarning]:
    """Varying intercepts where no line item is: their sd and their correlation with the slope are about 0 of the predictor."""
    cells = design.cells
    for factor, slopes in _slopes_beside_intercepts(design):
        for column in slopes:
            value, spread = column.multiplier, np.zeros(cells.n_cells)
            if column.feature:
                value = value * cells.mean[:, column.feature - 1]
                spread = column.multiplier**2 * cells.cross[:, column.feature - 1, column.feature - 1]
            mean = float(np.average(value, weights=cells.n))
            sd = float(np.sqrt((cells.n * (value - mean) ** 2 + spread).sum() / cells.n.sum()))
            if (value.min() > 0 or value.max() < 0) and abs(mean) > FAR * sd > 0:
                yield DesignWarning(
                    "far_from_zero",
                    f"{column.label} lies far from 0 (mean {mean:.6g}, sd {sd:.3g}), where the intercepts of {factor.name} are: their sd "
                    f"and their correlation with the slopes of {column.label} are extrapolated. Write "
                    f"center({column.label}) for {column.label}, in the brackets too.",
                )


def _slopes_beside_intercepts(design: Design) -> Iterator[tuple[Factor, list[DesignColumn]]]:
    """Of every block with slopes whose factor has a varying intercept too."""
    with_intercept = {block.factor.name for block in design.blocks if any(column.label == "Intercept" for column in block.columns)}
    for block in design.blocks:
        slopes = [column for column in block.columns if column.label != "Intercept"]
        if slopes and block.factor.name in with_intercept:
            yield block.factor, slopes


def _nearly_constant(design: Design) -> Iterator[DesignWarning]:
    for factor in {block.factor.name: block.factor for block in design.blocks}.values():
        repeated = np.bincount(factor.codes, weights=design.cells.n, minlength=factor.n_levels) > 1
        if repeated.sum() * (1 - NEARLY) < 1:
            continue
        for column in design.population:
            varies = levels_with_variation(column, factor, design.cells) & repeated
            if 0 < varies.sum() <= (1 - NEARLY) * repeated.sum():
                yield DesignWarning("nearly_constant", _nearly_constant_message(column, factor, varies, int(repeated.sum())))


def levels_with_variation(column: DesignColumn, factor: Factor, cells: CellStatistics) -> NDArray[np.bool_]:
    """(L,) in which levels of the factor a design column takes more than one value."""
    value = column.multiplier
    varies = np.zeros(factor.n_levels, dtype=np.bool_)
    if column.feature:
        value = value * cells.mean[:, column.feature - 1]
        inside = ~cells.is_fixed(column.feature - 1) & (column.multiplier != 0)
        varies[factor.codes[inside]] = True
    some = np.empty(factor.n_levels)
    some[factor.codes] = value
    # means over the rows of a cell differ by rounding even where the rows do not
    varies[factor.codes[np.abs(some[factor.codes] - value) > rounding_of(value)]] = True
    return varies


def _nearly_constant_message(column: DesignColumn, factor: Factor, varies: NDArray[np.bool_], repeated: int) -> str:
    names = [str(name) for name in full_labels(factor)[varies]]
    return (
        f"{column.label} is constant within {repeated - len(names)} of {repeated} levels of {factor.name}, but not within {_named(names)}: "
        f"if it describes the {factor.name}, these levels hold a mistake, and it is not read as a group-level predictor until it is mended."
    )


def _named(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
