"""What a family of outcomes is: everything that is particular to one distribution, in one object.

The rest of the project asks the object and never compares its name. A new family is a subclass of ``Family`` in its own file and a line in
the registry; programs that import the library may ``register`` one instead. What a family need not say has a default here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from multilevel.arrays import Flags, Floats
from multilevel.errors import DataError
from multilevel.families.likelihood import Likelihood
from multilevel.families.link import Link
from multilevel.families.notation import Notation
from multilevel.families.outcome import Outcome

type ScaleName = Literal["sigma", "phi", "shape"]
"""Name of the scale parameter in tables and studies."""

type DistinctOutcomes = Literal["not needed", "for constants", "kept"]


@dataclass(frozen=True)
class RowValues:
    """A study's rows, in memory: outcome (log y under ``log(y)``), raw y, trials, log exposure and weight, each (N,)."""

    outcome: Floats
    raw: Floats
    trials: Floats
    log_exposure: Floats
    weight: Floats


@dataclass(frozen=True)
class RowSum:
    """A constant of the likelihood, summed over all rows.

    sql : the summand, over the columns ``outcome``, ``trials`` and ``log_exposure``; None: the constant is 0.
    rows : the same of rows in memory, (N,).
    """

    sql: str | None = None
    rows: Callable[[RowValues], Floats] = field(default=lambda rows: np.zeros(len(rows.raw)), repr=False)


@dataclass(frozen=True)
class Statistics:
    """What cells keep of the outcome in addition to counts and sums.

    Attributes
    ----------
    moments : means and centred cross-products of the numeric predictors and the outcome, so that those need not join the key.
    size : what a cell's outcomes are counted against: its rows, their trials, or their exposure.
    is_discrete : outcomes are whole numbers, so that rows of a cell with the same outcome have the same likelihood.
    distinct_outcomes : the distinct outcomes with their row counts: not needed, needed for constants alone, or kept.
    log_sums : whether the sum of log y, ``sum_log_outcome`` of ``Family.row_sums``, is kept cell by cell.
    """

    moments: bool = False
    size: Literal["rows", "trials", "exposure"] = "rows"
    is_discrete: bool = False
    distinct_outcomes: DistinctOutcomes = "not needed"
    log_sums: bool = False


@dataclass(frozen=True)
class Support:
    """The outcomes a family allows. sql : condition on ``{y}`` that holds for rows outside; message : what is needed instead."""

    sql: str
    message: str


@dataclass(frozen=True)
class Words:
    """What people read of the family.

    distribution : predicate of "the outcome ..."; single : the same for one trial a row, where that reads differently.
    latent_variance : the residual variance on the link scale, a sentence; "" where it is an estimated one.
    overdispersed : advice where the cells vary more than the family expects. regular : advice where outcomes vary less than drawn ones.
    level_per_row : what else to write where every row has a level of its own.
    amount : predicate of "where y > 0, it ...", as the second part of a two-part outcome.
    """

    distribution: str
    latent_variance: str = ""
    overdispersed: str = ""
    regular: str = ""
    level_per_row: str = ""
    single: str | None = None
    amount: str = ""


