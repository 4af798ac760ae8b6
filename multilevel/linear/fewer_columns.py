"""The system of fewer population columns, from the cross-products of all: no row is gone through again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from multilevel.arrays import Flags, Floats
from multilevel.linear.chain import Stage, Upward, places_in
from multilevel.linear.factorise import BlockedSystem
from multilevel.linear.products import CrossProducts


def fewer_columns(system: BlockedSystem, kept: Flags, held: Floats) -> BlockedSystem:
    """The system of the columns of X that are ``kept`` (p,), and of the outcome less X ``held`` (p,), for one factorisation.

    With X = Q T and y = Q l + r, the kept columns are Q W S, W S the QR factors of theirs in T, and what they leave of y - X held is
    r + Q (I - W W') (l - T held): all cross-products with these are linear in those there are.
    """
    basis, triangle = np.linalg.qr(system.triangle[:, kept])
    location = system.location - system.triangle @ held
    inside = basis.T @ location
    d = system.n_population + 1
    # (p + 1, kept + 1) from [Q r] to the new basis and residual
    turn = np.zeros((d, basis.shape[1] + 1))
    turn[:-1, :-1], turn[:-1, -1], turn[-1, -1] = basis, location - basis @ inside, 1.0
    cross = _turned(system.cross, turn)
    stages = [(stage, _turned(stage.cross, turn)) for stage in system.chain]
    crosses, width = [cross, *(own for _, own in stages)], len(system.gram) - d + turn.shape[1]
    ups = [_joined(up, crosses[at:], width) for at, up in enumerate([system.up, *(stage.up for stage in system.chain)])]
    return replace(
        system,
        cross=cross,
        gram=_gram(system.gram, turn),
        triangle=triangle,
        location=inside,
        inside=None if system.inside is None else turn.T @ system.inside @ turn,
        is_for_once=True,
        chain=tuple(Stage(stage.blocks, stage.own, own, up) for (stage, own), up in zip(stages, ups[1:], strict=True)),
        up=ups[0],
    )


def _turned(cross: CrossProducts, turn: Floats) -> CrossProducts:
    """With the last columns, which every level has, times ``turn`` (d, d')."""
    (d, fewer), k, levels = turn.shape, cross.values.shape[1], len(cross.starts) - 1
    if not levels:
        return cross
    ends = cross.starts[1:]
    places = (ends - d)[:, None] + np.arange(d)
    first = int(cross.columns[places[0, 0]])
    new = np.einsum("ldk,de->lek", cross.values[places], turn)
    stays = np.ones(len(cross.columns), dtype=np.bool_)
    stays[places[:, fewer:]] = False
    at = np.cumsum([0, *np.diff(cross.starts) - (d - fewer)])
    columns, values = cross.columns[stays], cross.values[stays]
    here = (at[1:] - fewer)[:, None] + np.arange(fewer)
    columns[here], values[here] = first + np.arange(fewer), new.reshape(levels, fewer, k)
    return CrossProducts(at, columns, values, cross.is_full)


def _joined(up: Upward, crosses: list[CrossProducts], width: int) -> Upward:
    """The places of the first factor's columns in the patterns of those above, of ``width`` columns."""
    places = (places_in(crosses[0], levels, above, width) for levels, above in zip(up.ancestors, crosses[1:], strict=True))
    return replace(up, places=tuple(places))


def _gram(gram: Floats, turn: Floats) -> Floats:
    """(m', m') with the last columns times ``turn``."""
    q = len(gram) - len(turn)
    beside = gram[:q, q:] @ turn
    return np.block([[gram[:q, :q], beside], [beside.T, turn.T @ gram[q:, q:] @ turn]])
