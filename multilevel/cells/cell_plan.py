"""Which columns make the cell key, and what is kept of each cell, by family: decided before any row is read.

Both ways to compute cells read this plan: the DuckDB query (``groupwise.compression``) and, in memory, ``multilevel.cells.from_rows``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from multilevel.cells.column_facts import Schema
from multilevel.errors import DataError, FormulaError
from multilevel.families.registry import family_named, family_names, has_two_parts, is_linear, statistics_of
from multilevel.formula.columns import columns_in, formula_columns, grouping_columns, predictor_expressions
from multilevel.formula.labels import expression_label
from multilevel.formula.parse import is_log
from multilevel.formula.tree import Call, Column, Expression, Formula, Number, Operation, Term

MOST_OUTCOMES = 20_000
"""Different (cell, outcome) pairs up to which cells keep single rows' outcomes: each costs leave-one-row-out half a millisecond."""


@dataclass(frozen=True)
class LevelMean:
    """The mean of ``value`` over all rows of a level, the level named by ``columns``: what ``within`` and ``between`` need."""

    value: Expression
    columns: tuple[str, ...]

    @property
    def label(self) -> str:
        """Same as that of the ``between()`` that shows it."""
        return expression_label(Call("between", (self.value, *(Column(name) for name in self.columns))))


@dataclass(frozen=True)
class CellPlan:
    """What one study keeps.

    Attributes
    ----------
    family, log_outcome, known_sigma : as in ``CellStatistics``.
    outcome : what is averaged (for ``log(y)`` the whole call); ``raw_outcome`` what is summed (y itself).
    trials, weights, standard_error, offsets : the rest of the response and the offsets.
    groups : grouping columns, cast to text.
    keys : columns and ``bin()`` calls to group by; every label and number is a function of these (and of level means).
    labels : categorical predictors; numbers : numeric predictors fixed by the key.
    features : products of numeric expressions kept as moments (gaussian).
    level_means : what ``within`` and ``between`` need.
    """

    family: str
    log_outcome: bool
    known_sigma: bool
    outcome: Expression
    raw_outcome: Expression
    trials: Expression | None
    weights: str | None
    standard_error: str | None
    offsets: tuple[Expression, ...]
    groups: tuple[str, ...]
    keys: tuple[Expression, ...]
    labels: tuple[Expression, ...]
    numbers: tuple[Expression, ...]
    features: tuple[tuple[Expression, ...], ...]
    level_means: tuple[LevelMean, ...]

    @property
    def feature_labels(self) -> tuple[str, ...]:
        """Labels of ``features``."""
        return tuple(feature_label(product) for product in self.features)

    @property
    def means_from_cells(self) -> tuple[LevelMean, ...]:
        """Level means that the cells themselves give: their columns are in the key, and no product with a row's value needs them."""
        in_products = {level_mean_of(e) for product in self.features if len(product) > 1 for e in product if is_level_mean(e)}
        keys = {key.name for key in self.keys if isinstance(key, Column)}
        return tuple(mean for mean in self.level_means if mean not in in_products and keys.issuperset(mean.columns))

    def centred_feature(self, product: tuple[Expression, ...]) -> LevelMean | None:
        """The level mean to take off a feature's mean after aggregation, where the feature is a ``within`` that needs no row-level join."""
        if len(product) != 1 or not is_level_mean(product[0]):
            return None
        mean = level_mean_of(product[0])
        return mean if mean in self.means_from_cells else None

    @property
    def offset_in_key(self) -> bool:
        """Whether cells must have one offset each; else it is taken off the outcome, or summed as exposure."""
        return bool(self.offsets) and family_named(self.family).offset_in_key

    @property
    def has_exposure(self) -> bool:
        """Whether the offset is the logarithm of an exposure: plain means are then totals over exposures."""
        return bool(self.offsets) and not has_two_parts(self.family) and family_named(self.family).link.is_multiplicative

    @property
    def has_single_outcomes(self) -> bool:
        """Whether a row's likelihood is a function of its cell and of a discrete outcome that the sums do not give back."""
        kept = statistics_of(self.family)
        return kept.is_discrete and (kept.size != "trials" or self.trials is not None)

    @property
    def has_weights(self) -> bool:
        """Whether rows have known precisions."""
        return self.weights is not None or self.standard_error is not None


