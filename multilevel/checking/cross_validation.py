"""Out-of-sample fit over groups: the log predictive density of the rows of groups that the fit has not seen.

For each fold the model is fitted without the fold's levels; the score is log p(held-out rows | other rows) at those estimates, all effects
integrated: the log-likelihood of all rows at the fold's parameters less that of the rows it was fitted to. Effects of other factors that
the remaining rows speak of are thereby conditioned on, those of the held-out levels have their distribution. Exact for gaussian, by
Laplace's approximation otherwise. Divided by the number of rows; larger is better; comparable only on the same rows and folds.

What a likelihood has beyond the sums of its cells, and beside a dispersion that each fold estimates anew, is that of the fold's own rows:
of gamma the sum of log y, of negative binomial the histogram of y (``restrict_cells``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from multilevel.arrays import Floats, Integers
from multilevel.cells.statistics import CellStatistics, restrict_cells
from multilevel.checking.model_comparison import fit_by_likelihood
from multilevel.design.model import Design, DesignColumn, GroupBlock
from multilevel.design.reduction import ReducedRows, reduce_design
from multilevel.design.unit_free import unit_free
from multilevel.errors import FitError, StudyError
from multilevel.families.registry import family_named
from multilevel.fit.container import Fit
from multilevel.generalised.objective import Objective
from multilevel.generalised.search import problem_of
from multilevel.linear.assemble import linear_system
from multilevel.linear.criterion import Criterion
from multilevel.linear.theta import Theta

DETERMINED = 1e-10
"""Smallest eigenvalue of the predictors' scaled cross-products that a fold's remaining rows must leave."""


@dataclass(frozen=True)
class Score:
    """Per row: the sum over folds by the number of rows. ``by_fold`` (K,): each fold's log predictive density, not yet divided."""

    per_row: float
    by_fold: Floats


def folds_of(n_levels: int, n_folds: int, seed: int) -> Integers:
    """(L,) fold of each level: levels in random order, dealt out in turn; as many folds as levels is leave-one-group-out.

    Raises StudyError for fewer than 2 levels or folds.
    """
    if n_levels < 2:
        raise StudyError(f"Cross-validation over groups needs at least 2 levels of the factor, there is {n_levels}.")
    if n_folds < 2:
        raise StudyError(f"--folds {n_folds}: write at least 2; as many as there are levels, or more, leaves one group out at a time.")
    fold = np.empty(n_levels, dtype=np.int64)
    fold[np.random.default_rng(seed).permutation(n_levels)] = np.arange(n_levels) % min(n_folds, n_levels)
    return fold


def score(
    design: Design,
    cell_fold: Integers,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
    *,
    n_folds: int | None = None,
    near: Fit | None = None,
) -> Score:
    """Cross-validated score of a model.

    Parameters
    ----------
    design : over all cells. cell_fold : (C,) the fold that each cell is held out in. progress : called after each fold.
    n_folds : K, where the last fold may have no cell; None: as many as ``cell_fold`` names. near : the fit to all cells.

    Raises
    ------
    StudyError
        The cells of a negative binomial study do not keep single rows' outcomes. FitError: a fold's remaining rows do not determine a
        coefficient, or leave nothing to fit.
    """
    _refuse_unsplittable(design.cells)
    density = []
    for fold in range(int(cell_fold.max()) + 1 if n_folds is None else n_folds):
        kept = restrict(design, cell_fold != fold)
        _refuse_undetermined(kept)
        fit = fit_by_likelihood(kept, seed, near)
        density.append(marginal(design, fit) - marginal(kept, fit))
        if progress is not None:
            progress()
    by_fold = np.array(density)
    return Score((float(by_fold.sum()) + _constant(design.cells)) / design.cells.n_rows, by_fold)


def joined(scores: Sequence[Score], designs: Sequence[Design], n_rows: int) -> Score:
    """The score of a model of several parts without a parameter in common, over the same folds; ``n_rows`` of the whole.

    Of a part of log y the Jacobian is added: the score is that of y.
    """
    total = sum(
        part.per_row * design.cells.n_rows + design.cells.once.get("log_jacobian", 0.0)
        for part, design in zip(scores, designs, strict=True)
    )
    return Score(total / n_rows, np.sum([part.by_fold for part in scores], axis=0))


