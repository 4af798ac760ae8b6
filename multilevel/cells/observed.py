"""What single rows say: moments of the outcome, and of its trials or exposure, by cell, for plain means with their standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from multilevel.arrays import Floats, Integers, distinct


@dataclass(frozen=True)
class Observed:
    """Per cell (C,), over its rows: mean of the outcome y (raw scale; successes of trials) and of its size e (trials, exposure, else 1);
    square, size_square, product: sums of squares and products about those means."""

    mean: Floats
    square: Floats
    size: Floats
    size_square: Floats
    product: Floats

    @classmethod
    def of_outcome(cls, mean: Floats, square: Floats) -> Observed:
        """Where every row counts as one."""
        nothing = np.zeros(len(mean))
        return cls(mean, square, np.broadcast_to(1.0, len(mean)), nothing, nothing)

    def restricted(self, kept: Integers | NDArray[np.bool_]) -> Observed:
        """Those of the kept cells."""
        return Observed(*(getattr(self, field.name)[kept] for field in fields(self)))

    def grouped(self, codes: Integers, n: Integers, n_groups: int) -> Observed:
        """Of the groups that cells with ``codes`` (C,) and ``n`` (C,) rows make; means of groups without rows are NaN."""
        count = n.astype(np.float64)
        rows = np.bincount(codes, count, n_groups)
        # about the group's first cell: a mean of large numbers would lose the digits that the differences need
        anchor, size_anchor = np.zeros(n_groups), np.zeros(n_groups)
        anchor[codes[::-1]], size_anchor[codes[::-1]] = self.mean[::-1], self.size[::-1]
        away, size_away = self.mean - anchor[codes], self.size - size_anchor[codes]

        def total(values: Floats) -> Floats:
            return np.bincount(codes, values, n_groups)

        with np.errstate(invalid="ignore", divide="ignore"):
            moved, size_moved = total(count * away) / rows, total(count * size_away) / rows
        away, size_away = away - moved[codes], size_away - size_moved[codes]
        return Observed(
            anchor + moved,
            total(self.square + count * away**2),
            size_anchor + size_moved,
            total(self.size_square + count * size_away**2),
            total(self.product + count * away * size_away),
        )


def stacked(parts: Sequence[Observed]) -> Observed:
    """The cells of all parts, one part after the other."""
    return Observed(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Observed)))


def observed_means(observed: Observed, codes: Integers, n: Integers, n_groups: int) -> tuple[Floats, Floats]:
    """(G,) summed outcome over summed size of each group, and its standard error over rows.

    The error is that of a ratio of means, linearised (Cochran 1977, eq. 2.46, without the finite population's correction): with e = 1 the
    standard error of the mean. NaN for groups of one row, and for both where the sizes are zero.
    """
    of_group, rows = observed.grouped(codes, n, n_groups), np.bincount(codes, n, n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = of_group.mean / of_group.size
        left = of_group.square - 2.0 * ratio * of_group.product + ratio**2 * of_group.size_square
        error = np.sqrt(np.maximum(left, 0.0) * rows / np.maximum(rows - 1, 0)) / (rows * of_group.size)
    known = np.isfinite(ratio)
    return np.where(known, ratio, np.nan), np.where(known & (rows > 1), error, np.nan)


def observed_errors_by_unit(level: Integers, unit: Integers, outcome: Floats, size: Floats, ratio: Floats, total_size: Floats) -> Floats:
    """(G,) standard errors of ``observed_means`` where line items of one unit (a household) are dependent.

    Linearised, of totals by unit (Cochran 1977, eq. 11.30, without the finite population's correction; Taylor linearisation of a ratio
    under sampling of clusters): with e_u the unit's summed outcome less ``ratio`` times its summed size, sqrt(m / (m - 1) sum e_u^2) over
    the summed size, m units. NaN for groups with one unit.

    Parameters
    ----------
    level, unit : (P,) the group and the unit that parts of the rows belong to. outcome, size : (P,) sums over those rows.
    ratio : (G,) summed outcome over summed size of each group. total_size : (G,) summed size of all rows of a group. Where it is larger
        than that of the parts, these are a sample of its units, and squares are those of the sample times the ratio of the two.
    """
    n_groups = len(ratio)
    n_units = int(unit.max(initial=0)) + 1
    both, place = distinct(level.astype(np.int64) * n_units + unit)
    of_pair = both // n_units
    away = np.bincount(place, outcome - ratio[level] * size, len(both))
    own_size = np.bincount(place, size, len(both))
    count, looked_at = np.bincount(of_pair, own_size > 0, n_groups), np.bincount(of_pair, own_size, n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = np.bincount(of_pair, away**2, n_groups) * total_size / looked_at
        error = np.sqrt(count / (count - 1.0) * squares) / total_size
    return np.where((count > 1) & np.isfinite(error), error, np.nan)
