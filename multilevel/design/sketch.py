"""Whether the covariance matrices of a model's group terms are linearly independent, from a few products with random vectors.

The outcome, less what the population columns X explain, has covariance M (sum over blocks of Z_b Sigma_b Z_b' + sigma^2 I) M with M the
projector off X. It is linear in the entries of the Sigma_b and in sigma^2, so they are identified exactly where the matrices M Z_i Z_j' M
(and M) that they multiply are linearly independent (Searle, Casella and McCulloch 1992, section 11.2; Demidenko 2013, section 3.2). A
combination of matrices that is not zero sends a random vector to zero with probability zero, so products with a few random vectors decide
(Halko, Martinsson and Tropp 2011), and no matrix of levels by levels is ever formed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr

from multilevel.arrays import Codes, Floats
from multilevel.design.model import Design, DesignColumn
from multilevel.design.reduction import ReducedBlock, reduce_design, restrict_design
from multilevel.design.unit_free import unit_free

TOLERANCE = 1e-7
"""Part of a column's or a matrix's size, left over by the others, below which nothing is left: rounding is 1e-10 and less."""

COLLINEAR = 1e-12
"""Part of a column's size that the other columns of its block leave, below which it is a sum of them."""

MANY_CELLS = 20_000
"""Cells above which a part of the levels is looked at first: what some rows identify, all of them do."""

FEWEST_PROBES = 8

NEGLIGIBLE = 1e-3
"""Part in a linear dependence below which a block takes no part in it."""


@dataclass(frozen=True)
class Spanned:
    """Columns of a block that the population columns determine, level by level: their places, or none where only a sum of them is."""

    block: int
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Dependence:
    """Blocks whose matrices add up to nothing, with the residual's where ``residual``."""

    blocks: tuple[int, ...]
    residual: bool


def find_unidentified(design: Design, *, seed: int = 0) -> Spanned | Dependence | None:
    """The first reason why (co)variances of the design are not identified; None where they all are."""
    design = unit_free(design).design
    if design.cells.n_cells > MANY_CELLS and _reason(_some_levels(design, seed), seed) is None:
        return None
    return _reason(design, seed)


def _some_levels(design: Design, seed: int) -> Design:
    """The cells of so many levels, taken at random, of the factor with most levels."""
    factor = max((block.factor for block in design.blocks), key=lambda factor: factor.n_levels)
    order = np.random.default_rng(seed).permutation(factor.n_levels)
    sizes = np.bincount(factor.codes, minlength=factor.n_levels)[order]
    n_chosen = max(2, int(np.searchsorted(np.cumsum(sizes), MANY_CELLS)))
    chosen = np.zeros(factor.n_levels, dtype=np.bool_)
    chosen[order[:n_chosen]] = True
    return restrict_design(design, np.flatnonzero(chosen[factor.codes]))


def _reason(design: Design, seed: int) -> Spanned | Dependence | None:
    system = _system(design)
    rng = np.random.default_rng(seed)
    roots = []
    for place, block in enumerate(system.blocks):
        whole, left = _sketches(system, block, rng)
        columns = _spanned_columns(whole, left)
        if columns is not None:
            return Spanned(place, columns)
        roots.append(np.linalg.inv(left))
    return _dependence(system, roots, rng)


@dataclass(frozen=True)
class _System:
    """R rows on a scale where cells weigh alike: ``basis`` (R, p) orthonormal of X, the blocks, ``variance`` (R,) of the residual over
    sigma^2, None where it is no parameter."""

    basis: Floats
    blocks: tuple[ReducedBlock, ...]
    variance: Floats | None

    def off_population(self, values: Floats) -> Floats:
        """M ``values`` (R,) or (R, m); twice, so that rounding of the first leaves nothing."""
        once = values - self.basis @ (self.basis.T @ values)
        return np.asarray(once - self.basis @ (self.basis.T @ once))


def _system(design: Design) -> _System:
    cells = design.cells
    rows = reduce_design(design)
    is_linear = cells.has_moments
    # rows of a linear model carry sqrt(weight) times what their cell's mean row does
    scale = (np.sqrt(cells.weight[rows.cell]) if is_linear else np.ones(len(rows.cell)))[rows.size > 0]
    used = rows.size > 0
    X = _centred(rows.X[used] / scale[:, None], design.population)
    blocks = tuple(
        _distinct(block.codes[used], _centred(block.values[used] / scale[:, None], own.columns))
        for block, own in zip(rows.blocks, design.blocks, strict=True)
    )
    if not is_linear or cells.known_sigma:
        return _System(_basis(X), blocks, None)
    variance = 1.0 / scale**2
    if rows.n_rows > len(rows.cell):
        # rows of a cell differ by the residual alone
        X, variance = _with_zero(X), np.append(variance, variance.max())
        blocks = tuple(ReducedBlock(np.append(block.codes, block.codes[:1]), _with_zero(block.values), block.n_levels) for block in blocks)
    return _System(_basis(X), blocks, variance)


