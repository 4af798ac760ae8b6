"""Statistics add: cells of several partitions of the rows (days, files, machines) become the cells of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from multilevel.arrays import Codes, Floats
from multilevel.cells.observed import stacked as stack_observed
from multilevel.cells.statistics import CellStatistics, Labels, Outcomes
from multilevel.errors import DataError


def merge_cells(parts: Sequence[CellStatistics], *, tolerance: float = 1e-9) -> CellStatistics:
    """Merge partitions.

    Parameters
    ----------
    parts : made with the same plan from disjoint rows. ``center``, ``scale``, ``within`` and ``between`` must have used the same constants
        in all of them; where a cell has two values of a key number, they do not.
    tolerance : how far two values of a key number may differ, relative to the largest, and still be the same.

    Returns
    -------
    CellStatistics
        Centred moments by the pairwise update of Chan, Golub and LeVeque (1983), never by subtracting sums of squares.

    Raises
    ------
    DataError
        If the parts were not made for the same formula.
    """
    if not parts:
        raise DataError("There are no partitions to merge.")
    _check_same(parts)
    stacked = _stack(parts)
    codes = _cell_codes(stacked, tolerance)
    first = np.unique(codes, return_index=True)[1]
    n_cells = len(first)

    def total(values: Floats) -> Floats:
        return np.bincount(codes, weights=values, minlength=n_cells)

    weight = total(stacked.weight)
    mean, cross = _moments(stacked, codes, weight)
    return replace(
        stacked,
        groups={name: Labels(labels.codes[first], labels.values) for name, labels in stacked.groups.items()},
        labels={name: Labels(labels.codes[first], labels.values) for name, labels in stacked.labels.items()},
        numbers={name: values[first] for name, values in stacked.numbers.items()},
        n=np.rint(total(stacked.n.astype(np.float64))).astype(np.int64),
        weight=weight,
        mean=mean,
        cross=cross,
        size=total(stacked.size),
        total=total(stacked.total),
        offset=stacked.offset[first],
        outcomes=None if stacked.outcomes is None else _merge_outcomes(replace(stacked.outcomes, cell=codes[stacked.outcomes.cell])),
        log_total=None if stacked.log_total is None else total(stacked.log_total),
        observed=None if stacked.observed is None else stacked.observed.grouped(codes.astype(np.int64), stacked.n, n_cells),
    )


def _moments(cells: CellStatistics, codes: Codes, weight: Floats) -> tuple[Floats, Floats]:
    """Means and cross-products of the merged cells: those within the parts plus those of the parts' means about the merged mean."""
    n_cells, m = len(weight), cells.mean.shape[1]
    # about the first part's mean: a weighted mean of large numbers would lose the digits that the differences need
    anchor = np.empty((n_cells, m))
    anchor[codes[::-1]] = cells.mean[::-1]
    away = cells.mean - anchor[codes]
    # the moments of a hurdle are those of the rows above zero, of which a cell may have none
    total = np.where(weight > 0, weight, 1.0)
    moved = np.column_stack(
        [np.bincount(codes, weights=cells.weight * away[:, i], minlength=n_cells) / total for i in range(m)] or [weight]
    )
    moved = moved[:, :m]
    away = away - moved[codes]
    cross = np.empty((n_cells, m, m))
    for i in range(m):
        for j in range(m):
            pair = cells.cross[:, i, j] + cells.weight * away[:, i] * away[:, j]
            cross[:, i, j] = np.bincount(codes, weights=pair, minlength=n_cells)
    return anchor + moved, cross


def _check_same(parts: Sequence[CellStatistics]) -> None:
    def shape(cells: CellStatistics) -> tuple[object, ...]:
        return (
            cells.family,
            cells.log_outcome,
            cells.known_sigma,
            cells.features,
            tuple(cells.groups),
            tuple(cells.labels),
            tuple(cells.numbers),
        )

    for part in parts[1:]:
        if shape(part) != shape(parts[0]):
            raise DataError(f"Partitions of different formulas cannot be merged: {shape(parts[0])} and {shape(part)}.")


