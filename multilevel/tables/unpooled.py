"""What no pooling and complete pooling say about the levels of one factor, averaged with the weights of partial pooling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from multilevel.cells import Floats
from multilevel.fit import Fit, Summary
from multilevel.tables.standardise import Standardisation, join

type NoPooling = Callable[[Standardisation], tuple[Floats, Floats] | None]
"""Gives (estimate, std_error) (L,) each, NaN where not estimable; None where the factor was not fitted that way."""


@dataclass(frozen=True)
class CompletePooling:
    """The fit without any group terms, and for ``log(y)`` its own sigma."""

    fit: Fit

    def respond(self, standard: Standardisation) -> Floats:
        """(L,) the averages; NaN throughout where complete pooling estimates a column that partial pooling does not have."""
        places = _same_columns(self.fit, standard.fit)
        if places is None:
            return np.full(standard.n_levels, np.nan)
        pieces: list[Summary] = []
        for levels, rows, weights in standard.chunks():
            picked = csr_array(rows[:, places])
            own = _without_level_variance(standard, levels, weights)
            if standard.response.is_linear:
                pieces.append(self.fit.joint.combine(csr_array(own @ picked), self.fit.interval))
            else:
                pieces.append(self.fit.joint.respond(picked, own, standard.response.mean, standard.response.slope, self.fit.interval))
        scale = np.exp(self.fit.sigma**2 / 2.0) if standard.fit.design.cells.log_outcome and self.fit.sigma is not None else 1.0
        return join(pieces).estimate * scale


def _without_level_variance(standard: Standardisation, levels: slice, weights: csr_array) -> csr_array:
    """The same weights of bins without the factor exp(sigma^2 / 2) of partial pooling and its ratios."""
    if standard.response.is_linear:
        return weights
    first = np.searchsorted(standard.own.level, [levels.start, levels.stop])
    values = np.outer(standard.own.weight[first[0] : first[1]], standard.common.weight)
    rows = np.repeat(standard.own.level[first[0] : first[1]] - levels.start, standard.common.n_bins)
    return csr_array((values.ravel(), (rows, np.arange(values.size))), shape=weights.shape)


def _same_columns(fit: Fit, other: Fit) -> list[int] | None:
    labels = [column.label for column in other.design.population]
    wanted = [column.label for column in fit.design.population]
    return [labels.index(label) for label in wanted] if set(wanted) <= set(labels) else None