def _centred(values: Floats, columns: Sequence[DesignColumn]) -> Floats:
    """Columns (R, k) less a multiple of the intercept where there is one, which spans the same: large means cost no digits."""
    place = next((at for at, column in enumerate(columns) if column.label == "Intercept"), None)
    if place is None:
        return values
    intercept = values[:, place].copy()
    means = intercept @ values / (intercept @ intercept)
    centred = values - np.outer(intercept, means)
    centred[:, place] = intercept
    return np.asarray(centred)


def _distinct(codes: Codes, values: Floats) -> ReducedBlock:
    found, places = np.unique(codes, return_inverse=True)
    return ReducedBlock(places.astype(np.int32), values, len(found))


def _with_zero(values: Floats) -> Floats:
    return np.vstack([values, np.zeros((1, values.shape[1]))])


def _basis(X: Floats) -> Floats:
    """(R, p) orthonormal columns that span those of X; more than those where X is of lower rank, as in a part of the rows."""
    length = np.sqrt(np.sum(X**2, axis=0))
    X = X[:, length > 0] / length[length > 0]
    return np.asarray(qr(X, mode="economic")[0]) if X.size else np.zeros((len(X), 0))


def _triangle(pieces: Iterator[Floats], width: int) -> Floats:
    """(width, width) R of the QR factorisation of all pieces (n, width) on top of each other, one at a time."""
    triangle = np.zeros((width, width))
    for piece in pieces:
        triangle = np.asarray(qr(np.vstack([triangle, piece]), mode="r")[0][:width])
    return triangle


def _sketches(system: _System, block: ReducedBlock, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """(k, k) triangles T with a'T'Ta the size of the block's columns in direction a: as they are, and off the population columns."""
    k = block.values.shape[1]
    probes = rng.standard_normal((FEWEST_PROBES + k, block.n_levels))
    columns = [block.values * probe[block.codes][:, None] for probe in probes]
    return _triangle(iter(columns), k), _triangle((system.off_population(piece) for piece in columns), k)


def _spanned_columns(whole: Floats, left: Floats) -> tuple[int, ...] | None:
    """Columns of which the population columns leave nothing; () for a sum of columns, None where all are left."""
    size, remains = (np.sqrt(np.sum(triangle**2, axis=0)) for triangle in (whole, left))
    alone = np.flatnonzero(remains <= TOLERANCE * size)
    if len(alone):
        return tuple(int(place) for place in alone)
    # in coordinates in which the columns as they are have no direction longer than another
    values = np.linalg.svd(whole / size, compute_uv=False)
    if values[-1] <= COLLINEAR * values[0]:
        return ()
    shares = np.linalg.svd(left @ np.linalg.inv(whole), compute_uv=False)
    return () if shares[-1] <= TOLERANCE else None


def _dependence(system: _System, roots: list[Floats], rng: np.random.Generator) -> Dependence | None:
    """The smallest dependence between the blocks' matrices; ``roots`` give each block columns of equal length off X."""
    owners = [place for place, root in enumerate(roots) for _ in range(len(root) * (len(root) + 1) // 2)]
    owners += [-1] if system.variance is not None else []
    blocks = [ReducedBlock(b.codes, b.values @ root, b.n_levels) for b, root in zip(system.blocks, roots, strict=True)]
    n_rows = len(system.basis)

    def piece(probe: Floats) -> Floats:
        start = system.off_population(probe)
        products = [column for block in blocks for column in _products(block, start)]
        products += [system.variance * start] if system.variance is not None else []
        return system.off_population(np.column_stack(products))

    width = len(owners)
    triangle = _triangle((piece(rng.standard_normal(n_rows)) for _ in range(FEWEST_PROBES + width)), width)
    size = np.sqrt(np.sum(triangle**2, axis=0))
    _, values, directions = np.linalg.svd(triangle / np.where(size > 0, size, 1.0))
    found = directions[values <= TOLERANCE * values[0]]
    if not len(found):
        return None
    return _smallest(found, owners)


def _smallest(directions: Floats, owners: list[int]) -> Dependence:
    """Of all that takes part in the dependences (d, width) those blocks that one of them needs."""
    chosen = list(dict.fromkeys(owners))
    for owner in list(chosen):
        # a dependence without this block's matrices: directions that vanish on them
        of_owner = directions[:, [place for place, name in enumerate(owners) if name == owner]]
        left, values, _ = np.linalg.svd(of_owner)
        without = left[:, np.sum(values > NEGLIGIBLE) :].T
        if len(without):
            directions = without @ directions
            chosen.remove(owner)
    return Dependence(tuple(place for place in chosen if place >= 0), -1 in chosen)


def _products(block: ReducedBlock, probe: Floats) -> Iterator[Floats]:
    """(R,) (Z_i Z_j' + Z_j Z_i') ``probe`` for the pairs i <= j of the block's columns."""
    k = block.values.shape[1]
    sums = [np.bincount(block.codes, block.values[:, i] * probe, block.n_levels)[block.codes] for i in range(k)]
    for i in range(k):
        for j in range(i, k):
            yield block.values[:, i] * sums[j] + (block.values[:, j] * sums[i] if i != j else 0.0)
