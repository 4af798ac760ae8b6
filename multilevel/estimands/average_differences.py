"""What a predictor changes on the scale of the outcome: the average over line items of the expected outcome with it, less that without.

Gelman and Hill (2006), section 5.7 (average predictive differences). Every line item keeps its groups and its other predictors; only the
predictor asked about is set, to a level and to the reference, or to a step more. Where a coefficient is the same difference for all line
items (identity link) or the same ratio (log link) it says as much itself, and nothing is averaged here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array, vstack

from multilevel.arrays import Floats, Integers
from multilevel.design.model import Design, DesignColumn
from multilevel.estimands.coded_terms import CodedTerm, coded_terms
from multilevel.estimands.expected_outcome import ExpectedOutcome
from multilevel.fit.container import Summary
from multilevel.fit.interval_estimates import combined
from multilevel.formula.tree import Formula

MOST_CELLS = 100_000
"""Cells that are averaged over; of more, so many are taken evenly by weight."""


@dataclass(frozen=True)
class AverageDifference:
    """Of one term, in units of the outcome: its estimate with error and bounds (each of length 1)."""

    of: CodedTerm
    summary: Summary


def average_differences(outcome: ExpectedOutcome, formula: Formula) -> list[AverageDifference]:
    """Of every coded term; none where the coefficients say it, and where the mean needs the sigma of ``log(y)``.

    ``within(x, g)`` has none: of a true-or-false x no step leads from one value to the other.

    The error is that of the delta method about the estimates; the interval has the quantiles of that linear form, so that posterior draws
    keep their shape.
    """
    parts = outcome.parts
    if outcome.is_linear or all(part.response.is_multiplicative for part in parts) or any(p.fit.design.cells.log_outcome for p in parts):
        return []
    design = outcome.design
    here, weights = _cells(design.cells.common_weight)
    n = len(here)
    signed = csr_array(np.concatenate([weights, -weights])[None, :])
    found = []
    for coded in (each for each in coded_terms(design, formula) if each.means != "within"):
        rows = csr_array(vstack([_rows(design, here, coded, at=place) for place in (1, 0)]))
        own = tuple(part.own(rows) for part in parts)
        means = [part.response.mean(np.asarray(row @ part.fit.joint.mean)) for part, row in zip(parts, own, strict=True)]
        expected = np.prod(means, axis=0)
        estimate = float(weights @ (expected[:n] - expected[n:]))
        linear = [
            combined(part.fit, gradient, outcome.interval) for part, gradient in zip(parts, outcome.gradients(own, signed), strict=True)
        ]
        found.append(AverageDifference(coded, _about(estimate, linear)))
    return found


def _about(estimate: float, linear: list[Summary]) -> Summary:
    """The parts share no parameter: their distances from the estimate add in quadrature."""
    error = np.sqrt(np.sum([part.std_error**2 for part in linear], axis=0))
    below = np.sqrt(np.sum([(part.estimate - part.lower) ** 2 for part in linear], axis=0))
    above = np.sqrt(np.sum([(part.upper - part.estimate) ** 2 for part in linear], axis=0))
    return Summary(np.array([estimate]), error, estimate - below, estimate + above)


def _cells(weight: Floats) -> tuple[Integers, Floats]:
    """Which cells are averaged over (m,), and their weights (m,), which sum to 1."""
    if len(weight) <= MOST_CELLS:
        return np.arange(len(weight)), weight / weight.sum()
    passed = np.cumsum(weight) / weight.sum()
    taken = np.searchsorted(passed, (np.arange(MOST_CELLS) + 0.5) / MOST_CELLS)
    return taken, np.full(MOST_CELLS, 1.0 / MOST_CELLS)


def _rows(design: Design, here: Integers, coded: CodedTerm, *, at: int) -> csr_array:
    """(m, p + q) rows of the cells ``here``: the predictor at its level (1) or its reference (0); a number a step more, or as it is."""
    pieces = list(_places(design, here))
    values = np.concatenate([_set(column, here, coded, at) for column, _ in pieces])
    rows = np.tile(np.arange(len(here)), len(pieces))
    shape = (len(here), len(design.population) + design.n_effects)
    return csr_array(coo_array((values, (rows, np.concatenate([places for _, places in pieces]))), shape=shape))


def _places(design: Design, here: Integers) -> Iterator[tuple[DesignColumn, Integers]]:
    """Every column of X and Z, and where its coefficients stand for the cells ``here``."""
    for place, column in enumerate(design.population):
        yield column, np.full(len(here), place, dtype=np.int64)
    for start, block in zip(design.starts, design.blocks, strict=True):
        first = len(design.population) + start + block.factor.codes[here].astype(np.int64) * len(block.columns)
        for place, column in enumerate(block.columns):
            yield column, first + place


def _set(column: DesignColumn, here: Integers, coded: CodedTerm, at: int) -> Floats:
    values = np.asarray(column.multiplier[here], dtype=float)
    if coded.level is None:
        return values + at * coded.step if column.label == coded.term else values
    if coded.categories not in {name for name, _ in column.indicators}:
        return values
    return np.full(len(here), float(at == 1 and column.label == coded.term))
