"""The published tables, six and one on request; long since it is the one list of every column's name, type, unit and null rule.

Parquet schemas and metadata (``arrow_schema``), the output suite (``check_table``), ``docs/tables.md`` and the data contract are all
generated from ``EVERY_TABLE``.
"""

from __future__ import annotations

import pyarrow as pa

from multilevel.catalogue.column import ARROW_TYPES, Column, Ordering, TableSpec
from multilevel.catalogue.column_checks import table_violations

CATALOGUE_VERSION = "2.2.0"

_LINK = "link scale"
_OUTCOME = "outcome"
_INTERVAL = "bound of the study's equal-tailed interval"
_NEVER_SEEN = "null for the row of a level never seen and not named"
_LIKELIHOOD_LINEAR = "null unless the engine is likelihood and the family gaussian"
_NO_LIMIT = "null where the profile likelihood does not bound the quantity, and for undefined correlations"
_NO_CORRELATION = "null for the correlation of an effect whose variance is zero"
_NOT_ESTIMABLE = "null where not estimable or separated"
_NO_CHANCE = "null for new levels, and where levels cannot differ"
_NO_PARENT = "null for new levels, and where the factor is nested in none"
_NO_MEMBERS = "null where the study names no `sampled` column inside the factor, and for new levels"
_UNDETERMINED = (
    "null for new levels, where the outcomes of a level are all alike (shares, counts of zero), and for a factor without an intercept"
)


def _number(name: str, description: str, unit: str, null: str | None = None, low: float | None = None, high: float | None = None) -> Column:
    return Column(name, "float64", description, unit, null, minimum=low, maximum=high)


def _label(name: str, description: str, null: str | None = None, allowed: tuple[str, ...] | None = None) -> Column:
    return Column(name, "string", description, null_rule=null, allowed=allowed)


def _count(name: str, description: str, unit: str = "line items", null: str | None = None, low: float = 0) -> Column:
    return Column(name, "int64", description, unit, null, minimum=low)


COMMON: tuple[Column, ...] = (
    _label("study", "name of the study"),
    Column("as_of", "date", "the day the estimates speak for", "day"),
    _label("run_id", "the run that made the row"),
    _label("engine", "how the model was fitted", allowed=("bayesian", "likelihood")),
    _label("pooling", "partial, or one of the two extremes it lies between", allowed=("complete", "none", "partial")),
)

_IS_NEW = Column("is_new", "bool", "true for a level or combination that was never seen: its effect is integrated over its distribution")
_FACTOR = _label("grouping_factor", "the grouping factor, as the formula names it (`department:category`)")
_LEVEL = _label("level", "the level, as DuckDB casts it to text; of a nested factor the innermost column's", _NEVER_SEEN)
_PARENT = _label("parent_level", "the level of the outer column or columns", "null where the factor is not nested")

_PART = _label(
    "part",
    "which part of a two-part (hurdle) model: occurrence, whether the outcome is above zero, or amount, how much where it is",
    "null where the model has one part",
    ("occurrence", "amount"),
)

_THETA = _label(
    "variance_uncertainty",
    "how `lower` and `upper` carry what is unknown of the variances: `expansion` to second order about their estimates; `integration` over "
    "their distribution, where a factor has fewer than 10 levels or a standard deviation is less than 3 of its standard errors from zero; "
    "`posterior` draws",
    "null where they are held at their estimates: a `diagnostics` row `theta_uncertainty` says why",
    allowed=("expansion", "integration", "posterior"),
)

POPULATION_COEFFICIENTS = TableSpec(
    "population_coefficients",
    "Population-level coefficients under complete, no and partial pooling.",
    "term and pooling",
    ("pooling", "term", "part"),
    ("pooling", "term", "part"),
    (
        *COMMON,
        _label("term", "`Intercept`, `x`, `size[L]`, `x:size[L]`"),
        _label(
            "kind",
            "how to read the predictor",
            allowed=("individual", "group_level", "within", "between", "contextual", "cross_level"),
        ),
        _label("grouping_factor", "the coarsest factor within whose levels the predictor is constant", "null where it varies within all"),
        _number("estimate", "posterior mean, or (RE)ML estimate", _LINK, _NOT_ESTIMABLE),
        _number("std_error", "standard error, or posterior sd", _LINK, _NOT_ESTIMABLE, 0),
        _number("lower", _INTERVAL, _LINK, _NOT_ESTIMABLE),
        _number("upper", _INTERVAL, _LINK, _NOT_ESTIMABLE),
        _number(
            "degrees_of_freedom", "Satterthwaite degrees of freedom; the Wald interval is Student's t with them", "1", _LIKELIHOOD_LINEAR, 0
        ),
        _number(
            "estimate_without_group_predictors",
            "the same coefficient in the model refitted without its group-level predictors (by REML or Laplace, whatever the engine)",
            _LINK,
            "null where the model has none, for those predictors themselves, and unless pooling is partial",
        ),
        _number("ess_bulk", "bulk effective sample size", "draws", "null unless there are draws", 0),
        _number("ess_tail", "tail effective sample size", "draws", "null unless there are draws", 0),
        _number("r_hat", "rank-normalised split R-hat", "1", "null unless there are chains", 0),
        _PART,
    ),
    (Ordering("lower", "estimate", "upper"),),
)

