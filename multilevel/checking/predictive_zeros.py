"""Are there as many zeros as the fitted counts would have?

With p the probability that a row is zero, m and V its mean and variance, the sum over all rows of

    D = [y = 0] - p + q (y - m),    q = p m / V,

has mean zero at the true linear predictor eta, and errors in eta do not move it to first order (Neyman 1959), so that it is the same for
both engines, pooled or not. To second order they move it by q' m C / 2, q' the derivative in eta and C the variance of eta, which is
taken off. Its variance is sum p (1 - p) - q^2 V, less K^2 / I where a dispersion was fitted: K is its covariance with the score of the
dispersion, I the information (van den Broek 1995, for Poisson counts). A share of zeros that the dispersion has already bent to is still
seen to be too large.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.checking.omitted_terms import FALSE_ALARMS, probability_words
from multilevel.checking.score_test import Chance
from multilevel.design.reduction import ReducedRows
from multilevel.families.family import Family
from multilevel.families.registry import family_named
from multilevel.fit.container import Check, Fit

NAME = "predictive_zeros"

MATERIAL, MATERIAL_SHARE = 1.02, 0.005
"""Ratio of observed and expected zeros, and their difference as a share of all counts, that are too small to matter."""

SMALLEST_SHARE = 1e-3
"""Of the variance of the zeros that fitting leaves at least."""

STEP = 1e-4
"""Of the linear predictor, and relative of the dispersion, in derivatives."""

FITS = 1.05
"""Ratio of observed zeros to those of a negative binomial with the same variance up to which that family is advised."""


@dataclass(frozen=True)
class _Zeros:
    """Kinds of line items (P,): place of their reduced row, exposure, how many they are, and their outcomes' sum; ``share`` times as many
    line items, some of the cells left out, have ``observed`` zeros."""

    place: Integers
    size: Floats
    n: Floats
    total: Floats
    observed: float
    share: float


def predictive_zeros(
    fit: Fit, rows: ReducedRows, matrix: csr_array, predictors: Iterator[tuple[Floats, float]], omitted: Sequence[Check] = ()
) -> Check | None:
    """Observed over expected zeros; fails where they differ beyond chance, by more than 2 % and by
    more than 0.5 % of all counts. The threshold is above one of too many zeros, below one of too few. None of families that are no counts.

    Parameters
    ----------
    rows, matrix : all cells, or some of them, which then stand for all, with their [X Z]. predictors : draws of the linear predictor and
        of the scale. omitted : checks of terms that may be missing, which make more zeros.
    """
    family = family_named(fit.family)
    if not family.counts_zeros:
        return None
    zeros = _zeros(fit, rows)
    if zeros is None:
        return Check(NAME, None, MATERIAL, passed=True, message="not calculated: the outcomes of single rows are too many to keep")
    expected = _expected(fit, rows, matrix, zeros, predictors)
    chance = _chance(fit, rows, matrix, zeros, expected)
    if chance is None:
        return Check(NAME, None, MATERIAL, passed=True, message="not calculated: the model expects hardly any zero")
    ratio, is_more = zeros.observed / expected, zeros.observed >= expected
    least = max((MATERIAL - 1.0) * expected, MATERIAL_SHARE * zeros.share * float(zeros.n.sum()))
    # too many or too few: the limit on that side of one
    limit = chance.quantile(FALSE_ALARMS / 2.0 if is_more else 1.0 - FALSE_ALARMS / 2.0)
    threshold = (max(limit, expected + least) if is_more else min(limit, expected - least)) / expected
    tail = chance.probability(zeros.observed)
    numbers = (
        f"{zeros.observed:,.0f} of {zeros.share * zeros.n.sum():,.0f} counts are zero; the model expects {expected:,.0f} "
        f"({probability_words(min(1.0, 2.0 * min(tail, 1.0 - tail)))})"
    )
    passed = ratio <= threshold if is_more else ratio >= threshold
    if passed:
        return Check(NAME, ratio, threshold, passed, f"{numbers}.")
    missing = [check.check for check in omitted if not check.passed]
    advice = f"mend {missing[0]} first" if missing else _advice(fit, family, rows, matrix, zeros)
    return Check(NAME, ratio, threshold, passed, f"{numbers}: {advice}")


def _zeros(fit: Fit, rows: ReducedRows) -> _Zeros | None:
    cells = fit.design.cells
    if cells.histogram is not None:
        counts = cells.histogram
        observed, every = float(counts[counts[:, 0] == 0, 1].sum()), float(counts[:, 1].sum())
        return _Zeros(np.arange(len(rows.n)), np.ones(len(rows.n)), rows.n, rows.outcome, observed, every / float(rows.n.sum()))
    if cells.outcomes is None:
        return None
    place = np.full(cells.n_cells, -1, dtype=np.int64)
    place[rows.cell] = np.arange(len(rows.cell))
    kept = cells.outcomes
    inside = place[kept.cell] >= 0
    observed, n = float(kept.n[kept.value == 0].sum()), kept.n[inside]
    share = float(kept.n.sum() / n.sum())
    return _Zeros(place[kept.cell][inside], kept.size[inside], n, n * kept.value[inside], observed, share)


def _probability(family: Family, eta: Floats, scale: float, zeros: _Zeros) -> Floats:
    """(P,) of a zero."""
    with np.errstate(over="ignore"):
        return family.zero_probability(zeros.size * family.link.mean(eta[zeros.place]), scale)


def _expected(fit: Fit, rows: ReducedRows, matrix: csr_array, zeros: _Zeros, predictors: Iterator[tuple[Floats, float]]) -> float:
    """Number of zeros that leaves D at its mean; the variance of eta from the draws."""
    family, scale = family_named(fit.family), 1.0 if fit.dispersion is None else fit.dispersion
    eta = np.asarray(rows.offset + matrix @ fit.joint.mean)
    square, number = np.zeros(len(eta)), 0
    for drawn, _ in predictors:
        square += (drawn - eta) ** 2
        number += 1
    up, down = (_pull(family, eta + step, scale, zeros) for step in (STEP, -STEP))
    mean = zeros.size * family.link.mean(eta[zeros.place])
    moved = (up - down) / (2.0 * STEP) * mean * (square / number)[zeros.place] / 2.0
    pull = _pull(family, eta, scale, zeros)
    return zeros.share * float(np.sum(zeros.n * (_probability(family, eta, scale, zeros) + moved + pull * mean) - pull * zeros.total))


def _pull(family: Family, eta: Floats, scale: float, zeros: _Zeros) -> Floats:
    """(P,) q: what an outcome above its mean takes off the zeros."""
    mean, variance = family.moments(zeros.size, eta[zeros.place], scale)
    return _probability(family, eta, scale, zeros) * np.where(variance > 0, mean / np.where(variance > 0, variance, 1.0), 1.0)


def _chance(fit: Fit, rows: ReducedRows, matrix: csr_array, zeros: _Zeros, expected: float) -> Chance | None:
    """Of the number of zeros, given what was fitted; None where nearly none is expected."""
    family, scale = family_named(fit.family), 1.0 if fit.dispersion is None else fit.dispersion
    eta = np.asarray(rows.offset + matrix @ fit.joint.mean)
    p = _probability(family, eta, scale, zeros)
    own = float(zeros.n @ (p * (1.0 - p)))
    if own <= 0.0 or expected < 1.0:
        return None
    _, single = family.moments(zeros.size, eta[zeros.place], scale)
    taken = float(zeros.n @ (_pull(family, eta, scale, zeros) ** 2 * single)) + _by_dispersion(fit, eta, zeros, p, scale)
    variance = zeros.share * max(own - taken, SMALLEST_SHARE * own)
    # few zeros, or few counts above one: what is rare has the skewness of a Poisson count
    return Chance(expected, variance, variance)


def _by_dispersion(fit: Fit, eta: Floats, zeros: _Zeros, p: Floats, scale: float) -> float:
    """What the dispersion takes up, its information from the rows' own scores; zero where there is none or rows are not kept."""
    kept, family = fit.design.cells.outcomes, family_named(fit.family)
    if not family.has_dispersion or kept is None or zeros.share != 1.0:
        return 0.0

    def score(value: Floats, size: Floats, at: Floats) -> Floats:
        here = at[:, None], value[:, None], size[:, None]
        up, down = (family.row_log_probability(*here, np.array([scale * (1.0 + step)])) for step in (STEP, -STEP))
        return np.asarray((up - down)[:, 0] / (2.0 * STEP))

    of_zero = score(np.zeros(len(p)), zeros.size, eta[zeros.place])
    information = float(kept.n @ score(kept.value, kept.size, eta[kept.cell]) ** 2)
    return float(zeros.n @ (p * of_zero)) ** 2 / information if information > 0 else 0.0


