"""The published tables, six and one on request: the one source of truth for every column's name, type, unit, description and null rule.

Parquet schemas and metadata (``arrow_schema``), the output suite (``check_table``), ``docs/tables.md`` and the data contract are all
generated from ``EVERY_TABLE``.
"""

from __future__ import annotations

import pyarrow as pa

from multilevel.catalogue.column import Column, Ordering, TableSpec, arrow_fields
from multilevel.catalogue.column_checks import table_violations
from multilevel.catalogue.shared_columns import (
    COMMON,
    FACTOR,
    INTERVAL,
    IS_NEW,
    LEVEL,
    LIKELIHOOD_LINEAR,
    LINK,
    NO_CORRELATION,
    NO_LIMIT,
    NO_MEMBERS,
    NO_SIBLINGS,
    NOT_ESTIMABLE,
    OUTCOME,
    PARENT,
    PART,
    UNDETERMINED,
    VARIANCE_UNCERTAINTY,
    count,
    label,
    number,
)

CATALOGUE_VERSION = "2.2.0"

_UNTOLD = (
    "null for new levels, and where the level's rows do not determine the term: a predictor that does not vary in them, outcomes all alike "
    "(shares, counts of zero)"
)

POPULATION_COEFFICIENTS = TableSpec(
    "population_coefficients",
    "Population-level coefficients under complete, no and partial pooling.",
    "term and pooling",
    ("pooling", "term", "part"),
    ("pooling", "term", "part"),
    (
        *COMMON,
        label("term", "`Intercept`, `x`, `size[L]`, `x:size[L]`"),
        label(
            "kind",
            "how to read the predictor",
            allowed=("individual", "group_level", "within", "between", "contextual", "cross_level"),
        ),
        label("grouping_factor", "the coarsest factor within whose levels the predictor is constant", "null where it varies within all"),
        number("estimate", "posterior mean, or (RE)ML estimate", LINK, NOT_ESTIMABLE),
        number("std_error", "standard error, or posterior sd", LINK, NOT_ESTIMABLE, 0),
        number("lower", INTERVAL, LINK, NOT_ESTIMABLE),
        number("upper", INTERVAL, LINK, NOT_ESTIMABLE),
        number(
            "degrees_of_freedom", "Satterthwaite degrees of freedom; the Wald interval is Student's t with them", "1", LIKELIHOOD_LINEAR, 0
        ),
        number(
            "estimate_without_group_predictors",
            "the same coefficient in the model refitted without its group-level predictors (by REML or Laplace, whatever the engine)",
            LINK,
            "null where the model has none, for those predictors themselves, and unless pooling is partial",
        ),
        number("ess_bulk", "bulk effective sample size", "draws", "null unless there are draws", 0),
        number("ess_tail", "tail effective sample size", "draws", "null unless there are draws", 0),
        number("r_hat", "rank-normalised split R-hat", "1", "null unless there are chains", 0),
        PART,
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
        label("grouping_factor", "the grouping factor; `residual` for sigma and for dispersions"),
        label("term", "the term whose effects vary; `sigma`, `phi` or `shape` for the residual"),
        label("other_term", "the second term of a correlation", "null for a standard deviation"),
        label("quantity", "what is estimated", allowed=("sd", "correlation")),
        number("estimate", "posterior mean, or (RE)ML estimate", "link scale for an sd, 1 for a correlation", NO_CORRELATION),
        number("std_error", "standard error, or posterior sd", "as estimate", "null where undefined, as at a variance of zero", 0),
        number("lower", INTERVAL, "as estimate", NO_LIMIT),
        number("upper", INTERVAL, "as estimate", NO_LIMIT),
        number(
            "variance_share",
            "share of the model's variance: for a factor, of all terms of its covariance block together, mean over line items of z'Sigma z "
            "over the total, the latent residual included; on the first sd of the block",
            "1",
            "null for correlations, dispersions and all but the first sd of a block",
            0,
            1,
        ),
        number(
            "r_squared",
            "share of the variance among this term's coefficients that the predictors explain (Gelman and Pardoe 2006, eq. 1)",
            "1",
            "null for correlations, dispersions, latent residuals and terms without group-level predictors",
            high=1,
        ),
        number(
            "pooling_factor",
            "lambda: how far this term's effects are pooled toward the model, 0 none, 1 complete (Gelman and Pardoe 2006, eq. 2)",
            "1",
            "null for correlations, dispersions, latent residuals and effects without variance",
            high=1,
        ),
        number(
            "estimate_without_group_predictors",
            "the same quantity in the model refitted without its group-level predictors (by REML or Laplace, whatever the engine)",
            "as estimate",
            "null where the model has none",
        ),
        PART,
        label(
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
        FACTOR,
        LEVEL,
        PARENT,
        label("term", "the term whose coefficient it is"),
        number("estimate", "population coefficient + the deviations of all ancestors + its own", LINK),
        number("std_error", "from the joint distribution of effects and coefficients, given the variances (likelihood)", LINK, None, 0),
        number("lower", INTERVAL, LINK),
        number("upper", INTERVAL, LINK),
        number("deviation", "b, the level's own effect", LINK),
        number("deviation_std_error", "standard error of b, given the variances (likelihood)", LINK, None, 0),
        number("deviation_lower", INTERVAL, LINK),
        number("deviation_upper", INTERVAL, LINK),
        number(
            "conditional_sd",
            "sd of b given the coefficients and variances, as lme4 gives it",
            LINK,
            "null for the bayesian engine and for new levels",
            0,
        ),
        number(
            "fitted_value",
            "estimate + the level's own group-level predictors and cross-level terms times their coefficients",
            LINK,
            "null for new levels of a factor with group-level predictors: theirs are unknown",
        ),
        count("n", "line items in the level"),
        number(
            "shrinkage",
            "Var(b | y, theta, beta) / tau^2: 0 none, 1 full",
            "1",
            "null for new levels",
            0,
            1,
        ),
        number(
            "probability_above_average",
            "probability that the estimate lies above the mean of the factor's levels",
            "1",
            "null for new levels, and where levels cannot differ (tau held at 0)",
            0,
            1,
        ),
        IS_NEW,
        PART,
        number(
            "no_pooling_estimate",
            "the coefficient with this term of the factor free and everything else as fitted: what differs from the estimate is pooling",
            LINK,
            _UNTOLD,
        ),
        number("no_pooling_std_error", "its standard error, given the variances", LINK, _UNTOLD, 0),
        VARIANCE_UNCERTAINTY,
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
        FACTOR,
        LEVEL,
        PARENT,
        number("estimate", "expected outcome, partial pooling", OUTCOME),
        number("std_error", "standard error with what is unknown of the variances in it, or posterior sd", OUTCOME, None, 0),
        number("lower", INTERVAL, OUTCOME),
        number("upper", INTERVAL, OUTCOME),
        number(
            "no_pooling_estimate",
            "the same average with the factor's intercepts free and everything else as fitted: what differs from the estimate is pooling",
            OUTCOME,
            UNDETERMINED,
        ),
        number("no_pooling_std_error", "its standard error, given the variances", OUTCOME, UNDETERMINED, 0),
        number("complete_pooling_estimate", "the same average without any group effects", OUTCOME, NOT_ESTIMABLE),
        count("n", "line items in the level"),
        number("rank_lower", "bound of the interval of the level's rank; 1 is the highest estimate", "rank", "null for new levels", 1),
        number("rank_upper", "bound of the interval of the level's rank; 1 is the highest estimate", "rank", "null for new levels", 1),
        IS_NEW,
        number(
            "observed_mean",
            "plain mean over line items, as a GROUP BY gives it: successes over trials, total over exposure, of `log(y)` that of y",
            OUTCOME,
            "null for new levels",
        ),
        number(
            "observed_std_error",
            "standard error of the plain mean: over line items, or, where the study names a `sampled` column, over the units of the first",
            OUTCOME,
            "null for new levels, for one line item, and, where a column is sampled, for levels with one unit",
            0,
        ),
        number(
            "population_estimate",
            "expected outcome for a new member: the group of which its members are a sample",
            OUTCOME,
            NO_MEMBERS,
        ),
        number("population_std_error", "its standard error, as std_error is", OUTCOME, NO_MEMBERS, 0),
        number("population_lower", INTERVAL, OUTCOME, NO_MEMBERS),
        number("population_upper", INTERVAL, OUTCOME, NO_MEMBERS),
        number("population_no_pooling_estimate", "no_pooling_estimate of a new member: one member, one vote", OUTCOME, NO_MEMBERS),
        number("population_no_pooling_std_error", "its standard error, given the variances", OUTCOME, NO_MEMBERS, 0),
        label(
            "headline",
            "which estimate is ranked and told first: the level's members as they are, or the population that they are a sample of",
            allowed=("members", "population"),
        ),
        count("n_sampled", "members that stand behind the level (customers, households)", "members", NO_MEMBERS, 1),
        number(
            "probability_above_average",
            "probability that the headline lies above the unweighted mean of the headlines of all levels of the factor",
            "1",
            "null for new levels, where levels cannot differ (tau held at 0), and for factors with levels that `privacy` suppresses",
            0,
            1,
        ),
        number("rank_in_parent", "rank of the headline among the levels of the same parent; 1 is the highest", "rank", NO_SIBLINGS, 1),
        number("rank_in_parent_lower", "bound of the interval of that rank", "rank", NO_SIBLINGS, 1),
        number("rank_in_parent_upper", "bound of the interval of that rank", "rank", NO_SIBLINGS, 1),
        VARIANCE_UNCERTAINTY,
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
        label("customer_group", "level of the first column of the study's `cells`"),
        label("product_group", "level of the second column of the study's `cells`"),
        number("estimate", "expected outcome, partial pooling", OUTCOME),
        number("std_error", "standard error with what is unknown of the variances in it, or posterior sd", OUTCOME, None, 0),
        number("lower", INTERVAL, OUTCOME),
        number("upper", INTERVAL, OUTCOME),
        count("n", "line items of the combination"),
        IS_NEW,
        VARIANCE_UNCERTAINTY,
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
        label("check", "name of the check"),
        number("value", "what was found", "as the message says", "null where the check does not apply"),
        number("threshold", "what it was compared with", "as value", "null where there is none"),
        Column("passed", "bool", "false where the value lies on the wrong side of the threshold"),
        label("message", "in words"),
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
        label(
            "source_table",
            "the table that the quantity is estimated in; the next five columns are its key there",
            allowed=("population_coefficients", "variance_components", "group_coefficients"),
        ),
        label("grouping_factor", "as in the source table; `residual` for sigma and for dispersions", "null for population coefficients"),
        label("level", "the level, for group coefficients; seen levels only", "null but for group coefficients"),
        label("parent_level", "the level of the outer column or columns", "null where the factor is not nested"),
        label("term", "the term, as in the source table"),
        label("other_term", "the second term of a correlation", "null but for correlations"),
        label("quantity", "what is drawn", allowed=("coefficient", "sd", "correlation")),
        count("draw", "number of the draw, the same for all quantities", "draw", low=1),
        label(
            "distribution",
            "posterior: thinned posterior draws; normal_joint: draws of the likelihood engine's joint distribution of coefficients and "
            "effects, normal given the variances, which vary too (`variance_uncertainty`) and of which there are then no draws",
            allowed=("posterior", "normal_joint"),
        ),
        number("value", "the value drawn; of a group coefficient the sum that `group_coefficients.estimate` is", "as in the source table"),
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
    metadata: dict[str | bytes, str | bytes] = {
        "groupwise.table": spec.name,
        "groupwise.description": spec.description,
        "groupwise.grain": f"one row per {spec.grain}",
        "groupwise.unique_key": ",".join(spec.unique_key),
        "groupwise.sort_key": ",".join(spec.sort_key),
        "groupwise.catalogue_version": CATALOGUE_VERSION,
    }
    return pa.schema(arrow_fields(spec), metadata=metadata)


def check_table(name: str, table: pa.Table) -> list[str]:
    """The output suite: every way in which ``table`` breaks its description, in words; empty where all is well."""
    return table_violations(EVERY_TABLE[name], arrow_schema(name), table)
