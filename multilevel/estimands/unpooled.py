"""What no pooling and complete pooling say about the levels of one factor, averaged over the same mix as partial pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.design.model import DesignColumn, GroupBlock
from multilevel.estimands.expected_outcome import ExpectedOutcome, PartFit
from multilevel.estimands.mix_parts import Sides, split_sides
from multilevel.estimands.standardise import Standardisation, population_averages
from multilevel.fit.container import Fit
from multilevel.fit.residuals import cell_residual_ss
from multilevel.pooling.extremes import NoPoolingFit


def complete_pooling(standard: Standardisation, fits: Sequence[Fit] | None) -> Floats:
    """(L,) the averages of the fits without any group terms, one a part, and for ``log y`` their own sigma.

    NaN throughout where there are none, or where one has a column that partial pooling does not have.
    """
    outcome = standard.outcome
    splits = dict(zip((column.label for column in outcome.design.population), standard.sides.population, strict=True))
    if fits is None or any(column.label not in splits for fit in fits for column in fit.design.population):
        return np.full(standard.n_levels, np.nan)
    pooled = _under(outcome, fits, ())
    sides = Sides(pooled.design, tuple(splits[column.label] for column in pooled.design.population), (), (), 1)
    found = population_averages(pooled, sides, _levels(standard)).respond().estimate
    last = fits[-1]
    return found * np.exp(last.sigma**2 / 2.0) if last.design.cells.log_outcome and last.sigma is not None else found


def no_pooling(standard: Standardisation, separate: Sequence[NoPoolingFit], owned: frozenset[str]) -> tuple[Floats, Floats]:
    """(L,) averages and their standard errors from the fits with one factor's terms free in every level, one a part.

    NaN where one of a level's terms is not estimable in some part. ``owned`` names the factors of the level's own tree. Under ``log y``
    each level has its own sigma, RSS / (n - k), and that of all levels together where it has no residual degrees of freedom.
    """
    fits = [entry.fit for entry in separate]
    with np.errstate(all="ignore"):
        free = _under(standard.outcome, fits, fits[0].design.blocks)
        found = population_averages(free, split_sides(free.design, [owned]), _levels(standard)).respond()
        estimate, error = found.estimate, found.std_error
        if fits[-1].design.cells.log_outcome:
            estimate, error = natural_scale(separate[-1], estimate, error)
    usable = np.isfinite(estimate) & np.isfinite(error)
    for entry in separate:
        usable &= entry.estimable.all(axis=1)
    return np.where(usable, estimate, np.nan), np.where(usable, error, np.nan)


def natural_scale(separate: NoPoolingFit, estimate: Floats, error: Floats) -> tuple[Floats, Floats]:
    """(L,) medians of y and their errors as means: each level's own sigma, RSS / (n - k), and what is unknown of it."""
    fit, factor = separate.fit, separate.fit.design.blocks[0].factor
    ss = np.bincount(factor.codes, cell_residual_ss(fit.design, fit.joint.mean), factor.n_levels)
    freedom = np.bincount(factor.codes, fit.design.cells.n, factor.n_levels) - separate.estimable.shape[1]
    common = fit.sigma**2 if fit.sigma is not None else 0.0
    sigma2 = np.where(freedom > 0, ss / np.maximum(freedom, 1), common)
    # Var(log s^2) is about 2 / df (Bartlett and Kendall 1946); a borrowed sigma is taken as known.
    of_sigma = np.where(freedom > 0, sigma2 / 2.0 * np.sqrt(2.0 / np.maximum(freedom, 1)), 0.0)
    natural = estimate * np.exp(sigma2 / 2.0)
    return natural, natural * np.hypot(error / estimate, of_sigma)


def _under(outcome: ExpectedOutcome, fits: Sequence[Fit], blocks: tuple[GroupBlock, ...]) -> ExpectedOutcome:
    """The outcome under other fits, one a part; the layout has every column that one of them has, and ``blocks``."""
    whole: dict[str, DesignColumn] = {column.label: column for column in outcome.design.population}
    used = dict.fromkeys(column.label for fit in fits for column in fit.design.population)
    layout = list(used)
    n_effects = sum(block.n_effects for block in blocks)
    everything = np.arange(len(layout) + n_effects)
    parts = []
    for fit in fits:
        places = np.array([*(layout.index(column.label) for column in fit.design.population), *everything[len(layout) :]], np.int64)
        parts.append(PartFit(fit, None if np.array_equal(places, everything) else places))
    return outcome.of(parts, replace(outcome.design, population=tuple(whole[label] for label in layout), blocks=blocks))


def _levels(standard: Standardisation) -> Integers:
    """(C,) the level of each cell."""
    return standard.own.level[standard.own.codes]