def _advice(fit: Fit, family: Family, rows: ReducedRows, matrix: csr_array, zeros: _Zeros) -> str:
    eta = np.asarray(rows.offset + matrix @ fit.joint.mean)
    p = _probability(family, eta, 1.0 if fit.dispersion is None else fit.dispersion, zeros)
    if zeros.observed < zeros.share * float(zeros.n @ p):
        return "are rows of zero missing from the source?"
    two_parts = "more than counts of one kind have; write family: hurdle_gamma, which models zeros and amounts apart"
    kept = fit.design.cells.outcomes
    if family.has_dispersion or kept is None:
        return two_parts
    # would counts that vary as much as these have as many zeros?
    place = np.full(fit.design.cells.n_cells, -1, dtype=np.int64)
    place[rows.cell] = np.arange(len(rows.cell))
    inside = place[kept.cell] >= 0
    mean = (kept.size * family.link.mean(eta[place[kept.cell]]))[inside]
    n, excess = kept.n[inside], (kept.value[inside] - mean) ** 2 - mean
    phi = float(n @ mean**2) / max(float(n @ excess), 1e-9)
    overdispersed = zeros.share * float(n @ (phi / (phi + mean)) ** phi)
    return "write family: negative_binomial" if zeros.observed < FITS * overdispersed else two_parts
