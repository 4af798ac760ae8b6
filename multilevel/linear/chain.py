"""Factors nested in one another, eliminated in order: the leaves (customer:category), their parents (customers), theirs (income groups).

A level is joined to one level of each factor above it, and to whatever columns of the rest its rows touch. Eliminating the leaves
therefore leaves their parents' part of the Schur complement block diagonal, and adds nothing to a parent's row that its own rows do not
touch already: no matrix of levels by levels is ever formed, however many generations there are.

With H_l the cross-products of a level with the rest, J_l those with its ancestor and K_l = Lambda (Lambda' G_l Lambda + I)^-1 Lambda', a
level takes J_l' K_l [J_l H_l] from its ancestor's [G H] and H_l' K_l H_l from the rest's. Covariances are found on the same pattern from
the top down (Takahashi, Fagan and Chen 1973).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from multilevel.arrays import Floats, Integers
from multilevel.linear.elimination import add_products, conditional_blocks, scores, spreads
from multilevel.linear.products import CrossProducts, mirror


@dataclass(frozen=True)
class Upward:
    """How the L levels of a factor are joined to those of the factors eliminated after it, one entry a factor.

    ancestors : (L,) the level above. links : (L, k, kt) Z_l'Z_t with the ancestor's columns. places : (nnz,) where the level's columns of
    the rest are in the ancestor's pattern.
    """

    ancestors: tuple[Integers, ...] = ()
    links: tuple[Floats, ...] = ()
    places: tuple[Integers, ...] = ()

    def part(self, levels: slice, starts: Integers) -> Upward:
        """Of a run of levels, whose columns begin at ``starts`` (L + 1,); shares their numbers."""
        here = slice(int(starts[levels.start]), int(starts[levels.stop]))
        return Upward(
            tuple(own[levels] for own in self.ancestors), tuple(own[levels] for own in self.links), tuple(own[here] for own in self.places)
        )


NOT_JOINED = Upward()
"""Of a factor above which nothing else is eliminated."""


@dataclass(frozen=True)
class Stage:
    """A factor eliminated after those nested in it. blocks : which; own : (L, k, k) Z'Z by level; cross : with the rest, by level."""

    blocks: tuple[int, ...]
    own: Floats
    cross: CrossProducts
    up: Upward


@dataclass(frozen=True)
class StageFactor:
    """A stage with what is left of its cross-products once all below is eliminated. kernels : (L, k, k) Var(b | all above) / sigma^2."""

    stage: Stage
    own_lambda: Floats
    kernels: Floats

    @cached_property
    def unit_kernels(self) -> Floats:
        """(L, k, k) of u: (Lambda' G Lambda + I)^-1."""
        inner = self.own_lambda.T @ self.stage.own @ self.own_lambda + np.eye(len(self.own_lambda))
        return 1.0 / inner if len(self.own_lambda) == 1 else np.linalg.inv(inner)


@dataclass(frozen=True)
class RestCovariance:
    """Of the factors that stay: diagonals per block (L, k, k), of u; effects (q_r, q_r), of b."""

    diagonals: tuple[Floats, ...]
    effects: Floats


@dataclass(frozen=True)
class SelectedCovariance:
    """Covariances of a stage's levels over sigma^2: own (L, k, k); links (L, k, kt) with each ancestor; cross (nnz, k) with the columns of
    the rest on the stage's pattern, zero for those that have none. spread : (L, k, k) as from ``spreads_above``."""

    own: Floats
    spread: Floats
    links: tuple[Floats, ...]
    cross: Floats


def places_in(cross: CrossProducts, ancestors: Integers, above: CrossProducts, width: int) -> Integers:
    """(nnz,) where each column of a level is in the pattern of the level above it, which has all of them; ``width`` columns in all."""
    level = np.repeat(ancestors, np.diff(cross.starts))
    have = np.repeat(np.arange(len(above.starts) - 1), np.diff(above.starts)) * width + above.columns
    return np.searchsorted(have, level * width + cross.columns)


def fold_up(chain: Sequence[Stage], kernels: Floats, cross: CrossProducts, up: Upward, *, sign: float = -1.0) -> list[Stage]:
    """The stages above with a factor's levels eliminated: new ones, the given ones stay as they are."""
    if not chain:
        return []
    from multilevel.linear.chain_loops import fold, fold_links

    result = []
    for at, stage in enumerate(chain):
        own, values = stage.own.copy(), stage.cross.values.copy()
        fold(kernels, up.links[at], up.ancestors[at], cross.starts, cross.values, up.places[at], own, values, sign)
        links = [link.copy() for link in stage.up.links]
        for further, link in enumerate(links):
            fold_links(kernels, up.links[at], up.links[at + 1 + further], up.ancestors[at], link, sign)
        result.append(Stage(stage.blocks, own, replace(stage.cross, values=values), replace(stage.up, links=tuple(links))))
    return result


