"""Array types that every layer shares, and the distinct values of a long column."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Codes = NDArray[np.int32]
Flags = NDArray[np.bool_]

FEW_VALUES = 20_000
"""Up to so many values sorting is quick enough."""

WIDEST = 4
"""Integers in a range of at most so many times their number are marked off in it."""


def distinct[T: np.generic](values: NDArray[T]) -> tuple[NDArray[T], Integers]:
    """The V distinct values, sorted, and the place (C,) of each of ``values`` (C,) among them: ``numpy.unique`` without sorting all.

    Long columns are sorted already, or have few distinct values: integers of a small range are marked off, others are hashed. NaN counts
    as one value, the last.
    """
    if len(values) > FEW_VALUES:
        if np.all(np.greater_equal(values[1:], values[:-1])):
            return _sorted(values)
        if np.issubdtype(values.dtype, np.integer):
            lowest, highest = int(values.min()), int(values.max())
            if highest - lowest < WIDEST * len(values):
                return _marked_off(values, lowest, highest)
        return _hashed(values)
    found, places = np.unique(values, return_inverse=True)
    return found, np.asarray(places, dtype=np.int64)


def _sorted(values: NDArray[Any]) -> tuple[NDArray[Any], Integers]:
    is_new = np.r_[True, values[1:] > values[:-1]]
    return values[is_new], np.cumsum(is_new) - 1


def _marked_off(values: NDArray[Any], lowest: int, highest: int) -> tuple[NDArray[Any], Integers]:
    away = values.astype(np.int64) - lowest
    is_there = np.zeros(highest - lowest + 1, dtype=bool)
    is_there[away] = True
    return (np.flatnonzero(is_there) + lowest).astype(values.dtype), (np.cumsum(is_there) - 1)[away]


def _hashed(values: NDArray[Any]) -> tuple[NDArray[Any], Integers]:
    from pandas import factorize

    places, found = factorize(values, use_na_sentinel=False)
    order = np.argsort(found)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return found[order], rank[places]
