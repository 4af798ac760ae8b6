"""Cell statistics: what is kept of the line items, and all that any engine ever sees of them (lossless by family).

A *cell* is one combination of grouping levels and key predictors. For the gaussian family (and lognormal, ``log(y) ~``) each cell keeps
the count, the means and the centred cross-products of its continuous features and of the outcome; for the other families the count,
the size (trials, exposure) and the summed outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from multilevel.arrays import Codes, Floats, Integers
from multilevel.cells.observed import Observed
from multilevel.families.registry import statistics_of

SAME_VALUE = 1e-14
"""A spread below this part of a feature's size (in the cell, or over all cells) is rounding: the feature takes one value there."""

NEXT_TO_NOTHING = 1e-9


@dataclass(frozen=True)
class Labels:
    """A column of labels over cells: ``values[codes[c]]`` is the label of cell c.

    ``codes``: (C,) int32; ``values``: (L,) object array of str, in reference order (sorted; numbers by value).
    """

    codes: Codes
    values: NDArray[np.object_]


@dataclass(frozen=True)
class Outcomes:
    """Single rows' outcomes of a discrete family: which cell (P,), the outcome (P,), its trials or exposure (P,), how many rows (P,)."""

    cell: Codes
    value: Floats
    size: Floats
    n: Floats


@dataclass(frozen=True)
class CellStatistics:
    """The statistics of C cells, of one study's rows.

    Attributes
    ----------
    family : a name in ``multilevel.families.registry``; ``log_outcome`` marks ``log(y) ~``.
    groups : grouping column -> its labels over cells.
    labels : categorical predictor (expression label, e.g. ``size`` or ``C(week)``) -> its labels over cells.
    numbers : numeric key predictor (expression label) -> (C,) its value in each cell.
    features : labels of the m continuous features (products of numeric expressions such as ``x`` or ``x:z``), gaussian only.
    n : (C,) rows of each cell.
    weight : (C,) sum of known precision weights (equal to ``n`` without ``weights()`` or ``se()``).
    mean : (C, m + 1) weighted means of the features and, last, of the outcome (minus its offset); empty (C, 0) unless gaussian.
    cross : (C, m + 1, m + 1) weighted centred cross-products about ``mean``; empty unless gaussian.
    size : (C,) trials (binomial), exposure (poisson), else ``n``.
    total : (C,) summed outcome (raw scale; for ``log(y)`` the sum of y itself).
    offset : (C,) offset on the link scale, for families whose offset is in the key; zeros otherwise.
    once : constants over all rows, e.g. ``log_jacobian``, ``log_weights``, ``log_binomial``, ``log_factorial``, ``outcome_log_exposure``,
        ``sum_log_outcome``.
    histogram : (H, 2) distinct outcome values and their row counts (negative_binomial), or None.
    mix : (C,) each cell's weight in the mix common to all groups, where the study names one; None: its ``line_items``.
    outcomes : single rows' outcomes (poisson, negative_binomial, binomial of several trials) where there are not too many, else None.
    log_total : (C,) sum of log y (gamma; hurdle_gamma: of the rows above zero), or None.
    observed : moments of single rows' outcomes and sizes, for plain means; None where nobody counted them.
    key : (C,) a number that names each cell, by which ``UnitSums`` find theirs; None where there are no such sums.
    known_sigma : True under ``se()``: each row's residual sd is known, weights are 1 / se^2 and sigma is 1.
    """

    family: str
    log_outcome: bool
    groups: Mapping[str, Labels]
    labels: Mapping[str, Labels]
    numbers: Mapping[str, Floats]
    features: tuple[str, ...]
    n: Integers
    weight: Floats
    mean: Floats
    cross: Floats
    size: Floats
    total: Floats
    offset: Floats
    once: Mapping[str, float]
    histogram: Floats | None = None
    known_sigma: bool = False
    mix: Floats | None = None
    outcomes: Outcomes | None = None
    log_total: Floats | None = None
    observed: Observed | None = None
    key: NDArray[np.uint64] | None = None

    @property
    def has_moments(self) -> bool:
        """Whether means and cross-products are kept, so that the model is a linear one."""
        return self.mean.shape[1] > 0

    @property
    def n_cells(self) -> int:
        """How many cells there are."""
        return len(self.n)

    @property
    def n_rows(self) -> int:
        """How many line items they stand for."""
        return int(self.n.sum())

    @property
    def line_items(self) -> Floats:
        """(C,) what a cell counts for in an average: the trials that its rows add up, else its rows.

        Rows without a trial count next to nothing, so that a level that has no others still has an average.
        """
        kept = statistics_of(self.family).size
        if kept == "rows":
            return self.size
        return np.maximum(self.size, NEXT_TO_NOTHING) if kept == "trials" else self.n.astype(np.float64)

    @property
    def common_weight(self) -> Floats:
        """(C,) the weights that average over what is common to all groups: ``mix``, or the line items."""
        return self.line_items if self.mix is None else self.mix

    def is_fixed(self, feature: int) -> NDArray[np.bool_]:
        """(C,) in which cells the feature (an index into ``features``) takes one value; a group-level predictor does in all of them."""
        square = self.mean[:, feature] ** 2
        overall = float(self.weight @ square) / float(self.weight.sum())
        return np.asarray(self.cross[:, feature, feature] <= SAME_VALUE**2 * self.weight * (square + overall))


def restrict_cells(cells: CellStatistics, keep: NDArray[np.bool_] | Integers) -> CellStatistics:
    """The kept cells (a mask or places) with all levels, also those that they do not have.

    ``once`` and ``histogram`` become those of the kept rows where the cells say what is theirs (gamma by ``log_total``, negative_binomial
    by ``outcomes``); else they stay.
    """
    kept = np.arange(cells.n_cells)[keep]
    outcomes = None if cells.outcomes is None else _restrict_outcomes(cells.outcomes, kept, cells.n_cells)
    log_total = None if cells.log_total is None else cells.log_total[kept]
    once, histogram = dict(cells.once), cells.histogram
    if log_total is not None:
        once["sum_log_outcome"] = float(log_total.sum())
    if histogram is not None and outcomes is not None:
        values, place = np.unique(outcomes.value, return_inverse=True)
        histogram = np.column_stack([values, np.bincount(place, outcomes.n, len(values))])
        once["log_factorial"] = float(histogram[:, 1] @ gammaln(values + 1.0))
    return replace(
        cells,
        groups={name: Labels(labels.codes[kept], labels.values) for name, labels in cells.groups.items()},
        labels={name: Labels(labels.codes[kept], labels.values) for name, labels in cells.labels.items()},
        numbers={name: values[kept] for name, values in cells.numbers.items()},
        n=cells.n[kept],
        weight=cells.weight[kept],
        mean=cells.mean[kept],
        cross=cells.cross[kept],
        size=cells.size[kept],
        total=cells.total[kept],
        offset=cells.offset[kept],
        mix=None if cells.mix is None else cells.mix[kept],
        once=once,
        histogram=histogram,
        outcomes=outcomes,
        log_total=log_total,
        observed=None if cells.observed is None else cells.observed.restricted(kept),
        key=None if cells.key is None else cells.key[kept],
    )


def _restrict_outcomes(outcomes: Outcomes, kept: Integers, n_cells: int) -> Outcomes:
    """Those of the kept cells, which are counted anew."""
    place = np.full(n_cells, -1, dtype=np.int32)
    place[kept] = np.arange(len(kept))
    cell = place[outcomes.cell]
    inside = cell >= 0
    return Outcomes(cell[inside], outcomes.value[inside], outcomes.size[inside], outcomes.n[inside])
