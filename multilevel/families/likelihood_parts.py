"""Likelihoods of many rows, some rows at a time: what is calculated stays in a processor's cache, and processors share the parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from multilevel.arrays import Floats
from multilevel.families.likelihood import ByDispersion, Curvature, Likelihood, rounding_of_decrement, rounding_of_value
from multilevel.families.outcome import Outcome
from multilevel.threads import shared_out

ROWS = 32_768
"""Of a part: an array of so many numbers has 256 kB."""

MANY = 4 * ROWS
"""Fewer rows are one part."""


def row_parts(n: int) -> tuple[slice, ...]:
    """``n`` rows in parts; they do not depend on the machine, since the order of sums decides their last digits."""
    return tuple(slice(at, min(at + ROWS, n)) for at in range(0, n, ROWS)) if n >= MANY else (slice(0, n),)


def likelihood_of(outcome: Outcome) -> Likelihood:
    """The likelihood of the rows, in parts where they are many."""
    whole, parts = outcome.family.likelihood(outcome), row_parts(len(outcome.outcome))
    return whole if len(parts) == 1 else LikelihoodInParts(whole, tuple((here, _of_part(outcome, here)) for here in parts))


def _of_part(outcome: Outcome, here: slice) -> Likelihood:
    some = replace(outcome, outcome=outcome.outcome[here], size=outcome.size[here], n=outcome.n[here])
    return outcome.family.likelihood(some)


@dataclass(frozen=True)
class LikelihoodInParts:
    """``whole``, each of whose ``parts`` has the rows of its slice; what is no function of single rows is asked of ``whole``."""

    whole: Likelihood
    parts: tuple[tuple[slice, Likelihood], ...]

    @property
    def has_dispersion(self) -> bool:
        """See ``Likelihood``."""
        return self.whole.has_dispersion

    def terms(self, eta: Floats, log_dispersion: float) -> Floats:
        """See ``Likelihood``."""
        return self._by_row(eta, lambda part, own: (part.terms(own, log_dispersion),))[0]

    def constant(self, log_dispersion: float) -> float:
        """See ``Likelihood``."""
        return self.whole.constant(log_dispersion)

    def curvature(self, eta: Floats, log_dispersion: float) -> Curvature:
        """See ``Likelihood``."""

        def of_part(part: Likelihood, own: Floats) -> tuple[Floats, ...]:
            found = part.curvature(own, log_dispersion)
            return found.score, found.weight, found.weight_slope

        return Curvature(*self._by_row(eta, of_part, 3))

    def gross(self, eta: Floats, log_dispersion: float) -> Floats:
        """See ``Likelihood``."""
        return self._by_row(eta, lambda part, own: (part.gross(own, log_dispersion),))[0]

    def by_dispersion(self, eta: Floats, log_dispersion: float) -> ByDispersion:
        """See ``Likelihood``."""
        return self.whole.by_dispersion(eta, log_dispersion)

    def typical_predictor(self) -> float:
        """See ``Likelihood``."""
        return self.whole.typical_predictor()

    def total(self, of_part: Callable[[Likelihood, slice], float]) -> float:
        """The sum of ``of_part`` over the parts, in their order."""
        found = np.zeros(len(self.parts))

        def task(at: int) -> Callable[[], None]:
            here, part = self.parts[at]

            def run() -> None:
                found[at] = of_part(part, here)

            return run

        shared_out([task(at) for at in range(len(self.parts))])
        return float(found.sum())

    def _by_row(self, eta: Floats, of_part: Callable[[Likelihood, Floats], tuple[Floats, ...]], size: int = 1) -> list[Floats]:
        """``size`` arrays (R,), of what ``of_part`` gives for each part's rows."""
        found = [np.empty(len(eta)) for _ in range(size)]

        def task(here: slice, part: Likelihood) -> Callable[[], None]:
            def run() -> None:
                for own, values in zip(found, of_part(part, eta[here]), strict=True):
                    own[here] = values

            return run

        shared_out([task(here, part) for here, part in self.parts])
        return found


def value_of(likelihood: Likelihood, eta: Floats, log_dispersion: float) -> float:
    """The log-likelihood less its constant; infinite or not a number where it overflows."""
    if isinstance(likelihood, LikelihoodInParts):
        return likelihood.total(lambda part, here: float(np.sum(part.terms(eta[here], log_dispersion))))
    return float(np.sum(likelihood.terms(eta, log_dispersion)))


def value_and_rounding(likelihood: Likelihood, eta: Floats, log_dispersion: float) -> tuple[float, float]:
    """``value_of``, and what rounding may move it by; infinite or not a number where they overflow."""
    value = value_of(likelihood, eta, log_dispersion)
    if isinstance(likelihood, LikelihoodInParts):
        return value, likelihood.total(lambda part, here: rounding_of_value(part, eta[here], log_dispersion))
    return value, rounding_of_value(likelihood, eta, log_dispersion)


def rounding_of_newton(likelihood: Likelihood, eta: Floats, log_dispersion: float, weight: Floats) -> float:
    """``rounding_of_decrement``, by parts where there are any."""
    if isinstance(likelihood, LikelihoodInParts):
        return likelihood.total(lambda part, here: rounding_of_decrement(part, eta[here], log_dispersion, weight[here]))
    return rounding_of_decrement(likelihood, eta, log_dispersion, weight)
