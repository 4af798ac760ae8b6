"""The dense part of a factorisation, from which the rest follows in a fraction of the time.

What the eliminated factors leave to the others costs most of a factorisation, and its root is small whatever the number of eliminated
levels. Their own part is large, and quick to calculate again.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from multilevel.linear.chain import folded
from multilevel.linear.elimination import conditional_blocks
from multilevel.linear.factorise import BlockedFactor, BlockedSystem


def dense_part(factor: BlockedFactor) -> BlockedFactor:
    """``factor`` without the arrays of its eliminated levels, and without the Schur complement, which only gradients ask for."""
    return replace(factor, kernels=np.zeros((0, 0, 0)), schur=np.zeros((0, 0)), chain=())


def whole(dense: BlockedFactor) -> BlockedFactor:
    """The factorisation that ``dense`` is the dense part of, still without its Schur complement."""
    system = dense.system
    kernels, _ = conditional_blocks(system.own, dense.own_lambda)
    left = system.chain_left(dense.own_lambda, kernels)
    return replace(dense, kernels=kernels, chain=tuple(one for one, _ in folded(left, system.of_chain(dense.lambdas))))


def dense_bytes(system: BlockedSystem) -> int:
    """Of a dense part."""
    return 8 * len(system.gram) ** 2
