"""The tables in which a version's joint distribution is kept, below ``joint/<as_of>/<run_id>/``: described as the published ones are."""

from __future__ import annotations

import pyarrow as pa

from multilevel.catalogue.column import Column, ColumnType, TableSpec, arrow_fields
from multilevel.catalogue.shared_columns import FACTOR, LINK, OUTCOME, PARENT, PART, count, label, number

_POPULATION = "null for population coefficients and mixes"
_PLACE = "which coordinate: population coefficients first, then the effects block by block, level by level, term by term; mixes last"


def _listed(name: str, type_: ColumnType, description: str, null: str | None = None) -> Column:
    return Column(name, type_, description, "", null)


MODELS = TableSpec(
    "models",
    "What was fitted.",
    "part of the model",
    ("place",),
    ("place",),
    (
        count("place", "0, and 1 for the second part of a two-part model", ""),
        PART,
        label("formula", "the model, in lme4's language"),
        label("family", "the family of the outcome"),
        Column("log_outcome", "bool", "whether the outcome is a logarithm"),
        label("engine", "how the model was fitted", allowed=("bayesian", "likelihood")),
        label(
            "distribution",
            "arrow: regressions on a core, which is normal; points: a mixture of normal distributions; draws: of the posterior",
            allowed=("arrow", "points", "draws"),
        ),
        number("interval", "probability of the study's intervals", "1", None, 0, 1),
        _listed("population", "string[]", "the terms of the population coefficients, in the order of their places"),
        _listed("population_map", "float64[]", "row by row, the matrix from unit-free population coefficients to those as written"),
        count("coefficients", "how many coordinates are coefficients; those beyond are mixes", ""),
        count("coordinates", "how many coordinates there are", ""),
        number("scale", "sigma, phi or shape", "1", "null where the family has none", 0),
        number("log_scale_error", "sd of what is unknown of its logarithm, without draws", "1", None, 0),
        _listed("scale_draws", "float32[]", "the scale in each draw", "null unless there are draws of it"),
        number("log_variance", "log sigma^2 of an average level", "1", "null unless the outcome is a logarithm"),
        number("log_variance_error", "its standard error, 0 where there is none", "1", None, 0),
        _listed("point_weights", "float64[]", "weights of the points of the variances", "null for posterior draws"),
        label("details", "JSON: categories, means and sds of `center` and `scale`, what stands for missing values"),
    ),
)

BLOCKS = TableSpec(
    "blocks",
    "Group-level effects with one covariance matrix.",
    "part and block",
    ("model", "block"),
    ("model", "block"),
    (
        count("model", "the part's place in `models`", ""),
        count("block", "the block's place in the formula", ""),
        FACTOR,
        _listed("terms", "string[]", "its k terms"),
        count("start", "place of its first effect", ""),
        _listed("covariance", "float64[]", "row by row (k, k), the covariance of a level's unit-free effects"),
        _listed("map", "float64[]", "row by row (k, k), the matrix that leads from a level's unit-free effects to those as written"),
        _listed("covariance_points", "float64[]", "the covariance at each point of the variances", "null where they were held"),
        _listed("covariance_draws", "float32[]", "the covariance in each draw", "null unless there are draws"),
    ),
)

FACTORS = TableSpec(
    "factors",
    "Grouping factors.",
    "part and grouping factor",
    ("model", "place"),
    ("model", "grouping_factor"),
    (
        count("model", "the part's place in `models`", ""),
        count("place", "in the order of the formula", ""),
        FACTOR,
        _listed("columns", "string[]", "the columns whose values together are a level"),
        count("levels", "how many it has", ""),
        Column("is_nested", "bool", "whether its levels have parents"),
        Column("is_plain", "bool", "whether labels that are numbers are written in the shortest way"),
        number("log_variance_sd", "sd between levels of log sigma^2, 0 unless the outcome is a logarithm", "1", None, 0),
    ),
)

LEVELS = TableSpec(
    "levels",
    "Levels of the grouping factors.",
    "part, grouping factor and level",
    ("model", "grouping_factor", "level", "parent_level"),
    ("model", "grouping_factor", "place"),
    (
        count("model", "the part's place in `models`", ""),
        FACTOR,
        label("level", "the level"),
        PARENT,
        count("place", "which of the factor's levels it is", ""),
        _listed("keys", "string[]", "its value in every column of the factor", "null where the factor is one column"),
        number("log_variance", "its effect on log sigma^2", "1", "null unless the outcome is a logarithm"),
        number("log_variance_error", "the standard error of that", "1", "null unless the outcome is a logarithm", 0),
    ),
)

LEVEL_MEANS = TableSpec(
    "level_means",
    "Means that `between(x, g)` and `within(x, g)` refer to.",
    "part, predictor and level",
    ("model", "predictor"),
    ("model", "predictor", "keys"),
    (
        count("model", "the part's place in `models`", ""),
        label("predictor", "as the formula writes it: `between(x, g)`"),
        _listed("columns", "string[]", "the columns of g"),
        _listed("keys", "string[]", "the level's value in each"),
        number("value", "the mean of x there", "unit of x"),
    ),
)

