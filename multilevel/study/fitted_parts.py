"""Every part of a study fitted: partial pooling, the same without group-level predictors, complete and no pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from multilevel.bayesian.sampling import Sampling
from multilevel.design.nesting import Nesting
from multilevel.design.parts import PARTS
from multilevel.errors import StudyError
from multilevel.estimands.fitted_part import FittedPart
from multilevel.estimands.level_variance import LevelVariance, level_variance
from multilevel.fit.container import Fit
from multilevel.fit.residuals import expected_residual_ss
from multilevel.interpretation.contextual import ContextualEffect, contextual_effects
from multilevel.linear.neighbour import Neighbour
from multilevel.study.clock import Clock
from multilevel.study.designs import StudyPart, tree_of
from multilevel.study.engines import fit_partial, fit_without_group_predictors
from multilevel.study.extremes_by_factor import Pooling, fit_pooling
from multilevel.study.options import FitOptions

DONE = 0.85
"""Share of a study's work that is done when its parts are fitted."""


@dataclass(frozen=True)
class PartResults:
    """One part, fitted.

    options : the study's, with the part's own priors and seed. tree : the study's nesting with the codes of this part's cells.
    without : partial pooling less the group-level predictors, None where there are none. variance : the log-variances of a ``log y``.
    """

    part: StudyPart
    options: FitOptions
    tree: Nesting
    fit: Fit
    without: Fit | None
    pooling: Pooling
    contextual: list[ContextualEffect]
    variance: LevelVariance | None

    @property
    def everywhere(self) -> Fit:
        """Partial pooling over every cell, also those that this part has no rows in."""
        return self.fit if self.part.everywhere is self.part.design else replace(self.fit, design=self.part.everywhere)

    @property
    def fitted(self) -> FittedPart:
        """As averages, contrasts and predictions need it."""
        return FittedPart(self.part.name, self.fit, self.part.everywhere, self.variance)


def fit_parts(parts: Sequence[StudyPart], tree: Nesting, options: FitOptions, clock: Clock) -> tuple[PartResults, ...]:
    """Fit one part after the other; ``clock`` is told of every step."""

    def done(place: int, share: float) -> float:
        return (place * DONE + share) / len(parts)

    found = []
    for place, part in enumerate(parts):
        own = options_of_part(options, part)
        with clock.step(part.told("partial pooling"), done(place, 0.7)) as told:
            fit = fit_partial(part.design, replace(own, progress=told))
        with clock.step(part.told("without group-level predictors"), done(place, 0.8)):
            without = fit_without_group_predictors(part.design, own, fit)
        with clock.step(part.told("complete and no pooling"), done(place, DONE)):
            pooling = fit_pooling(part.design, tree, own, fit)
        own_tree = tree if part.name is None else tree_of(part.design, tree)
        contextual = contextual_effects(fit, pooling.complete)
        found.append(PartResults(part, own, own_tree, fit, without, pooling, contextual, _variance(fit, own_tree)))
    return tuple(found)


def options_of_part(options: FitOptions, part: StudyPart) -> FitOptions:
    """The study's options for one part: its own priors, and random numbers that the other part does not use."""
    if part.name is None:
        return options
    near: dict[str, Neighbour] = {name: found for name, found in options.model.near.items() if name == part.name}
    priors = options.model.priors
    if priors is not None:
        if not isinstance(priors, Mapping) or set(priors) - set(PARTS):
            raise StudyError(f"priors: {priors!r}: a two-part model takes priors: {{occurrence: ..., amount: ...}}.")
        priors = priors.get(part.name)
    method = options.model.method if part.name == "amount" or options.model.method == "ml" else None
    model = replace(options.model, priors=priors, method=method, near=near, seed=options.model.seed + PARTS.index(part.name))
    sampling = options.sampling
    if options.model.engine == "bayesian":
        from multilevel.bayesian.memory import with_draws

        sampling = with_draws(part.design, cast(Sampling | Mapping[str, object] | None, sampling))
    return replace(options, model=model, sampling=sampling)


def _variance(fit: Fit, tree: Nesting) -> LevelVariance | None:
    cells = fit.design.cells
    if not cells.log_outcome:
        return None
    return level_variance(cells.n, expected_residual_ss(fit.design, fit.joint), dict(tree.factors))
