"""Derivatives of averages, of all levels at once."""

from __future__ import annotations

from scipy.sparse import csr_array

from multilevel.estimands.standardise import Standardisation
from multilevel.fit.shared_rows import as_csr, stacked


def gradients_of(standard: Standardisation) -> tuple[csr_array, ...]:
    """Per part (L, p + q)."""
    return tuple(stacked([as_csr(piece) for piece in part]) for part in zip(*standard.gradient_chunks(), strict=True))