def eliminate(chain: Sequence[Stage], lambdas: Sequence[Floats], schur: Floats) -> tuple[list[StageFactor], float]:
    """Eliminate ``chain``, whose own descendants are, with the stages' ``lambdas``; takes their part from ``schur`` (m, m), in place.

    Returns the stages factorised and the sum of log |Lambda' G Lambda + I|.
    """
    found, log_det = [], 0.0
    total = np.zeros(schur.shape) if chain else schur
    for factor, own_log_det in folded(chain, lambdas):
        log_det += own_log_det
        add_products(total, factor.stage.cross, factor.kernels, np.arange(len(factor.kernels)))
        found.append(factor)
    if found:
        mirror(total)
        schur -= total
    return found, log_det


def folded(chain: Sequence[Stage], lambdas: Sequence[Floats]) -> Iterator[tuple[StageFactor, float]]:
    """The stages of ``chain`` factorised in order, each with its log |Lambda' G Lambda + I|."""
    left = list(chain)
    for lam in lambdas:
        stage = left.pop(0)
        kernels, log_det = conditional_blocks(stage.own, lam)
        yield StageFactor(stage, lam, kernels), log_det
        left = fold_up(left, kernels, stage.cross, stage.up)


def selected_covariances(chain: Sequence[StageFactor], covariance: Floats) -> list[SelectedCovariance]:
    """Per stage, from that of the rest's first columns ``covariance`` (w, w)."""
    found: list[SelectedCovariance] = []
    for factor in reversed(chain):
        found.insert(0, _selected(factor, found, covariance))
    return found


def _selected(factor: StageFactor, above: Sequence[SelectedCovariance], covariance: Floats) -> SelectedCovariance:
    from multilevel.linear.chain_loops import inner, lift, times_covariance

    stage, kernels = factor.stage, factor.kernels
    cross, up = stage.cross, stage.up
    levels, k = len(stage.own), stage.own.shape[1]
    on_rest = np.zeros(cross.values.shape)
    if cross.is_full:
        width = len(covariance)
        whole = np.zeros(cross.full.shape)
        whole[:, :, :width] = (cross.full.reshape(levels * k, -1)[:, :width] @ covariance).reshape(levels, k, width)
        on_rest = np.ascontiguousarray(whole.transpose(0, 2, 1)).reshape(-1, k)
    else:
        times_covariance(cross.starts, cross.columns, cross.values, covariance, on_rest)
    for link, places, one in zip(up.links, up.places, above, strict=True):
        lift(link, cross.starts, places, one.cross, on_rest)
    on_links = [_along(cross, up, at, above) + _between(up, at, above) for at in range(len(above))]
    spread = np.zeros((levels, k, k))
    inner(cross.starts, on_rest, cross.values, spread)
    for moved, link in zip(on_links, up.links, strict=True):
        spread += moved @ link.transpose(0, 2, 1)
    by_entry = -_by_entry(kernels, cross, on_rest)
    return SelectedCovariance(kernels + kernels @ spread @ kernels, spread, tuple(-kernels @ moved for moved in on_links), by_entry)


def _by_entry(kernels: Floats, cross: CrossProducts, values: Floats) -> Floats:
    """(nnz, k) K_l times each entry of a level's pattern."""
    if kernels.shape[1] == 1:
        return values * np.repeat(kernels[:, 0, 0], np.diff(cross.starts))[:, None]
    return np.asarray(np.einsum("nij,nj->ni", np.repeat(kernels, np.diff(cross.starts), axis=0), values))


def _along(cross: CrossProducts, up: Upward, at: int, above: Sequence[SelectedCovariance]) -> Floats:
    """(L, k, kt) H times the rest's covariance with ancestor ``at``."""
    from multilevel.linear.chain_loops import along

    moved = np.zeros(up.links[at].shape)
    along(cross.starts, cross.values, up.places[at], above[at].cross, moved)
    return moved


def _between(up: Upward, at: int, above: Sequence[SelectedCovariance]) -> Floats:
    """(L, k, kt) J times the covariance of all ancestors with ancestor ``at``."""
    total = up.links[at] @ above[at].own[up.ancestors[at]]
    for other, link in enumerate(up.links):
        if other < at:
            total += link @ above[other].links[at - other - 1][up.ancestors[other]]
        elif other > at:
            total += link @ above[at].links[other - at - 1][up.ancestors[at]].transpose(0, 2, 1)
    return np.asarray(total)


def spreads_above(cross: CrossProducts, up: Upward, above: Sequence[SelectedCovariance], covariance: Floats) -> Floats:
    """(L, k, k) [H J] Cov [H J]' of every level, Cov that of the rest and of its ancestors."""
    total = spreads(cross, covariance, np.arange(len(cross.starts) - 1))
    for at, link in enumerate(up.links):
        with_rest = _along(cross, up, at, above) @ link.transpose(0, 2, 1)
        total += with_rest + with_rest.transpose(0, 2, 1) + _between(up, at, above) @ link.transpose(0, 2, 1)
    return total


def scores_above(cross: CrossProducts, up: Upward, effects: Sequence[Floats], residual: Floats) -> Floats:
    """(L, k) Z_l'(y less what the rest and the ancestors' ``effects`` (Lt, kt) fit); ``residual`` (m,) has the rest's with minus signs."""
    total = scores(cross, residual, np.arange(len(cross.starts) - 1))
    for link, ancestors, own in zip(up.links, up.ancestors, effects, strict=True):
        total -= np.einsum("lij,lj->li", link, own[ancestors])
    return total
