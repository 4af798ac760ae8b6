"""Those covariances of coefficients and effects that rows touch, of one factorisation: given beta, or with it."""

from __future__ import annotations

from dataclasses import dataclass

from multilevel.arrays import Floats
from multilevel.linear.chain import SelectedCovariance, selected_covariances
from multilevel.linear.factorise import BlockedFactor
from multilevel.linear.small_blocks import diagonal_blocks


@dataclass(frozen=True)
class TouchedCovariances:
    """All over sigma^2. diagonals : per factor that stays (L, k, k), of u. rest : (w, w) of its b, and of the coefficients of Q where w
    includes them. stages : of every eliminated factor, from the leaves up."""

    diagonals: tuple[Floats, ...]
    rest: Floats
    stages: tuple[SelectedCovariance, ...]

    @classmethod
    def given_beta(cls, factor: BlockedFactor) -> TouchedCovariances:
        """Var(b | y, theta, beta)."""
        return cls(factor.rest_given_beta.diagonals, factor.rest_given_beta.effects, factor.selected_given_beta)

    @classmethod
    def with_beta(cls, factor: BlockedFactor) -> TouchedCovariances:
        """Var(beta, b | y, theta)."""
        unit = factor.unit_inverse(len(factor.root))
        blocks = zip(factor.system.rest, factor.system.rest_starts, strict=False)
        diagonals = tuple(diagonal_blocks(unit, start, factor.system.sizes[index]) for index, start in blocks)
        rest = factor.to_effects(unit)
        return cls(diagonals, rest, tuple(selected_covariances(factor.stages, rest)))
