"""The order of a categorical predictor's levels: the first is the reference of treatment coding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multilevel.errors import DataError


@dataclass(frozen=True)
class LevelOrder:
    """Levels of ``first`` as they are listed, then all others in sorted order, then those of ``last``."""

    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()


def ranked(values: NDArray[Any], order: str, levels: LevelOrder | None, name: str) -> NDArray[np.intp]:
    """Places of the distinct ``values`` (L,) in coding order.

    Parameters
    ----------
    values : labels, or whole numbers. order : as in ``CellsSpec``; "number" compares by value. levels : the study's order, or None.

    Raises
    ------
    DataError
        If no row has the level that is listed first.
    """
    by_value = order == "number"
    ranking = np.argsort(values.astype(np.float64) if by_value and values.dtype == object else values, kind="stable")
    if levels is None:
        return ranking
    keys = [_key(value, by_value) for value in values.tolist()]
    listed = {_key(level, by_value): place - len(levels.first) for place, level in enumerate(levels.first)}
    if levels.first and _key(levels.first[0], by_value) not in keys:
        raise DataError(f"levels: {name}: no line item has the reference {levels.first[0]}; list a level first that occurs.")
    places = np.array([listed.get(key, int(key in levels.last)) for key in keys])
    return ranking[np.argsort(places[ranking], kind="stable")]


def _key(value: object, by_value: bool) -> object:
    if not by_value:
        return str(value)
    try:
        return float(str(value))
    except ValueError:
        return str(value)