def feature_label(product: Iterable[Expression]) -> str:
    """Label of a product of numeric expressions, whichever way round it was written."""
    return ":".join(sorted(expression_label(expression) for expression in product))


def plan_cells(formula: Formula, schema: Schema, family: str) -> CellPlan:
    """Decide key and moments.

    Raises
    ------
    FormulaError
        If the response does not fit the family.
    DataError
        If a column is missing or a text column is used as a number.
    """
    check_family(formula, family)
    for column in formula_columns(formula):
        schema.kind(column)
    response = formula.response
    predictors = predictor_expressions(formula)
    for expression in (*predictors, *formula.offsets, response.expression, *([response.trials] if response.trials else [])):
        _check_numbers(expression, schema)
        _check_spread(expression, schema)
    if isinstance(response.expression, Column) and schema.kind(response.expression.name) in {"text", "temporal"}:
        name = response.expression.name
        raise DataError(f"The outcome `{name}` holds {schema.kind(name)}; it must be a number, or true and false.")
    labels = tuple(expression for expression in predictors if schema.is_categorical(expression))
    numeric = tuple(expression for expression in predictors if not schema.is_categorical(expression))
    groups = grouping_columns(formula)
    # the moments of a two-part outcome are those of its amounts: predictors join the key there too
    in_key = tuple(e for e in numeric if not is_linear(family) or _fixed_by_key(e, schema, groups))
    offsets_in_key = formula.offsets if formula.offsets and family_named(family).offset_in_key else ()
    return CellPlan(
        family=family,
        log_outcome=is_log(response.expression),
        known_sigma=response.standard_error is not None,
        outcome=response.expression,
        raw_outcome=_inside_log(response.expression),
        trials=response.trials,
        weights=response.weights,
        standard_error=response.standard_error,
        offsets=formula.offsets,
        groups=groups,
        keys=_keys(groups, labels, in_key, offsets_in_key),
        labels=labels,
        numbers=in_key,
        features=_features(formula, set(in_key) | set(labels)),
        level_means=_level_means(predictors),
    )


def check_family(formula: Formula, family: str) -> None:
    """Refuse a response that does not fit the family, before any data is read.

    Raises
    ------
    FormulaError
        With what would be right.
    """
    if family not in family_names():
        raise FormulaError(f"family: `{family}` is not one of {', '.join(family_names())}.")
    response, two_parts = formula.response, has_two_parts(family)
    if response.trials is not None and (two_parts or family_named(family).statistics.size != "trials"):
        raise FormulaError(f"`{formula.text}`: p(successes, trials) belongs to family binomial, not {family}.")
    is_linear = not two_parts and family_named(family).link.is_linear
    if not is_linear and is_log(response.expression):
        raise FormulaError(
            f"`{formula.text}`: log(y) as the outcome belongs to family gaussian; {family} has its own link, so write the outcome itself."
        )
    if not is_linear and (response.weights or response.standard_error):
        raise FormulaError(f"`{formula.text}`: weights( ) and se( ) belong to family gaussian, not {family}.")
    if two_parts and formula.offsets:
        raise FormulaError(
            f"`{formula.text}`: {family} has two linear predictors, so offset( ) would mean two things; divide the outcome by it in the "
            "line_items query, or make it a predictor."
        )


def split_term(term: Term, labels: Iterable[str], numbers: Iterable[str]) -> tuple[list[str], list[str], tuple[Expression, ...]]:
    """A term's categorical labels, key numbers and remaining (feature) expressions, given what the key fixes."""
    categorical, fixed = set(labels), set(numbers)
    names = [(expression_label(expression), expression) for expression in term.factors]
    rest = tuple(expression for name, expression in names if name not in categorical and name not in fixed)
    return [name for name, _ in names if name in categorical], [name for name, _ in names if name in fixed], rest


