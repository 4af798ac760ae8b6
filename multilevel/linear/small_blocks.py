"""Small square blocks, one a level or one a term: side by side, on the diagonal of a large matrix, their roots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from multilevel.arrays import Floats


def side_by_side(parts: Sequence[Floats]) -> Floats:
    """The ``parts`` (k, k) of terms of one factor as one block-diagonal matrix."""
    size = sum(len(part) for part in parts)
    whole = np.zeros((size, size))
    start = 0
    for part in parts:
        whole[start : start + len(part), start : start + len(part)] = part
        start += len(part)
    return whole


def diagonal_blocks(matrix: Floats, start: int, size: tuple[int, int]) -> Floats:
    """(L, k, k) copies of the diagonal blocks of one factor."""
    levels, k = size
    here = matrix[start : start + levels * k, start : start + levels * k]
    return np.einsum("lalb->lab", here.reshape(levels, k, levels, k)).copy()


def matrix_roots(kernels: Floats) -> Floats:
    """(L, k, k) roots A with A A' = kernel; kernels may be singular."""
    if kernels.shape[1] == 1:
        return np.sqrt(kernels)
    values, vectors = np.linalg.eigh(kernels)
    return vectors * np.sqrt(np.clip(values, 0.0, None))[:, None, :]


def diagonals(blocks: Sequence[Floats], maps: Sequence[Floats]) -> tuple[Floats, ...]:
    """Per factor (L, k) diagonals of A B A', for B (L, k, k) of every level in ``blocks`` and A (k, k) in ``maps``."""
    return tuple(np.asarray(np.einsum("ai,lij,aj->la", own, block, own, optimize=True)) for own, block in zip(maps, blocks, strict=True))


def column_slices(sizes: Sequence[tuple[int, int]], blocks: Sequence[int]) -> list[tuple[int, slice]]:
    """Per block its columns among those of ``blocks`` side by side."""
    ends = np.cumsum([sizes[index][1] for index in blocks])
    return [(index, slice(int(end) - sizes[index][1], int(end))) for index, end in zip(blocks, ends, strict=True)]


def scale_block(work: Floats, factor: Floats, start: int, size: tuple[int, int]) -> None:
    """work <- D' work D for the block's columns, D repeating ``factor`` for each level."""
    levels, k = size
    here = slice(start, start + levels * k)
    m = len(work)
    if k == 1:
        work[:, here] *= factor[0, 0]
        work[here, :] *= factor[0, 0]
        return
    work[:, here] = (work[:, here].reshape(m, levels, k) @ factor).reshape(m, levels * k)
    work[here, :] = np.einsum("ba,lbm->lam", factor, work[here, :].reshape(levels, k, m)).reshape(levels * k, m)