VARIANCE_COMPONENTS = TableSpec(
    "variance_components",
    "Standard deviations and correlations of the group-level effects, and the residual or dispersion.",
    "grouping factor and term, or pair of terms",
    ("grouping_factor", "quantity", "term", "other_term", "part"),
    ("grouping_factor", "quantity", "term", "other_term", "part"),
    (
        *COMMON,
        _label("grouping_factor", "the grouping factor; `residual` for sigma and for dispersions"),
        _label("term", "the term whose effects vary; `sigma`, `phi` or `shape` for the residual"),
        _label("other_term", "the second term of a correlation", "null for a standard deviation"),
        _label("quantity", "what is estimated", allowed=("sd", "correlation")),
        _number("estimate", "posterior mean, or (RE)ML estimate", "link scale for an sd, 1 for a correlation", _NO_CORRELATION),
        _number("std_error", "standard error, or posterior sd", "as estimate", "null where undefined, as at a variance of zero", 0),
        _number("lower", _INTERVAL, "as estimate", _NO_LIMIT),
        _number("upper", _INTERVAL, "as estimate", _NO_LIMIT),
        _number(
            "variance_share",
            "share of the model's variance: for a factor, of all terms of its covariance block together, mean over line items of z'Sigma z "
            "over the total, the latent residual included; on the first sd of the block",
            "1",
            "null for correlations, dispersions and all but the first sd of a block",
            0,
            1,
        ),
        _number(
            "r_squared",
            "share of the variance among this term's coefficients that the predictors explain (Gelman and Pardoe 2006, eq. 1)",
            "1",
            "null for correlations, dispersions, latent residuals and terms without group-level predictors",
            high=1,
        ),
        _number(
            "pooling_factor",
            "lambda: how far this term's effects are pooled toward the model, 0 none, 1 complete (Gelman and Pardoe 2006, eq. 2)",
            "1",
            "null for correlations, dispersions, latent residuals and effects without variance",
            high=1,
        ),
        _number(
            "estimate_without_group_predictors",
            "the same quantity in the model refitted without its group-level predictors (by REML or Laplace, whatever the engine)",
            "as estimate",
            "null where the model has none",
        ),
        _PART,
        _label(
            "interval_method",
            "what `lower` and `upper` are: normal on the log (sd) or Fisher's z (correlation) scale; profile likelihood, also where the "
            "study asks for wald but the standard error on that scale is above 0.5 or an sd is estimated as zero; bootstrap percentiles; "
            "quantiles of the posterior",
            "null where there is no limit; a `diagnostics` row `profile_intervals` says why a profile has none",
            allowed=("wald", "profile", "bootstrap", "posterior"),
        ),
    ),
    (Ordering("lower", "estimate", "upper", "likelihood"),),
)

GROUP_COEFFICIENTS = TableSpec(
    "group_coefficients",
    "The coefficients of every level of every grouping factor.",
    "grouping factor, level and term",
    ("grouping_factor", "parent_level", "level", "term", "part"),
    ("grouping_factor", "parent_level", "level", "term", "part"),
    (
        *COMMON,
        _FACTOR,
        _LEVEL,
        _PARENT,
        _label("term", "the term whose coefficient it is"),
        _number("estimate", "population coefficient + the deviations of all ancestors + its own", _LINK),
        _number("std_error", "from the joint distribution of effects and coefficients, given the variances (likelihood)", _LINK, None, 0),
        _number("lower", _INTERVAL, _LINK),
        _number("upper", _INTERVAL, _LINK),
        _number("deviation", "b, the level's own effect", _LINK),
        _number("deviation_std_error", "standard error of b, given the variances (likelihood)", _LINK, None, 0),
        _number("deviation_lower", _INTERVAL, _LINK),
        _number("deviation_upper", _INTERVAL, _LINK),
        _number(
            "conditional_sd",
            "sd of b given the coefficients and variances, as lme4 gives it",
            _LINK,
            "null for the bayesian engine and for new levels",
            0,
        ),
        _number(
            "fitted_value",
            "estimate + the level's own group-level predictors and cross-level terms times their coefficients",
            _LINK,
            "null for new levels of a factor with group-level predictors: theirs are unknown",
        ),
        _count("n", "line items in the level"),
        _number(
            "shrinkage",
            "Var(b | y, theta, beta) / tau^2: 0 none, 1 full",
            "1",
            "null for new levels",
            0,
            1,
        ),
        _number(
            "probability_above_average",
            "probability that the estimate lies above the mean of the factor's levels",
            "1",
            "null for new levels, and where all levels are the same because tau is 0",
            0,
            1,
        ),
        _IS_NEW,
        _PART,
        _THETA,
    ),
    (Ordering("lower", "estimate", "upper"), Ordering("deviation_lower", "deviation", "deviation_upper")),
)

