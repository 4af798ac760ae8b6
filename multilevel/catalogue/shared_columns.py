"""Columns that several published tables have, the kinds of columns, and when values are null, in words."""

from __future__ import annotations

from multilevel.catalogue.column import Column

LINK = "link scale"
OUTCOME = "outcome"
INTERVAL = "bound of the study's equal-tailed interval"
NEVER_SEEN = "null for the row of a level never seen and not named"
LIKELIHOOD_LINEAR = "null unless the engine is likelihood and the family gaussian"
NO_LIMIT = "null where the profile likelihood does not bound the quantity, and for undefined correlations"
NO_CORRELATION = "null for the correlation of an effect whose variance is zero"
NOT_ESTIMABLE = "null where not estimable or separated"
NO_MEMBERS = "null where the study names no `sampled` column inside the factor, and for new levels"
NO_SIBLINGS = "null for new levels, where the factor is not nested, and inside a parent with levels that `privacy` suppresses"
UNDETERMINED = (
    "null for new levels, where the outcomes of a level are all alike (shares, counts of zero), and for a factor without an intercept"
)


def number(name: str, description: str, unit: str, null: str | None = None, low: float | None = None, high: float | None = None) -> Column:
    """A column of doubles, with its bounds."""
    return Column(name, "float64", description, unit, null, minimum=low, maximum=high)


def label(name: str, description: str, null: str | None = None, allowed: tuple[str, ...] | None = None) -> Column:
    """A column of text."""
    return Column(name, "string", description, null_rule=null, allowed=allowed)


def count(name: str, description: str, unit: str = "line items", null: str | None = None, low: float = 0) -> Column:
    """A column of whole numbers."""
    return Column(name, "int64", description, unit, null, minimum=low)


COMMON: tuple[Column, ...] = (
    label("study", "name of the study"),
    Column("as_of", "date", "the day the estimates speak for", "day"),
    label("run_id", "the run that made the row"),
    label("engine", "how the model was fitted", allowed=("bayesian", "likelihood")),
    label("pooling", "partial, or one of the two extremes it lies between", allowed=("complete", "none", "partial")),
)

IS_NEW = Column("is_new", "bool", "true for a level or combination that was never seen: its effect is integrated over its distribution")
FACTOR = label("grouping_factor", "the grouping factor, as the formula names it (`department:category`)")
LEVEL = label("level", "the level, as DuckDB casts it to text; of a nested factor the innermost column's", NEVER_SEEN)
PARENT = label("parent_level", "the level of the outer column or columns", "null where the factor is not nested")

PART = label(
    "part",
    "which part of a two-part (hurdle) model: occurrence, whether the outcome is above zero, or amount, how much where it is",
    "null where the model has one part",
    ("occurrence", "amount"),
)

VARIANCE_UNCERTAINTY = label(
    "variance_uncertainty",
    "how `lower` and `upper` carry what is unknown of the variances: `expansion` to second order about their estimates; `integration` over "
    "their distribution, where a factor has fewer than 10 levels or a standard deviation is less than 3 of its standard errors from zero; "
    "`posterior` draws",
    "null where they are held at their estimates: a `diagnostics` row `theta_uncertainty` says why",
    ("expansion", "integration", "posterior"),
)