class Family(ABC):
    """One distribution of outcomes with its link.

    ``eta`` is always the linear predictor, offset included; ``scale`` is sigma, phi or shape, ignored by families without one.
    """

    name: ClassVar[str]
    link: ClassVar[Link]
    statistics: ClassVar[Statistics] = Statistics()
    words: ClassVar[Words]
    notation: ClassVar[Notation]
    scale: ClassVar[ScaleName | None] = None

    # what a study may write, and what rows may hold

    support: ClassVar[Support | None] = None

    @property
    def offset_in_key(self) -> bool:
        """Whether an offset must join the cells' key; else it is taken off the outcome, or summed as exposure."""
        return not self.statistics.moments and self.statistics.size != "exposure"

    def row_sums(self, *, has_trials: bool, has_offset: bool) -> Mapping[str, RowSum]:
        """Constants by their names in ``Outcome.once``."""
        return {}

    def refuse_sums(self, total: Floats, size: Floats, once: Mapping[str, float]) -> None:  # noqa: B027
        """DataError where (C,) summed outcomes, trials or exposures cannot be; most rows outside the support were refused before."""

    def is_full(self, total: Floats, size: Floats) -> Flags:
        """(C,) where no larger sum is possible."""
        return np.zeros(len(total), dtype=np.bool_)

    @property
    def is_bounded(self) -> bool:
        """Whether sums have a largest value, as successes among trials have."""
        return bool(self.is_full(np.ones(1), np.ones(1))[0])

    # likelihood

    @property
    def has_sigma(self) -> bool:
        """Whether the scale is a residual sd."""
        return self.scale == "sigma"

    @property
    def has_dispersion(self) -> bool:
        """Whether there is a scale besides the mean on which the mean's likelihood depends (phi or shape)."""
        return self.scale is not None and not self.has_sigma

    @abstractmethod
    def likelihood(self, outcome: Outcome) -> Likelihood:
        """Log-likelihood of the rows with every derivative that Laplace's approximation needs."""

    @property
    @abstractmethod
    def log_density(self) -> Any:
        """The same up to constants, compiled by numba, with its gradient.

        (y, size, once, histogram, eta, scale, g_eta, g_scale) -> value: y, size, eta (R,); once (3,) residual_ss, N, sum of log y;
        histogram (H, 2); g_eta (R,) and g_scale (1,) are written.
        """

    def log_likelihood(self, outcome: Outcome, eta: Any, scale: Any, xp: Any = np) -> Any:
        """The same up to constants, in NumPy, or symbolic where ``xp`` is ``pytensor.tensor``; by default compiled, in NumPy alone."""
        if xp is not np:
            raise NotImplementedError(f"{self.name} has no symbolic log-likelihood")
        g_eta, g_scale = np.empty(len(eta)), np.empty(1)
        return self.log_density(outcome.outcome, outcome.size, outcome.numbers, outcome.histogram, eta, float(scale), g_eta, g_scale)

    def working(self, outcome: Outcome, eta: Floats, scale: float) -> tuple[Floats, Floats]:
        """Fisher weights W (R,) and W times the working residual (McCullagh and Nelder 1989, section 2.5)."""
        mean, variance = self.moments(outcome.size, eta, scale)
        slope = outcome.size * self.link.slope(eta)
        return slope**2 / variance, slope * (outcome.outcome - mean) / variance

    def saturated(self, outcome: Outcome) -> Floats:
        """(R,) linear predictor that fits each row on its own, off the boundary: where Newton's method starts (McCullagh and Nelder 1989).

        Started from a constant, the first step under a log link overshoots further than step halving can undo.
        """
        mean = outcome.outcome.sum() / outcome.size.sum()
        return np.asarray(self.link.inverse((outcome.outcome + 0.1 * mean) / (outcome.size + 0.1)))

    def row_constant(self, once: Mapping[str, float]) -> float:
        """What all rows together add to the log-likelihood at any parameter, of constants that ``once`` holds."""
        return 0.0

    def row_log_probability(self, eta: Floats, y: Floats, size: Floats, scale: Floats) -> Floats:
        """(P, S) log probability of outcomes y (P, 1) with so many trials or such an exposure (P, 1); of discrete families."""
        raise NotImplementedError(f"{self.name} outcomes have densities, not probabilities")

    def below(self, y: Floats, size: Floats, eta: Floats, scale: Floats) -> Floats:
        """P(Y <= y) of one row's outcome of so many trials, elementwise; of a normal one ``size`` is its weight."""
        raise NotImplementedError(f"{self.name} does not say how its outcomes are distributed: intervals of the next one need `below`")

    def single_outcomes(self, total: Floats, size: Floats, n: Floats) -> tuple[tuple[float, Floats], ...] | None:
        """Outcomes of single rows with how many rows of each cell (C,) have them, where sums alone tell; else None."""
        return None

    # moments, simulation

    @abstractmethod
    def moments(self, size: Floats, eta: Floats, scale: float, *, floor: float = 0.0) -> tuple[Floats, Floats]:
        """Mean and variance (R,) of the sum of a row's outcomes; ``floor`` keeps them off the boundary."""

    @abstractmethod
    def draw_sums(self, size: Floats, eta: Floats, scale: float, rng: np.random.Generator, *, floor: float = 0.0) -> Floats:
        """(R,) sums of new outcomes."""

    def draw(self, outcome: Outcome, eta: Floats, scale: float, rng: np.random.Generator) -> Outcome:
        """New statistics at the same sizes, with the constants that come with them."""
        return outcome.replaced(self.draw_sums(outcome.size, eta, scale, rng))

    @property
    def counts_zeros(self) -> bool:
        """Whether the share of zeros says more than the dispersion: counts whose distribution is kept."""
        return self.statistics.distinct_outcomes == "kept"

    def zero_probability(self, mean: Floats, scale: float) -> Floats:
        """(R,) probability that one row is zero, of families that ``counts_zeros``."""
        raise NotImplementedError(f"{self.name} does not count zeros")

    # where a search begins, and the scale of priors

    def outcome_scale(self, total: Floats, size: Floats, offset: Floats) -> tuple[float, float]:
        """Mean and sd of the outcome on the scale of the linear predictor, of (C,) sums; the sd is 1 on a link scale."""
        if self.link.is_multiplicative:
            return float(np.log((total.sum() + 0.5) / (size @ np.exp(offset) + 0.5))), 1.0
        share = np.array((total.sum() + 0.5) / (size.sum() + 1.0))
        return float(self.link.inverse(share) - np.average(offset, weights=size)), 1.0

    # interpretation

    @abstractmethod
    def latent_variance(self, mean: float, scale: float) -> float:
        """Variance of a row on the link scale (Nakagawa, Johnson and Schielzeth 2017, table 1), at the observed mean outcome."""

    # refusals that several families share

    def _refuse_negative(self, total: Floats) -> None:
        refuse(~(total >= 0), total, "summed outcome", f"zero or more for {self.name}")


def refuse(wrong: Flags, values: Floats, what: str, right: str) -> None:
    """DataError with the first wrong value and how many there are."""
    if wrong.any():
        first = values[np.argmax(wrong)]
        raise DataError(f"The {what} is {first:g} in {int(wrong.sum())} of {len(values)} cells; it must be {right}.")
