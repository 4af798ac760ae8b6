"""The curvature of a linear model's criterion in theta from solves, where differences would cost a factorisation each.

With P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1 and V_i the derivative of V = I + Z Lambda Lambda' Z', the mean of observed and expected
information is (V_i P y)'P (V_j P y), one solve a parameter (Gilmour, Thompson and Cullis 1995, eq. 7). Where sigma^2 = r^2 / df is
profiled out, the criterion's curvature is df [(V_i P y)'P (V_j P y) / r^2 - q_i q_j / r^4] with q_i = y'P V_i P y. It says where a
search goes next; nothing of it is published.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from multilevel.arrays import Floats
from multilevel.generalised.average_information import second_order
from multilevel.generalised.reweighting import Coordinates, solve
from multilevel.linear.chain import Stage
from multilevel.linear.criterion import Criterion
from multilevel.linear.factorise import BlockedFactor, BlockedSystem
from multilevel.linear.small_blocks import column_slices
from multilevel.threads import shared_out

LARGE_DENSE, LARGE_EFFECTS = 400, 20_000
"""Columns outside the eliminated factors, or effects, from which a factorisation costs far more than the solves."""


def is_worthwhile(system: BlockedSystem) -> bool:
    """Whether a search should ask for the curvature."""
    return len(system.gram) >= LARGE_DENSE or system.n_effects >= LARGE_EFFECTS


def scored_curvature(criterion: Criterion, factor: BlockedFactor, theta: Floats, gradient: Floats) -> Floats:
    """(n, n) about the Hessian of ``criterion`` at ``theta`` (n,), factorised, with its ``gradient`` (n,)."""
    system, layout = criterion.system, criterion.layout
    stages = _stages(system)
    score = _score(factor, stages)
    moves: list[Coordinates] = []
    pulls = np.zeros(layout.n)
    for index in range(layout.n):
        turns = [entry @ own.T for entry, own in zip(layout.lambdas(np.eye(layout.n)[index]), factor.lambdas, strict=True)]
        parts = [part @ (turn + turn.T) for part, turn in zip(score, turns, strict=True)]
        pulls[index] = sum(float(np.vdot(part, move)) for part, move in zip(score, parts, strict=True))
        moves.append(_from_blocks(system, stages, parts, np.zeros(system.n_population)))
    solved: list[tuple[Coordinates, Coordinates] | None] = [None] * layout.n

    def of_parameter(index: int) -> None:
        image = _cross_products_times(system, stages, moves[index])
        solved[index] = image, solve(factor, image, with_basis=True)[0]

    shared_out([partial(of_parameter, index) for index in range(layout.n)])
    images, follows = zip(*filter(None, solved), strict=True)
    average = np.zeros((layout.n, layout.n))
    for row, (move, image) in enumerate(zip(moves, images, strict=True)):
        average[row] = [move.dot(other) - image.dot(follow) for other, follow in zip(images, follows, strict=True)]
    if criterion.fixed_sigma is not None:
        found = average / criterion.fixed_sigma**2
    else:
        rss = factor.penalised_rss
        found = criterion.degrees_of_freedom * (average / rss - np.outer(pulls, pulls) / rss**2)
    return np.asarray((found + found.T) / 2.0 + second_order(layout, theta, gradient))


def _stages(system: BlockedSystem) -> tuple[Stage, ...]:
    """Every eliminated factor with its own cross-products, from the leaves up."""
    return (Stage(system.merged, system.own, system.cross, system.up), *system.chain) if system.merged else ()


def _score(factor: BlockedFactor, stages: Sequence[Stage]) -> list[Floats]:
    """Per block (L, k) Z'P y: what the fit leaves of the outcome, summed by level."""
    system = factor.system
    starts = np.concatenate([[0], np.cumsum([levels * k for levels, k in system.sizes])])
    every = factor.effects
    effects = [every[start : start + size[0] * size[1]].reshape(size) for start, size in zip(starts, system.sizes, strict=False)]
    basis = factor.rest_solution[system.rest_starts[-1] :]
    left = _cross_products_times(system, stages, _from_blocks(system, stages, effects, basis), outcome=-1.0).times(-1.0)
    found: list[Floats] = [np.zeros(size) for size in system.sizes]
    for stage, own in zip(stages, left.eliminated, strict=True):
        for index, here in column_slices(system.sizes, stage.blocks):
            found[index] = own[:, here]
    for index, start in zip(system.rest, system.rest_starts, strict=False):
        levels, k = system.sizes[index]
        found[index] = left.rest[start : start + levels * k].reshape(levels, k)
    return found


def _from_blocks(system: BlockedSystem, stages: Sequence[Stage], blocks: Sequence[Floats], basis: Floats) -> Coordinates:
    """A vector over all coefficients from its (L, k) parts."""
    rest = [blocks[index].ravel() for index in system.rest]
    eliminated = tuple(np.hstack([blocks[index] for index in stage.blocks]) for stage in stages)
    return Coordinates(np.concatenate(rest) if rest else np.zeros(0), eliminated, basis)


def _cross_products_times(system: BlockedSystem, stages: Sequence[Stage], vector: Coordinates, outcome: float = 0.0) -> Coordinates:
    """[Z Q]'([Z Q] vector + outcome r)."""
    from multilevel.generalised.kernels import cross_times, transposed_times

    on_rest = np.concatenate([vector.rest, vector.basis, [outcome]])
    rest = system.gram @ on_rest
    eliminated = []
    for at, stage in enumerate(stages):
        own = vector.eliminated[at]
        cross = stage.cross
        eliminated.append(np.einsum("lij,lj->li", stage.own, own) + cross_times(cross.starts, cross.columns, cross.values, on_rest))
        rest = rest + transposed_times(cross.starts, cross.columns, cross.values, own, len(on_rest))
    for at, stage in enumerate(stages):
        for above, (ancestors, link) in enumerate(zip(stage.up.ancestors, stage.up.links, strict=True), at + 1):
            eliminated[at] = eliminated[at] + np.einsum("lij,lj->li", link, vector.eliminated[above][ancestors])
            passed = np.einsum("lij,li->lj", link, vector.eliminated[at])
            sums = [np.bincount(ancestors, column, len(eliminated[above])) for column in passed.T]
            eliminated[above] = eliminated[above] + np.stack(sums, axis=1)
    q = system.rest_starts[-1]
    return Coordinates(rest[:q], tuple(eliminated), rest[q:-1])
