"""``group_estimates`` of a two-part outcome: one expected value a level, beside no and complete pooling of both parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from multilevel.arrays import Floats, Integers
from multilevel.catalogue.table_assembly import Heading, Values, published_table, stack
from multilevel.design.nesting import Nesting
from multilevel.estimands.level_variance import LevelVariance
from multilevel.estimands.mix_parts import Sides, split_sides
from multilevel.estimands.new_levels import NewLevel, new_levels
from multilevel.estimands.probabilities import EXACT_LEVELS, RANK_DRAWS, ranks_of_draws, ranks_of_many
from multilevel.estimands.product import PartFit, TwoPartFit
from multilevel.estimands.product_bins import TwoPartBinning
from multilevel.estimands.product_new_groups import new_two_part_estimates
from multilevel.estimands.standardise import Standardisation, population_averages, standardise
from multilevel.estimands.unpooled import NoPooling
from multilevel.fit.container import Fit, Summary
from multilevel.tables.group_coefficients import level_counts
from multilevel.tables.group_rows import new_rows, seen_rows, with_variance_error

_MOST_DRAWN = 50_000_000
"""Doubles of joint draws above which ranks take each level's own interval instead."""


@dataclass(frozen=True)
class TwoPartPooling:
    """Both extremes of both parts: complete pooling (None where not estimable) and no pooling by factor."""

    complete: tuple[Fit, Fit] | None
    separate: Mapping[str, tuple[NoPooling, NoPooling]]


def two_part_group_estimates(
    both: TwoPartFit,
    tree: Nesting,
    heading: Heading,
    *,
    pooling: TwoPartPooling,
    variance: LevelVariance | None,
    named: Sequence[NewLevel] = (),
    seed: int = 0,
) -> pa.Table:
    """The whole table. ``variance``: the log-variances of a lognormal amount; ``named``: the levels of ``predict_for``."""
    pieces: list[dict[str, Values]] = []
    for name, factor in tree.factors.items():
        standard = standardise(TwoPartBinning(both), tree, name, variance)
        n, level = level_counts(both.fit, tree, name), factor.codes.astype(np.int64)
        complete = _complete(both, pooling.complete, standard, level)
        separate = pooling.separate.get(name)
        unpooled = None if separate is None else _no_pooling(both, separate, tree.own_tree(name), level)
        summary = with_variance_error(averages(both, standard), standard, variance, tree, name)
        pieces.append(
            seen_rows(name, factor, n, summary, unpooled=unpooled, complete=complete, ranks=_ranks(both, standard, summary, seed))
        )
        new = new_levels(tree, name, named)
        pieces.append(new_rows(name, factor, n, new, new_two_part_estimates(both, standard, tree, name, new, seed), complete))
    return published_table("group_estimates", heading, stack(pieces))


def averages(both: TwoPartFit, standard: Standardisation) -> Summary:
    """(L,) expected outcomes of the levels that ``standard`` prepares."""
    return Summary.joined([both.average(rows, weights) for _, rows, weights in standard.chunks()])


def _ranks(both: TwoPartFit, standard: Standardisation, summary: Summary, seed: int) -> tuple[Floats, Floats]:
    """As ``rank_intervals``: ranks of the linearised averages over joint draws of both parts."""
    widest = max(len(part.fit.joint.mean) for part in both.parts)
    if standard.n_levels > EXACT_LEVELS or (not both.is_bayesian and widest * RANK_DRAWS > _MOST_DRAWN):
        return ranks_of_many(summary.estimate, summary.std_error, both.interval, seed)
    drawn = both.draws(RANK_DRAWS, seed)
    noise = []
    for _, rows, weights in standard.chunks():
        gradients = both.gradients(rows, weights)
        noise.append(sum(g @ (d - p.fit.joint.mean).T for g, d, p in zip(gradients, drawn, both.parts, strict=True)))
    return ranks_of_draws(summary.estimate, np.concatenate(noise), both.interval, seed)


def _complete(both: TwoPartFit, fits: tuple[Fit, Fit] | None, standard: Standardisation, level: Integers) -> Floats:
    """(L,) complete pooling over the same mix; NaN where either part has none."""
    if fits is None:
        return np.full(standard.n_levels, np.nan)
    pooled = TwoPartFit(PartFit(fits[0]), PartFit(fits[1]), replace(both.design, blocks=()))
    found = averages(
        pooled, population_averages(TwoPartBinning(pooled), Sides(pooled.design, standard.sides.population, (), (), 1), level)
    ).estimate
    amount = fits[1]
    return found * np.exp(amount.sigma**2 / 2.0) if amount.design.cells.log_outcome and amount.sigma is not None else found


def _no_pooling(both: TwoPartFit, separate: tuple[NoPooling, NoPooling], owned: frozenset[str], level: Integers) -> tuple[Floats, Floats]:
    """(L,) averages and their standard errors, NaN where a term of a level is not estimable in either part."""
    fits = [entry.separate.fit for entry in separate]
    labels = [[column.label for column in fit.design.population] for fit in fits]
    common = tuple(column for column in both.design.population if any(column.label in own for own in labels))
    layout = [column.label for column in common]
    block = fits[0].design.blocks[0]
    effects = len(common) + np.arange(block.n_effects)
    parts = [
        PartFit(fit, np.concatenate([np.array([layout.index(label) for label in own], np.int64), effects]))
        for fit, own in zip(fits, labels, strict=True)
    ]
    unpooled = TwoPartFit(parts[0], parts[1], replace(both.design, population=common, blocks=(block,)))
    with np.errstate(all="ignore"):
        found = averages(unpooled, population_averages(TwoPartBinning(unpooled), split_sides(unpooled.design, [owned]), level))
        estimate, error = found.estimate, found.std_error
        if fits[1].design.cells.log_outcome:
            estimate, error = separate[1].natural_scale(estimate, error)
    usable = np.isfinite(estimate) & np.isfinite(error)
    for entry in separate:
        usable &= entry.separate.estimable.all(axis=1)
    return np.where(usable, estimate, np.nan), np.where(usable, error, np.nan)