def is_level_mean(expression: Expression) -> bool:
    """Whether the expression is a ``within`` or ``between`` call."""
    return isinstance(expression, Call) and expression.function in {"within", "between"}


def level_mean_of(call: Expression) -> LevelMean:
    """What a ``within`` or ``between`` call refers to."""
    if not isinstance(call, Call):
        raise TypeError(f"{expression_label(call)} has no level mean")
    return LevelMean(call.arguments[0], tuple(name for column in call.arguments[1:] for name in columns_in(column)))


def _fixed_by_key(expression: Expression, schema: Schema, groups: tuple[str, ...]) -> bool:
    if isinstance(expression, Call) and expression.function in {"bin", "between"}:
        return True
    if isinstance(expression, Call) and expression.function == "within":
        return schema.is_fixed_by(expression.arguments[0], groups)
    return schema.is_fixed_by(expression, groups)


def _keys(
    groups: tuple[str, ...], labels: tuple[Expression, ...], numbers: tuple[Expression, ...], offsets: tuple[Expression, ...]
) -> tuple[Expression, ...]:
    keys: list[Expression] = [Column(name) for name in groups]
    for expression in (*labels, *numbers, *offsets):
        keys.extend(_key_parts(expression))
    return tuple(dict.fromkeys(keys))


def _key_parts(expression: Expression) -> list[Expression]:
    """The columns and bins that fix an expression's value."""
    match expression:
        case Call("bin", _) | Column(_):
            return [expression]
        case Call("between", arguments):
            return list(arguments[1:])
        case Call(_, children) | Operation(_, children):
            return [part for child in children for part in _key_parts(child)]
        case Number(_):
            return []


def _features(formula: Formula, key_expressions: set[Expression]) -> tuple[tuple[Expression, ...], ...]:
    fixed = [expression_label(expression) for expression in key_expressions]
    terms = list(formula.population) + [term for group in formula.groups for term in group.terms]
    products = [split_term(term, (), fixed)[2] for term in terms]
    return tuple({feature_label(product): product for product in products if product}.values())


def _level_means(predictors: tuple[Expression, ...]) -> tuple[LevelMean, ...]:
    return tuple(dict.fromkeys(level_mean_of(e) for e in predictors if is_level_mean(e)))


def _inside_log(expression: Expression) -> Expression:
    return expression.arguments[0] if isinstance(expression, Call) and is_log(expression) else expression


def _check_spread(expression: Expression, schema: Schema) -> None:
    """What has no variation cannot be scaled to a standard deviation of 1."""
    if isinstance(expression, Call | Operation):
        for child in expression.arguments if isinstance(expression, Call) else expression.operands:
            _check_spread(child, schema)
    if isinstance(expression, Call) and expression.function == "scale":
        mean, sd = schema.moments.get(expression_label(expression.arguments[0]), (0.0, 1.0))
        if not sd > 0:
            raise DataError(
                f"`{expression_label(expression)}` cannot be calculated: {expression_label(expression.arguments[0])} has no variation "
                f"(it is {mean:g} in every row). Leave it out, or use another window."
            )


def _check_numbers(expression: Expression, schema: Schema) -> None:
    """Text and dates cannot be calculated with, nor be an outcome."""
    if isinstance(expression, Column) or (isinstance(expression, Call) and expression.function == "C"):
        return
    inside = expression.arguments[:1] if isinstance(expression, Call) and expression.function in {"within", "between"} else (expression,)
    for name in [column for part in inside for column in columns_in(part)]:
        if schema.kind(name) in {"text", "temporal"}:
            raise DataError(
                f"The column `{name}` holds {schema.kind(name)}, so `{expression_label(expression)}` cannot be calculated. "
                f"Use {name} itself as a categorical predictor, or make a number of it in the line_items query."
            )
