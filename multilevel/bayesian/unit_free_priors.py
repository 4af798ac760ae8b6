"""Priors in unit-free coordinates: what a study writes for a predictor in its own unit, and what the samplers use.

Defaults are resolved on the unit-free design, so they do not depend on where a predictor has its zero: a coefficient, the sd of a varying
intercept and a correlation are those at the mean of the other numeric predictors, wherever the model has the terms to centre them. A prior
that a study writes speaks of the same, in the predictor's own unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from multilevel.bayesian.distributions import Prior
from multilevel.bayesian.priors import Priors, ResolvedPriors, refuse_strangers, resolve_priors
from multilevel.design.model import Design, DesignColumn
from multilevel.design.unit_free import UnitFree, unit_free


@dataclass(frozen=True)
class ModelPriors:
    """``form``: the unit-free design; ``inner``: the priors of its coefficients; ``written``: ``terms`` and ``sds`` as a study would write
    them, in the units of the predictors, for people (its ``beta_location`` and ``beta_precision`` are those of ``inner``)."""

    form: UnitFree
    inner: ResolvedPriors
    written: ResolvedPriors


def model_priors(design: Design, family: str, priors: Priors) -> ModelPriors:
    """Every prior of a model; a prior for a parameter that it does not have is a ``StudyError``."""
    refuse_strangers(design, family, priors)
    form = unit_free(design)
    population = {column.label: _unit(column, form) for column in design.population}
    given = replace(
        priors,
        coefficients={term: _scaled(prior, population[term]) for term, prior in priors.coefficients.items()},
        sds={name: _scaled_sds(design, name, form, priors) for name in priors.sds},
    )
    inner = resolve_priors(form.design, family, given)
    written = replace(
        inner,
        terms=tuple(_scaled(prior, 1.0 / _unit(c, form)) for prior, c in zip(inner.terms, design.population, strict=True)),
        sds=tuple(
            tuple(_scaled(prior, 1.0 / _unit(c, form)) for prior, c in zip(sds, block.columns, strict=True))
            for sds, block in zip(inner.sds, design.blocks, strict=True)
        ),
    )
    return ModelPriors(form, inner, written)


def _scaled_sds(design: Design, name: str, form: UnitFree, priors: Priors) -> dict[str, Prior]:
    own = priors.sds[name]
    found = {}
    for block in design.blocks:
        if block.factor.name != name:
            continue
        for column in block.columns:
            prior = own.get(column.label) or own.get("")
            if prior is not None:
                found[column.label] = _scaled(prior, _unit(column, form))
    return found


def _unit(column: DesignColumn, form: UnitFree) -> float:
    return math.prod(form.units[label][1] for label in column.numbers)


def _scaled(prior: Prior, factor: float) -> Prior:
    """The distribution of ``factor`` times the parameter."""
    if factor == 1.0:
        return prior
    if prior.name == "log_normal":
        return replace(prior, arguments=(prior.arguments[0] + math.log(factor), prior.arguments[1]))
    if prior.name == "half_student_t":
        return replace(prior, arguments=(prior.arguments[0], prior.arguments[1] * factor))
    return replace(prior, arguments=tuple(value * factor for value in prior.arguments))
