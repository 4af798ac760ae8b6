"""Terms that a formula leaves out: the interaction of two crossed factors, and slopes that differ between levels.

``omitted_interaction[g, h]``: do the residuals of the combinations of g and h vary more than the fit leaves room for? ``omitted_slope[x,
g]``: does the slope of a population predictor x differ between the levels of g, whose terms have none? Both are score tests of a variance
(``score_test``). Each kind shares one probability of a false alarm over all of its rows (Bonferroni), so that a run with many factors and
predictors has no more false alarms than one with few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import batched, combinations

import numpy as np

from multilevel.arrays import Codes, Floats, Integers, distinct
from multilevel.checking.score_test import Excess, NewEffects, Scores, scores_of
from multilevel.design.model import Design, DesignColumn, Factor
from multilevel.design.nesting import Nesting
from multilevel.fit.container import Check, Fit
from multilevel.fit.one_pass import together

FALSE_ALARMS = 0.001
"""Probability that a well-specified run has a failed check of one kind."""

AT_ONCE = 8
"""Tests that are in memory together."""

SMALLEST = 1e-12
"""Probability below which none is told."""


def omitted_terms(fit: Fit, tree: Nesting, seed: int = 0) -> list[Check]:
    """Checks of every pair of crossed factors and of every predictor by factor; reported, never gates.

    The value is the statistic over what is expected of it, the threshold what chance explains, at least 1.2. Without a value where the
    rows cannot tell. Nothing is said of a term that the formula has.
    """
    scores = scores_of(fit, seed)
    if scores is None:
        return []
    return [*_interactions(scores, tree), *_slopes(scores, tree)]


def _interactions(scores: Scores, tree: Nesting) -> list[Check]:
    pairs = list(_crossed(scores.fit.design, tree))

    def of_pair(first: Factor, second: Factor) -> Check:
        name = f"omitted_interaction[{first.name}, {second.name}]"
        term = ":".join(dict.fromkeys((*first.columns, *second.columns)))
        excess = scores.excess(_of_pairs(scores, first, second), scores.rows.cell)
        what = f"residuals by combination of {first.name} and {second.name}"
        advice = f"combinations of {first.name} and {second.name} differ by more than both add up to, by {{sd:.2g}} (sd, linear predictor)"
        return _check(name, excess, what, f"{advice}; add (1 | {term})", len(pairs))

    return _some_together([partial(of_pair, first, second) for first, second in pairs])


def _some_together(tests: Sequence[Callable[[], Check]]) -> list[Check]:
    """The tests' results; ``AT_ONCE`` are in memory, and go over the points of a posterior together."""
    return [check for some in batched(tests, AT_ONCE) for check in together(some)]


def _crossed(design: Design, tree: Nesting) -> Iterator[tuple[Factor, Factor]]:
    """Pairs of factors of which neither contains the other, and whose combinations are not a factor of the formula."""
    for (first, one), (second, other) in combinations(tree.factors.items(), 2):
        if first in tree.ancestors[second] or second in tree.ancestors[first]:
            continue
        levels = [factor.n_levels for name, factor in tree.factors.items() if {first, second} <= set(tree.ancestors[name])]
        if not levels or len(distinct(_pairs(one, other))[0]) not in levels:
            yield one, other


def _pairs(first: Factor, second: Factor) -> Integers:
    """(C,) a number for each combination of levels."""
    return first.codes.astype(np.int64) * second.n_levels + second.codes


@dataclass(frozen=True)
class _Predictor:
    """A predictor of X, of one column or several (the levels of a category): (R, k) values, centred."""

    label: str
    values: Floats


def _slopes(scores: Scores, tree: Nesting) -> list[Check]:
    asked = [
        (predictor, factor)
        for label, columns in _predictors(scores.fit.design).items()
        if (predictor := _centred(label, columns, scores)) is not None
        for factor in tree.factors.values()
        if not _has_slope(scores.fit.design, factor, columns) and not _is_constant(scores, predictor, factor)
    ]
    combined = _of_rows(scores, _combinations(tree))

    def of_slope(predictor: _Predictor, factor: Factor) -> Check:
        effects = NewEffects(_of_rows(scores, factor.codes), tuple(np.ascontiguousarray(predictor.values.T)), factor.n_levels)
        clusters = combined if combined.max() >= 2 * factor.n_levels else scores.rows.cell
        what = f"slopes of {predictor.label} by {factor.name}"
        advice = f"the effect of {predictor.label} differs between levels of {factor.name}, by {{sd:.2g}} (sd, at a predictor of sd 1)"
        name, term = f"omitted_slope[{predictor.label}, {factor.name}]", _with_slope(scores.fit.design, factor, predictor.label)
        return _check(name, scores.excess(effects, clusters), what, f"{advice}; write {term}", len(asked))

    return _some_together([partial(of_slope, predictor, factor) for predictor, factor in asked])


