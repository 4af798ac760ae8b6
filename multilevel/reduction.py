"""Cells as weighted rows that every engine can use: pseudo-rows for the gaussian family, the cells themselves for the others."""

from __future__ import annotations

from dataclasses import dataclass

from multilevel.cells import Codes, Floats


@dataclass(frozen=True)
class ReducedBlock:
    """One block over reduced rows: ``codes`` (R,) the level of each row, ``values`` (R, k) its columns of Z."""

    codes: Codes
    values: Floats
    n_levels: int


@dataclass(frozen=True)
class ReducedRows:
    """R rows that give the same likelihood as the line items, up to constants.

    gaussian: ``outcome ~ Normal(X beta + Z b, sigma)`` for each row, times ``residual_ss`` with ``n_rows - R`` degrees of freedom:
    Gamma((N - R) / 2, rate 1 / (2 sigma^2)).
    binomial: ``outcome ~ Binomial(size, p)``; poisson: ``outcome ~ Poisson(size * mu)``; negative_binomial: ``outcome ~ NB(n mu, n phi)``;
    gamma: ``outcome ~ Gamma(n a, n a / (n mu))``; ``offset`` is added to the linear predictor.

    X : (R, p); outcome, size, offset, n : (R,); cell : (R,) the cell each row came from.
    """

    X: Floats
    blocks: tuple[ReducedBlock, ...]
    outcome: Floats
    size: Floats
    offset: Floats
    n: Floats
    cell: Codes
    n_rows: int
    residual_ss: float
