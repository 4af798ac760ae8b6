"""Priors: weakly informative ones scaled from the cell statistics, a study's own in their place, all of them printable.

Defaults, with sd(y) the outcome's sd (1 on a link scale) and sd(x) that of a column over the rows:

- the intercept, at the mean of the other columns: normal(mean y, 2.5 sd(y)), on the link scale for generalised models;
- other coefficients: normal(0, 2.5 sd(y) / sd(x));
- sds of group-level effects: half_normal(2.5 sd(y) / sd(x)), sd(x) = 1 for the intercept, which is taken at the mean of the numeric
  predictors whose slopes vary with it (``multilevel.bayesian.unit_free_priors``);
- correlations: lkj(2); sigma: exponential(sd(y));
- negative binomial and gamma: the coefficient of variation that the dispersion stands for, 1 / sqrt(phi) or 1 / sqrt(shape):
  half_student_t(4, 1).

Sources: Goodrich et al. (2024), rstanarm's default priors; Capretto et al. (2022), bambi; Lewandowski, Kurowicka and Joe (2009).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from multilevel.arrays import Floats
from multilevel.bayesian.distributions import POSITIVE, Prior, parse_prior
from multilevel.cells.statistics import CellStatistics
from multilevel.design.model import Design, DesignColumn, GroupBlock
from multilevel.design.unit_free import CONSTANT
from multilevel.errors import StudyError
from multilevel.families.registry import family_named

WIDTH = 2.5
"""How many sds of the outcome one sd of a predictor may plausibly move it (Gelman et al. 2008)."""

_FIELDS = ("coefficients", "sds", "correlations", "sigma", "dispersion")


@dataclass(frozen=True)
class Priors:
    """What a study's ``priors:`` says; empty means the defaults.

    coefficients : term -> normal; ``Intercept`` speaks of the outcome at the mean of the other columns.
    sds : grouping factor -> term -> distribution of the sd (the key ``""`` holds for all its terms).
    correlations : grouping factor -> lkj.
    sigma : residual sd (gaussian). dispersion : 1 / sqrt(phi) or 1 / sqrt(shape).
    """

    coefficients: Mapping[str, Prior] = field(default_factory=dict)
    sds: Mapping[str, Mapping[str, Prior]] = field(default_factory=dict)
    correlations: Mapping[str, Prior] = field(default_factory=dict)
    sigma: Prior | None = None
    dispersion: Prior | None = None


@dataclass(frozen=True)
class ResolvedPriors:
    """Every prior of one model, as numbers.

    beta_location (p,), beta_precision (p, p) : the normal prior of the coefficients as the design has them.
    terms : per coefficient its own normal, the intercept's at the mean of the other columns.
    sds : per block, per column. correlations : per block the eta of its LKJ prior.
    sigma : None when known or absent. dispersion : None unless the family has one.
    """

    beta_location: Floats
    beta_precision: Floats
    terms: tuple[Prior, ...]
    sds: tuple[tuple[Prior, ...], ...]
    correlations: tuple[float, ...]
    sigma: Prior | None
    dispersion: Prior | None


def read_priors(written: Mapping[str, object] | None) -> Priors:
    """Read a study's ``priors:`` mapping.

    ``coefficients: {on_sale: "normal(0, 1)"}``, ``sds: {department: "half_normal(1)", "department:category": {on_sale: "exponential(1)"}}``
    (one for all terms of a factor, or term by term), ``correlations: {department: "lkj(4)"}``, ``sigma: "exponential(2)"``,
    ``dispersion: "half_normal(1)"``.

    Raises
    ------
    StudyError
        An unknown key, a value of the wrong type, or a distribution that the parameter cannot have.
    """
    written = written or {}
    for key in _as_mapping(written, "priors"):
        if key not in _FIELDS:
            raise StudyError(f"priors: there is no {key!r}; the keys are {', '.join(_FIELDS)}.")
    coefficients = _as_mapping(written.get("coefficients") or {}, "coefficients")
    correlations = _as_mapping(written.get("correlations") or {}, "correlations")
    sds = _as_mapping(written.get("sds") or {}, "sds")
    return Priors(
        coefficients={term: parse_prior(value, f"coefficients.{term}", ("normal",)) for term, value in coefficients.items()},
        sds={factor: _read_sds(factor, value) for factor, value in sds.items()},
        correlations={factor: parse_prior(value, f"correlations.{factor}", ("lkj",)) for factor, value in correlations.items()},
        sigma=parse_prior(written["sigma"], "sigma", POSITIVE) if written.get("sigma") is not None else None,
        dispersion=parse_prior(written["dispersion"], "dispersion", POSITIVE) if written.get("dispersion") is not None else None,
    )


def resolve_priors(design: Design, family: str, priors: Priors) -> ResolvedPriors:
    """Fill the defaults in from the statistics; a prior for a parameter that the model does not have is a ``StudyError``."""
    refuse_strangers(design, family, priors)
    location, spread = outcome_scale(design.cells, family)
    moments = [column_moments(column, design.cells) for column in design.population]
    intercept = next((j for j, column in enumerate(design.population) if column.label == "Intercept"), None)
    terms = tuple(
        priors.coefficients.get(column.label) or _default_coefficient(mean_sd, location, spread, j == intercept, intercept is None)
        for j, (column, mean_sd) in enumerate(zip(design.population, moments, strict=True))
    )
    beta_location, beta_precision = _uncentre(terms, np.array([mean for mean, _ in moments]), intercept)
    return ResolvedPriors(
        beta_location,
        beta_precision,
        terms,
        tuple(tuple(_sd_prior(priors, block, column, design.cells, spread) for column in block.columns) for block in design.blocks),
        tuple(priors.correlations[b.factor.name].arguments[0] if b.factor.name in priors.correlations else 2.0 for b in design.blocks),
        (priors.sigma or Prior("exponential", (spread,))) if has_sigma(design, family) else None,
        (priors.dispersion or Prior("half_student_t", (4.0, 1.0))) if has_dispersion(family) else None,
    )


def has_sigma(design: Design, family: str) -> bool:
    """Whether a residual sd is estimated."""
    return family_named(family).has_sigma and not design.cells.known_sigma


def has_dispersion(family: str) -> bool:
    """Whether the family has a dispersion of its own (phi or shape)."""
    return family_named(family).has_dispersion


def outcome_scale(cells: CellStatistics, family: str) -> tuple[float, float]:
    """Mean and sd of the outcome on the scale of the linear predictor; the sd is 1 for generalised models."""
    if cells.has_moments:
        mean = float(np.average(cells.mean[:, -1], weights=cells.weight))
        total = cells.cross[:, -1, -1].sum() + cells.weight @ (cells.mean[:, -1] - mean) ** 2
        return mean, max(float(np.sqrt(total / cells.weight.sum())), np.finfo(float).tiny ** 0.5)
    return family_named(family).outcome_scale(cells.total, cells.size, cells.offset)


def column_moments(column: DesignColumn, cells: CellStatistics) -> tuple[float, float]:
    """Mean and sd of a design column over the rows (weighted as the likelihood weighs them)."""
    weight = cells.weight if len(cells.weight) else cells.n.astype(float)
    within = np.zeros(cells.n_cells)
    centre = column.multiplier
    if column.feature:
        j = column.feature - 1
        centre = column.multiplier * (cells.mean[:, j] - column.shift)
        within = column.multiplier**2 * cells.cross[:, j, j]
    mean = float(np.average(centre, weights=weight))
    return mean, float(np.sqrt((within.sum() + weight @ (centre - mean) ** 2) / weight.sum()))


def _default_coefficient(mean_sd: tuple[float, float], location: float, spread: float, is_intercept: bool, uncentred: bool) -> Prior:
    if is_intercept:
        return Prior("normal", (location, WIDTH * spread))
    if uncentred:
        # Without an intercept the columns carry the outcome's level themselves, so its distance from zero counts as spread.
        return Prior("normal", (0.0, WIDTH * float(np.hypot(location, spread)) / _scale(mean_sd, float(np.hypot(*mean_sd)))))
    return Prior("normal", (0.0, WIDTH * spread / _scale(mean_sd, mean_sd[1])))


def _scale(mean_sd: tuple[float, float], scale: float) -> float:
    """A column's scale, or its size where it does not vary."""
    size = float(np.hypot(*mean_sd))
    return scale if scale > CONSTANT * size else (size or 1.0)


