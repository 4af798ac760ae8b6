"""What no pooling and complete pooling say about the levels of one factor, averaged over the same mix as partial pooling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.estimands.binning import OnePartBinning
from multilevel.estimands.mix_parts import Sides, split_sides
from multilevel.estimands.standardise import Standardisation, population_averages
from multilevel.fit.container import Fit
from multilevel.fit.residuals import cell_residual_ss
from multilevel.pooling.extremes import NoPoolingFit


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
        found = _averages(self.fit, sides, standard).respond().estimate
        return found * np.exp(self.fit.sigma**2 / 2.0) if _needs_sigma(self.fit) and self.fit.sigma is not None else found


@dataclass(frozen=True)
class NoPooling:
    """The fit with one factor's terms as fixed effects of every level."""

    separate: NoPoolingFit

    def respond(self, standard: Standardisation, owned: frozenset[str]) -> tuple[Floats, Floats]:
        """(L,) averages and their standard errors, NaN where one of a level's terms is not estimable.

        ``owned`` names the factors of the level's own tree. Under ``log(y)`` each level has its own sigma, RSS / (n - k), and that of all
        levels together where it has no residual degrees of freedom.
        """
        fit = self.separate.fit
        with np.errstate(all="ignore"):
            found = _averages(fit, split_sides(fit.design, [owned]), standard).respond()
        estimate, error = found.estimate, found.std_error
        if fit.design.cells.log_outcome:
            estimate, error = self.natural_scale(estimate, error)
        usable = self.separate.estimable.all(axis=1) & np.isfinite(estimate) & np.isfinite(error)
        return np.where(usable, estimate, np.nan), np.where(usable, error, np.nan)

    def natural_scale(self, estimate: Floats, error: Floats) -> tuple[Floats, Floats]:
        """(L,) medians of y and their errors as means: each level's own sigma, RSS / (n - k), and what is unknown of it."""
        fit, factor = self.separate.fit, self.separate.fit.design.blocks[0].factor
        ss = np.bincount(factor.codes, cell_residual_ss(fit.design, fit.joint.mean), factor.n_levels)
        freedom = np.bincount(factor.codes, fit.design.cells.n, factor.n_levels) - self.separate.estimable.shape[1]
        common = fit.sigma**2 if fit.sigma is not None else 0.0
        sigma2 = np.where(freedom > 0, ss / np.maximum(freedom, 1), common)
        # Var(log s^2) is about 2 / df (Bartlett and Kendall 1946); a borrowed sigma is taken as known.
        of_sigma = np.where(freedom > 0, sigma2 / 2.0 * np.sqrt(2.0 / np.maximum(freedom, 1)), 0.0)
        natural = estimate * np.exp(sigma2 / 2.0)
        return natural, natural * np.hypot(error / estimate, of_sigma)


def _averages(fit: Fit, sides: Sides, standard: Standardisation) -> Standardisation:
    return population_averages(OnePartBinning(fit, standard.response), sides, standard.own.level[standard.own.codes])


def _needs_sigma(fit: Fit) -> bool:
    return fit.design.cells.log_outcome


def _same_columns(fit: Fit, other: Fit) -> list[int] | None:
    labels = [column.label for column in other.design.population]
    wanted = [column.label for column in fit.design.population]
    return [labels.index(label) for label in wanted] if set(wanted) <= set(labels) else None