LEVEL_ROWS = TableSpec(
    "level_rows",
    "The coefficient of a level as a sum of coefficients as written: sum over entries of value times estimate.",
    "part, grouping factor, term and level",
    ("model", "grouping_factor", "term", "place"),
    ("model", "grouping_factor", "term", "place"),
    (
        count("model", "the part's place in `models`", ""),
        FACTOR,
        label("term", "the term that varies by the factor"),
        count("place", "which of the factor's levels it is", ""),
        _listed("places", "int32[]", "coefficients: its own effect, those of its ancestors, its group-level predictors'"),
        _listed("values", "float64[]", "what each is multiplied by"),
    ),
)

COEFFICIENTS = TableSpec(
    "coefficients",
    "Every coefficient, and how it depends on others. Where the distribution is an arrow, a coefficient outside the core is "
    "`location` + sum of `weights` times what those in `given` differ from their locations by + normal noise of variance `variance`.",
    "part and coordinate",
    ("model", "place"),
    ("model", "place"),
    (
        count("model", "the part's place in `models`", ""),
        count("place", _PLACE, ""),
        label("grouping_factor", "the grouping factor", _POPULATION),
        label("level", "the level", _POPULATION),
        label("parent_level", "the level of the outer column or columns", "null where the factor is not nested"),
        label("term", "the term; of a mix its number"),
        number("estimate", "as `population_coefficients` and the deviations of `group_coefficients` have it", LINK),
        number("location", "mean of the unit-free coefficient (`blocks.map`, `models.population_map`)", LINK, "null unless an arrow"),
        count("step", "effects of an earlier step depend on those of later ones", "", "null in the core, and unless an arrow"),
        number("variance", "of its noise", "link scale squared", "null in the core, and unless an arrow", 0),
        _listed("given", "int32[]", "places of the coefficients that it depends on", "null in the core, and unless an arrow"),
        _listed("weights", "float64[]", "what each is multiplied by", "null in the core, and unless an arrow"),
        _listed(
            "directions",
            "float64[]",
            "what it is moved by with each direction of the variances: products of two coefficients' entries add to their covariance",
            "null unless an arrow",
        ),
        _listed("draws", "float32[]", "deviations of the unit-free coefficient from its mean in each draw", "null unless there are draws"),
    ),
)

CORE = TableSpec(
    "core",
    "Covariances of the core: coefficients that depend on all others, population coefficients among them.",
    "part, point of the variances and coordinate",
    ("model", "point", "place"),
    ("model", "point", "place"),
    (
        count("model", "the part's place in `models`", ""),
        count("point", "which point of the variances; 0 where there is one distribution", ""),
        count("place", _PLACE, ""),
        number("location", "mean of the unit-free coefficient at the point", LINK),
        _listed("covariance", "float64[]", "its covariance with every coordinate of the core, in the order of the rows"),
    ),
)

AVERAGES = TableSpec(
    "averages",
    "The estimates of `group_estimates` with what makes their joint distribution: `spread`, or the row of coordinates that each is.",
    "grouping factor, kind, part and level",
    ("grouping_factor", "of", "model", "place"),
    ("grouping_factor", "of", "model", "place"),
    (
        FACTOR,
        label("of", "of the members as they are, or of a new one", allowed=("members", "population")),
        count("model", "the part's place in `models`; 0 with `spread`", ""),
        count("place", "which of the factor's levels it is", ""),
        label("level", "the level"),
        PARENT,
        number("estimate", "as published", OUTCOME),
        number("std_error", "as published", OUTCOME, None, 0),
        number("own", "sd of what is unknown of the level beyond the coefficients", OUTCOME, None, 0),
        Column("is_positive", "bool", "whether ratios make sense"),
        Column("is_median", "bool", "whether estimates are medians of draws"),
        Column("has_draws", "bool", "whether `spread` are deviations in each draw; else a root of the covariance times sqrt(S - 1)"),
        _listed("spread", "float32[]", "S deviations; products of two levels' over S - 1 add up to their covariance", "null with `places`"),
        _listed(
            "away",
            "float32[]",
            "conditional mean at each point of the variances (`models.point_weights`) less the estimate",
            "null unless a mixture and the levels few",
        ),
        _listed(
            "roots",
            "float32[]",
            "point by point a root of the conditional covariance: products of two levels' add up to it",
            "null unless a mixture and the levels few",
        ),
        _listed("places", "int32[]", "coordinates of the part", "null with `spread`"),
        _listed("values", "float64[]", "derivatives by each, unit-free", "null with `spread`"),
    ),
)

JOINT_TABLES: dict[str, TableSpec] = {
    table.name: table for table in (MODELS, BLOCKS, FACTORS, LEVELS, LEVEL_MEANS, LEVEL_ROWS, COEFFICIENTS, CORE, AVERAGES)
}
"""In the order of the page."""


def joint_schema(name: str) -> pa.Schema:
    """The file's schema, with every column's unit, null rule and description as field metadata."""
    spec = JOINT_TABLES[name]
    return pa.schema(arrow_fields(spec), metadata={"description": spec.description})