def _combinations(tree: Nesting) -> Codes:
    """(C,) which combination of the levels of all factors each cell belongs to; a level has its ancestors already."""
    found = np.zeros(1, dtype=np.int64)
    for name, factor in tree.factors.items():
        if not any(name in above for above in tree.ancestors.values()):
            _, found = distinct(found * factor.n_levels + factor.codes)
    return found.astype(np.int32)


def _predictors(design: Design) -> dict[str, list[int]]:
    """Label of each predictor of X, the intercept apart, with the places of its columns."""
    found: dict[str, list[int]] = {}
    for place, column in enumerate(design.population):
        label = _label(column)
        if label:
            found.setdefault(label, []).append(place)
    return found


def _label(column: DesignColumn) -> str:
    """As a formula writes it; empty for the intercept."""
    return ":".join(dict.fromkeys([*column.numbers, *(name for name, _ in column.indicators)]))


def _centred(label: str, places: list[int], scores: Scores) -> _Predictor | None:
    """Columns about their means: far from zero a slope would be an intercept. None where they do not vary."""
    values, one = scores.rows.X[:, places], _ones(scores)
    centred = values - one[:, None] * (values.T @ one / (one @ one))
    size, left = np.sqrt(np.sum(values**2, axis=0)), np.sqrt(np.sum(centred**2, axis=0))
    varies = left > 1e-9 * size
    return _Predictor(label, centred[:, varies] / left[varies] * np.linalg.norm(one)) if varies.any() else None


def _has_slope(design: Design, factor: Factor, places: list[int]) -> bool:
    labels = {_label(design.population[place]) for place in places}
    blocks = (block for block in design.blocks if block.factor.name == factor.name)
    return any(_label(column) in labels for block in blocks for column in block.columns)


def _with_slope(design: Design, factor: Factor, label: str) -> str:
    """The group term as it is to be written: what the factor has already, and the slope."""
    columns = (column for block in design.blocks if block.factor.name == factor.name for column in block.columns)
    has = dict.fromkeys(own for column in columns if (own := _label(column)))
    return f"({' + '.join(['1', *has, label])} | {factor.name})"


def _is_constant(scores: Scores, predictor: _Predictor, factor: Factor) -> bool:
    """Whether the predictor takes one value in each level: its slope is then nothing but the level's intercept."""
    one, codes = _ones(scores), factor.codes[scores.rows.cell]
    size = np.bincount(codes, one**2, factor.n_levels)
    size[size == 0] = 1.0
    within = [column - one * (np.bincount(codes, one * column, factor.n_levels) / size)[codes] for column in predictor.values.T]
    return bool(np.sum(np.square(within)) <= 1e-9 * np.sum(predictor.values**2))


def _ones(scores: Scores) -> Floats:
    """(R,) what multiplies an intercept: of a linear model the roots of the cells' weights."""
    cells = scores.fit.design.cells
    if not cells.has_moments:
        return np.ones(len(scores.score))
    return np.concatenate([np.sqrt(cells.weight), np.zeros(len(scores.score) - cells.n_cells)])


def _of_pairs(scores: Scores, first: Factor, second: Factor) -> NewEffects:
    """One effect for each combination of two factors that occurs."""
    found, codes = distinct(_pairs(first, second))
    return NewEffects(_of_rows(scores, codes.astype(np.int32)), (_ones(scores),), len(found))


def _of_rows(scores: Scores, codes: Codes) -> Codes:
    """(R,) of ``codes`` (C,)."""
    return codes if len(scores.rows.cell) == len(codes) else codes[scores.rows.cell]


def _check(name: str, excess: Excess | None, what: str, advice: str, n_tests: int) -> Check:
    if excess is None:
        return Check(name, None, None, passed=True, message=f"not calculated: the rows do not tell {what} apart from what the model has")
    threshold = excess.threshold(FALSE_ALARMS / n_tests)
    numbers = f"{what} vary {excess.ratio:.3g} times as much as the model expects ({probability_words(excess.probability)})"
    passed = excess.ratio <= threshold
    return Check(name, excess.ratio, threshold, passed, numbers if passed else f"{advice.format(sd=excess.sd)}. In detail: {numbers}")


def probability_words(probability: float) -> str:
    """``p = 0.0031``, as messages write it."""
    return f"p < {SMALLEST:.0e}" if probability < SMALLEST else f"p = {probability:.2g}"