GROUP_ESTIMATES = TableSpec(
    "group_estimates",
    "The expected outcome of every level, standardised to the common mix, beside no and complete pooling.",
    "grouping factor and level",
    ("grouping_factor", "parent_level", "level"),
    ("grouping_factor", "parent_level", "level"),
    (
        *COMMON,
        _FACTOR,
        _LEVEL,
        _PARENT,
        _number("estimate", "expected outcome, partial pooling", _OUTCOME),
        _number("std_error", "standard error with what is unknown of the variances in it, or posterior sd", _OUTCOME, None, 0),
        _number("lower", _INTERVAL, _OUTCOME),
        _number("upper", _INTERVAL, _OUTCOME),
        _number(
            "no_pooling_estimate",
            "the same average with the factor's intercepts free and everything else as fitted: what differs from the estimate is pooling",
            _OUTCOME,
            _UNDETERMINED,
        ),
        _number("no_pooling_std_error", "its standard error, given the variances", _OUTCOME, _UNDETERMINED, 0),
        _number("complete_pooling_estimate", "the same average without any group effects", _OUTCOME, _NOT_ESTIMABLE),
        _count("n", "line items in the level"),
        _number("rank_lower", "bound of the interval of the level's rank; 1 is the highest estimate", "rank", "null for new levels", 1),
        _number("rank_upper", "bound of the interval of the level's rank; 1 is the highest estimate", "rank", "null for new levels", 1),
        _IS_NEW,
        _number(
            "observed_mean",
            "plain mean over line items, as a GROUP BY gives it: successes over trials, total over exposure, of `log(y)` that of y",
            _OUTCOME,
            "null for new levels",
        ),
        _number(
            "observed_std_error",
            "standard error of the plain mean over line items",
            _OUTCOME,
            "null for new levels and for one line item",
            0,
        ),
        _number(
            "population_estimate",
            "expected outcome for a new member: the group of which its members are a sample",
            _OUTCOME,
            _NO_MEMBERS,
        ),
        _number(
            "population_std_error",
            "its standard error, as std_error is",
            _OUTCOME,
            _NO_MEMBERS,
            0,
        ),
        _number("population_lower", _INTERVAL, _OUTCOME, _NO_MEMBERS),
        _number("population_upper", _INTERVAL, _OUTCOME, _NO_MEMBERS),
        _number("population_no_pooling_estimate", "no_pooling_estimate of a new member: one member, one vote", _OUTCOME, _NO_MEMBERS),
        _number("population_no_pooling_std_error", "its standard error, given the variances", _OUTCOME, _NO_MEMBERS, 0),
        _label(
            "headline",
            "which estimate is ranked and told first: the level's members as they are, or the population that they are a sample of",
            allowed=("members", "population"),
        ),
        _count("n_sampled", "members that stand behind the level (customers, households)", "members", _NO_MEMBERS, 1),
        _number(
            "probability_above_average", "that the headline exceeds its unweighted mean over the factor's levels", "1", _NO_CHANCE, 0, 1
        ),
        _number("rank_in_parent_lower", "bound of the interval of the rank among the levels of its parent", "rank", _NO_PARENT, 1),
        _number("rank_in_parent_upper", "bound of the interval of the rank among the levels of its parent", "rank", _NO_PARENT, 1),
        _THETA,
    ),
    (
        Ordering("lower", "estimate", "upper", "likelihood_seen"),
        Ordering("population_lower", "population_estimate", "population_upper", "likelihood_seen"),
        Ordering("rank_lower", None, "rank_upper"),
        Ordering("rank_in_parent_lower", None, "rank_in_parent_upper"),
    ),
)

