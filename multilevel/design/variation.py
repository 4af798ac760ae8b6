"""Outcomes that do not vary where a model needs them to: refused with the factor's name, since a residual of nothing has no estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse.linalg import LinearOperator, lsmr

from multilevel.arrays import Floats
from multilevel.cells.statistics import CellStatistics
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedBlock, ReducedRows, reduce_design
from multilevel.design.unit_free import unit_free
from multilevel.errors import FitError
from multilevel.families.registry import family_named

ROUNDING = 3e-14
"""Standard deviation, relative to the outcome's size, that sums of doubles leave of an outcome that is constant."""

EXACT = 1e-8
"""Residual standard deviation, relative to the outcome's, that one varying term may leave: the fit keeps its digits down to there."""

CROSSED = 3e-6
"""The same where several terms vary: effects of the smaller factors lose digits to differences."""

CORRELATED = 3e-5
"""The same where the effects of a level are correlated."""

SHARPEST = 1e-5
"""Residual standard deviation of the logarithm of a gamma outcome: of a shape of 1e10 and more the deviance has lost its curvature."""

SHARPEST_CORRELATED = 4e-5
"""The same where the effects of a level are correlated."""

STEPS = 300
"""Iterations of the least-squares solver; one that is not done by then leaves more than there is, and nothing is refused."""


def check_variation(design: Design, outcome: str) -> None:
    """Refuse outcomes that are the same in all rows, or in all rows of each level of a factor.

    Parameters
    ----------
    design : one part's. outcome : as the formula writes it.

    Raises
    ------
    FitError
        Begins with ``varies_within[factor]`` where it is of a factor.
    """
    cells = design.cells
    if cells.has_moments and not cells.known_sigma:
        _check_linear(design, outcome)
    elif cells.log_total is not None and not cells.has_moments:
        _check_positive(design, outcome)
    elif family_named(cells.family).is_bounded:
        _check_trials(design, outcome)


def _check_linear(design: Design, outcome: str) -> None:
    cells = design.cells
    mean = cells.mean[:, -1]
    centre = float(cells.weight @ mean / cells.weight.sum())
    total = float(cells.weight @ (mean - centre) ** 2 + cells.cross[:, -1, -1].sum())
    size = float(cells.weight @ mean**2)
    if total <= ROUNDING**2 * size:
        raise FitError(
            f"{outcome} is {centre:.6g} in all {cells.n_rows:,} rows: an outcome that does not vary has nothing to estimate. Widen the "
            "window or `where`, or look for a column that was filled with one value."
        )
    rows = reduce_design(unit_free(design).design)
    smallest = max(_digits_kept(design) ** 2 * total, ROUNDING**2 * size)
    if rows.residual_ss > smallest:
        return
    problem = _Problem(rows, rows.outcome - centre * np.sqrt(cells.weight[rows.cell]) * (np.arange(len(rows.cell)) < cells.n_cells))
    for name in dict.fromkeys(block.factor.name for block in design.blocks):
        own = [place for place, block in enumerate(design.blocks) if block.factor.name == name]
        left = problem.left_by(own)
        if left is not None and left <= smallest:
            raise FitError(_hardly(outcome, f"varies_within[{name}]", f"the levels of {name}", left, total, cells))
    left = problem.left_by(range(len(design.blocks)))
    if design.blocks and left is not None and left <= smallest:
        finest = max((block.factor for block in design.blocks), key=lambda factor: factor.n_levels).name
        raise FitError(_hardly(outcome, f"varies_within[{finest}]", "all group-level terms together", left, total, cells))


def _digits_kept(design: Design) -> float:
    if any(len(block.columns) > 1 for block in design.blocks):
        return CORRELATED
    return CROSSED if len(design.blocks) > 1 else EXACT


def _hardly(outcome: str, check: str, given: str, left: float, total: float, cells: CellStatistics) -> str:
    sds = [np.sqrt(value / cells.n_rows) for value in (left, total)]
    return (
        f"{check}: {outcome} hardly varies within the groups: given {given} and the population-level terms its standard deviation is "
        f"{sds[0]:.2g}, of {sds[1]:.4g} in all, too little for estimates to keep their digits. Keep one row for each level and leave its "
        f"group term out, or look for a column that was made from the groups."
    )


