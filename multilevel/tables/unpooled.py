"""What no pooling and complete pooling say about the levels of one factor, averaged over the same mix as partial pooling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from multilevel.cells import Floats
from multilevel.fit import Fit
from multilevel.tables.bins import distinct_rows
from multilevel.tables.sides import Sides
from multilevel.tables.standardise import Standardisation, common_bins, own_bins

type NoPooling = Callable[[Standardisation], tuple[Floats, Floats] | None]
"""Gives (estimate, std_error) (L,) each, NaN where not estimable; None where the factor was not fitted that way."""


@dataclass(frozen=True)
class CompletePooling:
    """The fit without any group terms, and for ``log(y)`` its own sigma."""

    fit: Fit

    def respond(self, standard: Standardisation) -> Floats:
        """(L,) the averages; NaN throughout where complete pooling has a column that partial pooling does not have."""
        places = _same_columns(self.fit, standard.fit)
        if places is None:
            return np.full(standard.n_levels, np.nan)
        sides = Sides(self.fit.design, tuple(standard.sides.population[place] for place in places), (), (), 1)
        found = _of_population(self.fit, sides, standard).respond().estimate
        return found * np.exp(self.fit.sigma**2 / 2.0) if _needs_sigma(self.fit) and self.fit.sigma is not None else found


def _of_population(fit: Fit, sides: Sides, standard: Standardisation) -> Standardisation:
    """The averages of a model with population columns alone; a level's leaves are its distinct group-level predictors."""
    n_cells = fit.design.cells.n_cells
    level = standard.own.level[standard.own.codes]
    zeros, ones = np.zeros(n_cells), np.ones(n_cells)
    own_values = [split[0] for split in sides.population]
    inner = [] if standard.response.is_linear else [distinct_rows(own_values, n_cells)]
    own = own_bins(fit, sides, 0, level, inner, response=standard.response)
    common = common_bins(fit, sides, standard.response, own.n_bins, own_part=zeros, common_part=ones)
    variances = np.zeros(own.n_bins), np.ones(common.n_bins)
    return Standardisation(fit, standard.response, sides, own, common, *variances, standard.n_levels)


def _needs_sigma(fit: Fit) -> bool:
    return fit.design.cells.log_outcome


def _same_columns(fit: Fit, other: Fit) -> list[int] | None:
    labels = [column.label for column in other.design.population]
    wanted = [column.label for column in fit.design.population]
    return [labels.index(label) for label in wanted] if set(wanted) <= set(labels) else None