CELL_ESTIMATES = TableSpec(
    "cell_estimates",
    "The expected outcome of every customer group with every product group, combinations never seen included.",
    "customer group x product group",
    ("customer_group", "product_group"),
    ("customer_group", "product_group"),
    (
        *COMMON,
        _label("customer_group", "level of the first column of the study's `cells`"),
        _label("product_group", "level of the second column of the study's `cells`"),
        _number("estimate", "expected outcome, partial pooling", _OUTCOME),
        _number("std_error", "standard error with what is unknown of the variances in it, or posterior sd", _OUTCOME, None, 0),
        _number("lower", _INTERVAL, _OUTCOME),
        _number("upper", _INTERVAL, _OUTCOME),
        _count("n", "line items of the combination"),
        _IS_NEW,
        _THETA,
    ),
    (Ordering("lower", "estimate", "upper", "likelihood_seen"),),
)

DIAGNOSTICS = TableSpec(
    "diagnostics",
    "What was checked: data, computation, fit, interpretation.",
    "check",
    ("check",),
    ("check",),
    (
        *COMMON,
        _label("check", "name of the check"),
        _number("value", "what was found", "as the message says", "null where the check does not apply"),
        _number("threshold", "what it was compared with", "as value", "null where there is none"),
        Column("passed", "bool", "false where the value lies on the wrong side of the threshold"),
        _label("message", "in words"),
    ),
)

_DRAWS_KEY = ("source_table", "grouping_factor", "parent_level", "level", "term", "other_term", "quantity", "draw")

DRAWS = TableSpec(
    "draws",
    "Joint draws of the coefficients under partial pooling, published where the study asks for them with `draws: {rows: ...}`. Rows of one "
    "`draw` belong together: a function of several coefficients is computed draw by draw, then summarised.",
    "quantity and draw",
    _DRAWS_KEY,
    _DRAWS_KEY,
    (
        *COMMON,
        _label(
            "source_table",
            "the table that the quantity is estimated in; the next five columns are its key there",
            allowed=("population_coefficients", "variance_components", "group_coefficients"),
        ),
        _label("grouping_factor", "as in the source table; `residual` for sigma and for dispersions", "null for population coefficients"),
        _label("level", "the level, for group coefficients; seen levels only", "null but for group coefficients"),
        _label("parent_level", "the level of the outer column or columns", "null where the factor is not nested"),
        _label("term", "the term, as in the source table"),
        _label("other_term", "the second term of a correlation", "null but for correlations"),
        _label("quantity", "what is drawn", allowed=("coefficient", "sd", "correlation")),
        _count("draw", "number of the draw, the same for all quantities", "draw", low=1),
        _label(
            "distribution",
            "posterior: thinned posterior draws; normal_joint: draws of the likelihood engine's joint distribution of coefficients and "
            "effects, normal given the variances, which vary too (`variance_uncertainty`) and of which there are then no draws",
            allowed=("posterior", "normal_joint"),
        ),
        _number("value", "the value drawn; of a group coefficient the sum that `group_coefficients.estimate` is", "as in the source table"),
    ),
)

TABLES: dict[str, TableSpec] = {
    table.name: table
    for table in (
        POPULATION_COEFFICIENTS,
        VARIANCE_COMPONENTS,
        GROUP_COEFFICIENTS,
        GROUP_ESTIMATES,
        CELL_ESTIMATES,
        DIAGNOSTICS,
    )
}

OPTIONAL_TABLES: dict[str, TableSpec] = {DRAWS.name: DRAWS}
"""Published only by studies that ask for them."""

EVERY_TABLE: dict[str, TableSpec] = TABLES | OPTIONAL_TABLES


def arrow_schema(name: str) -> pa.Schema:
    """The Parquet schema of a published table: each field carries description, unit and null rule; the file carries grain and keys.

    Raises KeyError for a name that is not in ``EVERY_TABLE``.
    """
    spec = EVERY_TABLE[name]
    fields = [
        pa.field(
            column.name,
            ARROW_TYPES[column.type],
            nullable=column.nullable,
            metadata={"description": column.description, "unit": column.unit, "null_rule": column.null_text},
        )
        for column in spec.columns
    ]
    metadata: dict[str | bytes, str | bytes] = {
        "groupwise.table": spec.name,
        "groupwise.description": spec.description,
        "groupwise.grain": f"one row per {spec.grain}",
        "groupwise.unique_key": ",".join(spec.unique_key),
        "groupwise.sort_key": ",".join(spec.sort_key),
        "groupwise.catalogue_version": CATALOGUE_VERSION,
    }
    return pa.schema(fields, metadata=metadata)


def check_table(name: str, table: pa.Table) -> list[str]:
    """The output suite: every way in which ``table`` breaks its description, in words; empty where all is well."""
    return table_violations(EVERY_TABLE[name], arrow_schema(name), table)