@dataclass(frozen=True)
class _Problem:
    """Rows and the outcome (R,) to be reproduced by columns of X and Z."""

    rows: ReducedRows
    outcome: Floats

    def left_by(self, places: Sequence[int]) -> float | None:
        """Residual sum of squares given X and the blocks at ``places``; None where they have as many columns as there are rows."""
        rows = self.rows
        blocks = [_scaled(rows.blocks[place]) for place in places]
        length = np.sqrt(np.sum(rows.X**2, axis=0))
        X = rows.X / np.where(length > 0, length, 1.0)
        starts = np.cumsum([X.shape[1], *(block.n_levels * block.values.shape[1] for block in blocks)])
        if starts[-1] >= rows.n_rows:
            return None

        def forward(vector: Floats) -> Floats:
            total = X @ vector[: starts[0]]
            for block, start in zip(blocks, starts, strict=False):
                effects = vector[start : start + block.n_levels * block.values.shape[1]].reshape(block.n_levels, -1)
                total = total + np.sum(block.values * effects[block.codes], axis=1)
            return np.asarray(total)

        def backward(vector: Floats) -> Floats:
            parts = [X.T @ vector]
            for block in blocks:
                sums = [np.bincount(block.codes, column * vector, block.n_levels) for column in block.values.T]
                parts.append(np.column_stack(sums).ravel())
            return np.concatenate(parts)

        operator = LinearOperator((len(X), int(starts[-1])), matvec=forward, rmatvec=backward, dtype=np.float64)
        left = self.outcome
        # the second round takes off what rounding of the first left
        for _ in range(2):
            left = left - forward(lsmr(operator, left, atol=1e-6, btol=1e-14, maxiter=STEPS)[0])
        return float(left @ left) + rows.residual_ss


def _scaled(block: ReducedBlock) -> ReducedBlock:
    """Columns of length one, level by level."""
    square = np.column_stack([np.bincount(block.codes, column**2, block.n_levels) for column in block.values.T])
    length = np.sqrt(np.where(square > 0, square, 1.0))
    return ReducedBlock(block.codes, block.values / length[block.codes], block.n_levels)


def _check_positive(design: Design, outcome: str) -> None:
    """The mean of logarithms is that of the mean's where, and only where, all outcomes of a level are the same."""
    cells = design.cells
    assert cells.log_total is not None
    if not (cells.total > 0).all():
        return
    if cells.offset.any():
        _check_sharpness(design, outcome)
        return
    size = float(np.sum(cells.n * (1.0 + np.abs(np.log(cells.total / cells.n)))))
    for factor in {block.factor.name: block.factor for block in design.blocks}.values():
        n, total, logs = (np.bincount(factor.codes, v, factor.n_levels) for v in (cells.n, cells.total, cells.log_total))
        seen = n > 0
        spread = float(np.sum(n[seen] * np.log(total[seen] / n[seen]) - logs[seen]))
        if spread <= ROUNDING * size and seen.sum() < cells.n_rows:
            raise FitError(
                f"varies_within[{factor.name}]: {outcome} is the same in all rows of each level of {factor.name}: a gamma outcome without "
                "variation has no shape to estimate. Keep one row for each level, or look for a column that was made from the groups."
            )
    _check_sharpness(design, outcome)


def _check_sharpness(design: Design, outcome: str) -> None:
    """Gamma outcomes that predictors and groups reproduce: logarithms, as a linear model would see them."""
    cells = design.cells
    assert cells.log_total is not None
    logs = np.log(cells.total / cells.n)
    within = 2.0 * float(np.sum(np.maximum(cells.n * logs - cells.log_total, 0.0)))
    is_correlated = any(len(block.columns) > 1 for block in design.blocks)
    smallest = (SHARPEST_CORRELATED if is_correlated else SHARPEST) ** 2 * cells.n_rows
    if within > smallest or not design.blocks:
        return
    rows, root = reduce_design(design), np.sqrt(cells.n)
    blocks = tuple(replace(block, values=block.values * root[:, None]) for block in rows.blocks)
    rows = replace(rows, X=rows.X * root[:, None], blocks=blocks, residual_ss=within)
    left = _Problem(rows, (logs - cells.offset) * root).left_by(range(len(blocks)))
    if left is not None and left <= smallest:
        finest = max((block.factor for block in design.blocks), key=lambda factor: factor.n_levels).name
        raise FitError(
            f"varies_within[{finest}]: {outcome} hardly varies within the groups: given all group-level terms together and the "
            f"population-level terms it differs from its mean by {100 * np.sqrt(left / cells.n_rows):.2g} %, too little for estimates to "
            "keep their digits. Look for a column that was made from the groups, or write "
            f"log({outcome}) with family: gaussian."
        )


def _check_trials(design: Design, outcome: str) -> None:
    """Levels all without success or all without failure, several trials in both kinds: nothing bounds how far they lie apart."""
    cells = design.cells
    for factor in {block.factor.name: block.factor for block in design.blocks}.values():
        total, size = (np.bincount(factor.codes, v, factor.n_levels) for v in (cells.total, cells.size))
        none, full = total <= 0, total >= size
        if (none | full).all() and (none & (size > 1)).any() and (full & (size > 1)).any():
            raise FitError(
                f"varies_within[{factor.name}]: {outcome} is 0 in all rows or 1 in all rows of each level of {factor.name}: the "
                f"likelihood rises with the standard deviation of {factor.name} for ever. Keep one row for each level and "
                f"model that without the group term, or group by something coarser than {factor.name}."
            )