def difference(full: Score, reduced: Score, n_rows: int) -> tuple[float, float]:
    """Full minus reduced, per row, and its standard error from the spread between folds."""
    by_fold = full.by_fold - reduced.by_fold
    return float(by_fold.sum()) / n_rows, math.sqrt(len(by_fold)) * float(by_fold.std(ddof=1)) / n_rows


def restrict(design: Design, keep: NDArray[np.bool_]) -> Design:
    """The design over some of the cells; all levels stay, those without cells included."""

    def columns(old: tuple[DesignColumn, ...]) -> tuple[DesignColumn, ...]:
        return tuple(replace(column, multiplier=column.multiplier[keep]) for column in old)

    blocks = tuple(GroupBlock(replace(block.factor, codes=block.factor.codes[keep]), columns(block.columns)) for block in design.blocks)
    return replace(design, cells=restrict_cells(design.cells, keep), population=columns(design.population), blocks=blocks)


def marginal(design: Design, fit: Fit) -> float:
    """Log-likelihood at the estimates of ``fit``, whatever rows it was made from; of gaussian, binomial and poisson less the constants
    that do not depend on parameters."""
    assert fit.unit_free is not None and fit.unit_free.joint is not None
    rows = reduce_design(unit_free(design, units=fit.unit_free.form.units).design)
    p = len(design.population)
    predictor = rows.X @ fit.unit_free.joint.mean[:p]
    bare = replace(rows, X=np.zeros((len(rows.outcome), 0)))
    if design.cells.has_moments:
        return _gaussian(replace(bare, outcome=rows.outcome - predictor), fit)
    return _laplace(design, replace(bare, offset=rows.offset + predictor), fit)


def _gaussian(rows: ReducedRows, fit: Fit) -> float:
    layout = Theta(tuple(block.values.shape[1] for block in rows.blocks))
    criterion = Criterion(linear_system(rows), layout, False, 0.0, fit.sigma)
    return -criterion.value(criterion.factorise(_theta(fit))) / 2.0


def _laplace(design: Design, rows: ReducedRows, fit: Fit) -> float:
    problem = problem_of(design, rows, design.cells.family)
    log_dispersion = 0.0 if fit.dispersion is None else math.log(fit.dispersion)
    mode = problem.objective.mode(_theta(fit), log_dispersion, None)
    # the saturated fit is of the rows at hand and stays; what ``_constant`` adds for all rows together is taken off
    return -Objective.value(mode) / 2.0 - _constant(design.cells)


def _theta(fit: Fit) -> Floats:
    assert fit.unit_free is not None
    lambdas = fit.unit_free.lambdas
    return Theta(tuple(map(len, lambdas))).flat(lambdas)


def _constant(cells: CellStatistics) -> float:
    """What all rows together add at any parameter; of families with a dispersion ``marginal`` has it already."""
    return family_named(cells.family).row_constant(cells.once)


def _refuse_unsplittable(cells: CellStatistics) -> None:
    if cells.histogram is not None and cells.outcomes is None:
        raise StudyError(
            f"Cross-validation of a {cells.family} model needs the counts of each fold's own rows, and there are too many different ones "
            "to keep. AIC and BIC stand; write --folds 0."
        )


def undetermined_without(design: Design, cell_fold: Integers, n_folds: int) -> str | None:
    """What the rows of some fold's remaining groups do not determine, for people; None where every fold leaves enough."""
    return next((who for fold in range(n_folds) if (who := _undetermined(restrict(design, cell_fold != fold))) is not None), None)


def _refuse_undetermined(design: Design) -> None:
    who = _undetermined(design)
    if who is not None:
        raise FitError(f"Without a fold's groups the remaining rows do not determine {who}: take more folds, or another factor (--factor).")


def _undetermined(design: Design) -> str | None:
    X = csr_array(reduce_design(unit_free(design).design).X)
    gram = np.asarray((X.T @ X).todense())
    norms = np.sqrt(np.diagonal(gram))
    empty = [column.label for column, norm in zip(design.population, norms, strict=True) if norm == 0]
    if empty or np.linalg.eigvalsh(gram / np.outer(norms, norms))[0] < DETERMINED:
        return ", ".join(empty) or "a predictor that varies only between the held-out groups"
    return None