def _stack(parts: Sequence[CellStatistics]) -> CellStatistics:
    """All cells of all parts under common labels, with the constants added up."""
    histograms = [part.histogram for part in parts if part.histogram is not None]
    observed = [part.observed for part in parts if part.observed is not None]
    log_totals = [part.log_total for part in parts if part.log_total is not None]
    return replace(
        parts[0],
        groups={name: _stack_labels([part.groups[name] for part in parts]) for name in parts[0].groups},
        labels={name: _stack_labels([part.labels[name] for part in parts]) for name in parts[0].labels},
        numbers={name: np.concatenate([part.numbers[name] for part in parts]) for name in parts[0].numbers},
        n=np.concatenate([part.n for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
        mean=np.concatenate([part.mean for part in parts]),
        cross=np.concatenate([part.cross for part in parts]),
        size=np.concatenate([part.size for part in parts]),
        total=np.concatenate([part.total for part in parts]),
        offset=np.concatenate([part.offset for part in parts]),
        once={name: sum(part.once[name] for part in parts) for name in parts[0].once},
        histogram=_add_histograms(histograms) if histograms else None,
        outcomes=_stack_outcomes(parts),
        log_total=np.concatenate(log_totals) if len(log_totals) == len(parts) else None,
        observed=stack_observed(observed) if len(observed) == len(parts) else None,
        key=None,
    )


def _stack_outcomes(parts: Sequence[CellStatistics]) -> Outcomes | None:
    """None unless all parts have them."""
    known = [part.outcomes for part in parts if part.outcomes is not None]
    if len(known) < len(parts):
        return None
    starts = np.cumsum([0, *(part.n_cells for part in parts[:-1])])
    return Outcomes(
        np.concatenate([outcomes.cell + start for outcomes, start in zip(known, starts, strict=True)]).astype(np.int32),
        *(np.concatenate([getattr(outcomes, name) for outcomes in known]) for name in ("value", "size", "n")),
    )


def _merge_outcomes(outcomes: Outcomes) -> Outcomes:
    """Each pair of a cell and an outcome once."""
    pairs = pd.DataFrame({"cell": outcomes.cell, "value": outcomes.value, "size": outcomes.size, "n": outcomes.n})
    found = pairs.groupby(["cell", "value", "size"], sort=False, as_index=False)["n"].sum()
    return Outcomes(*(found[name].to_numpy() for name in ("cell", "value", "size", "n")))


def _stack_labels(labels: Sequence[Labels]) -> Labels:
    """One reference order for all parts: numbers by value where all levels are numbers, else by code point."""
    values = np.unique(np.concatenate([part.values for part in labels]).astype(str))
    numbers = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=np.float64)
    if np.all(np.isfinite(numbers)):
        values = values[np.argsort(numbers, kind="stable")]
    place = {value: code for code, value in enumerate(values.tolist())}
    codes = [np.array([place[str(value)] for value in part.values], dtype=np.int32)[part.codes] for part in labels]
    return Labels(np.concatenate(codes), values.astype(object))


def _cell_codes(cells: CellStatistics, tolerance: float) -> Codes:
    keys = [labels.codes for labels in (*cells.groups.values(), *cells.labels.values())]
    numbers = [*cells.numbers.values(), cells.offset]
    keys += [np.rint(values / (tolerance * max(float(np.abs(values).max()), 1e-300))).astype(np.int64) for values in numbers]
    return pd.DataFrame(dict(enumerate(keys))).groupby(list(range(len(keys)))).ngroup().to_numpy().astype(np.int32)


def _add_histograms(histograms: Sequence[Floats]) -> Floats:
    stacked = np.concatenate(histograms)
    values, codes = np.unique(stacked[:, 0], return_inverse=True)
    return np.column_stack([values, np.bincount(codes, weights=stacked[:, 1])])