def _sd_prior(priors: Priors, block: GroupBlock, column: DesignColumn, cells: CellStatistics, spread: float) -> Prior:
    own = priors.sds.get(block.factor.name, {})
    given = own.get(column.label) or own.get("")
    mean_sd = column_moments(column, cells)
    return given or Prior("half_normal", (WIDTH * spread / _scale(mean_sd, mean_sd[1]),))


def _uncentre(terms: tuple[Prior, ...], means: Floats, intercept: int | None) -> tuple[Floats, Floats]:
    """The normal prior of the design's coefficients, from the one whose intercept sits at the mean of the other columns."""
    location = np.array([prior.arguments[0] for prior in terms])
    precision = np.array([prior.arguments[1] for prior in terms]) ** -2.0
    centring = np.eye(len(terms))
    if intercept is not None:
        centring[intercept] = means
        centring[intercept, intercept] = 1.0
    return np.linalg.solve(centring, location), centring.T @ (precision[:, None] * centring)


def _read_sds(factor: str, value: object) -> dict[str, Prior]:
    if isinstance(value, Mapping):
        return {str(term): parse_prior(prior, f"sds.{factor}.{term}", POSITIVE) for term, prior in value.items()}
    return {"": parse_prior(value, f"sds.{factor}", POSITIVE)}


def _as_mapping(value: object, name: str) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise StudyError(f"priors: {name} is {value!r}; write a mapping of names to distributions.")
    return {str(key): item for key, item in value.items()}


def refuse_strangers(design: Design, family: str, priors: Priors) -> None:
    """A prior for a parameter that the model does not have is a ``StudyError``."""
    terms = [column.label for column in design.population]
    factors = [block.factor.name for block in design.blocks]
    for given, known, what in (
        (priors.coefficients, terms, "coefficients"),
        (priors.sds, factors, "sds"),
        (priors.correlations, factors, "correlations"),
    ):
        for name in given:
            if name not in known:
                raise StudyError(f"priors: {what} names {name!r}, which the model does not have; it has {', '.join(known) or 'none'}.")
    for factor, own in priors.sds.items():
        labels = [column.label for block in design.blocks if block.factor.name == factor for column in block.columns]
        for term in own:
            if term and term not in labels:
                raise StudyError(f"priors: sds.{factor} names {term!r}, which does not vary by {factor}; {', '.join(labels)} do.")
    if priors.sigma and not has_sigma(design, family):
        raise StudyError(f"priors: sigma is given, but this {family} model estimates no residual sd; leave it out.")
    if priors.dispersion and not has_dispersion(family):
        raise StudyError(f"priors: dispersion is given, but the {family} family has none; leave it out.")
