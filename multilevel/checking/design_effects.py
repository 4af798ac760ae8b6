"""Design effects: what leaving a sampled unit (customer, household, store) out of the formula costs.

With r_ug the sum of the residuals of unit u's line items in level g, at all fitted effects, v_ug the variance that the model gives that
sum, V_g that of all line items of the level and p_ug = v_ug / V_g,

    design effect = sum_g sum_u r_ug^2  /  sum_g sum_u v_ug (1 - p_ug)

over levels with at least two units (Kish 1965, of residuals rather than outcomes). The last factor undoes what fitting the
level's own effect removes. With every unit looked at, the denominator is sum_g V_g (1 - sum_u p_ug^2). Under known weights a residual is
weighted, as its level's effect weights it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Codes, Floats, Integers
from multilevel.cells.unit_sums import UnitSums, cell_places, level_unit_pairs
from multilevel.design.model import Factor
from multilevel.design.nesting import Nesting
from multilevel.families.registry import family_named
from multilevel.fit.container import Check, Fit
from multilevel.fit.residuals import feature_coefficients, linear_predictor

MATERIAL = 1.5
"""Design effect above which intervals are materially too narrow."""

SIMULATIONS = 200
"""Simulations of the unit sums from the fit, all of which a failing value exceeds."""

MOST_SIMULATED = 200_000
"""Pairs of cell and unit that are simulated; of more, a sample of the units."""

MENTIONED = 1.2
"""Ratio of standard errors below which intervals are not called too narrow."""


@dataclass(frozen=True)
class Published:
    """Estimates (L,) of a factor's levels and their standard errors, as published; on the natural scale of the outcome."""

    estimate: Floats
    std_error: Floats


@dataclass(frozen=True)
class _Residuals:
    """Of P pairs: which cell (P,), the summed residual (P,), its variance (P,); ``total`` (C,) variance of all line items of each cell;
    ``size`` (C,) what a summed residual is divided by to be that of a mean; ``logarithmic``: of log y."""

    units: UnitSums
    cell: Integers
    residual: Floats
    variance: Floats
    total: Floats
    size: Floats
    logarithmic: bool = False


def design_effects(
    fit: Fit,
    tree: Nesting,
    units: UnitSums,
    row_variance: Floats | None = None,
    published: Mapping[str, Published] | None = None,
    seed: int = 0,
) -> list[Check]:
    """A check ``design_effect[factor, unit]`` for every grouping factor that has levels with two units or more.

    Parameters
    ----------
    fit : of one part. tree : with the codes of its cells. units : the sums of that part.
    row_variance : (C,) variance of a line item of each cell, where it differs between them; None: sigma squared.
    published : estimates of each factor's levels, for the words on intervals.

    Returns
    -------
    list of Check
        Fails above 1.5 where the value also exceeds all of 200 simulations of the unit sums from the fit.
    """
    residuals = _residuals(fit, units, row_variance)
    rng = np.random.default_rng(seed)
    found = []
    for name, factor in tree.factors.items():
        sums = _sums(residuals, factor)
        if sums is not None:
            found.append(_check(sums, fit, factor, residuals, (published or {}).get(name), rng))
    return found


def _residuals(fit: Fit, units: UnitSums, row_variance: Floats | None) -> _Residuals:
    design = fit.design
    cell = cell_places(units, design.cells.key)
    if design.cells.has_moments:
        parts = feature_coefficients(design, fit.joint.mean)
        slopes = parts[cell, 1:]
        fitted = parts[cell, 0] + np.sum(slopes * units.mean[:, :-1], axis=1) + design.cells.offset[cell]
        of_row = np.full(design.cells.n_cells, 1.0 if fit.sigma is None else fit.sigma**2) if row_variance is None else row_variance
        weight = design.cells.weight
        residual = units.weight * (units.mean[:, -1] - fitted)
        return _Residuals(units, cell, residual, units.weight * of_row[cell], weight * of_row, weight, design.cells.log_outcome)
    family, eta = family_named(design.cells.family), linear_predictor(design, fit.joint.mean)
    scale = np.inf if fit.dispersion is None else fit.dispersion
    mean, own = family.moments(units.size, eta[cell], scale)
    _, total = family.moments(design.cells.size, eta, scale)
    return _Residuals(units, cell, units.total - mean, own, total, design.cells.size)


@dataclass(frozen=True)
class _Sums:
    """Over N pairs of a level and a unit, of levels with two units or more.

    level, residual, variance : (N,). total : (L,) variance of all line items of a level. n_units : (L,) units looked at in each level.
    kept : (K,) the pairs of cell and unit that they are made of; pair : (K,) which of the N each of those belongs to.
    """

    level: Integers
    residual: Floats
    variance: Floats
    total: Floats
    n_units: Integers
    pair: Integers
    kept: Integers

    @property
    def share(self) -> Floats:
        """(N,) p_ug."""
        return self.variance / self.total[self.level]

    @property
    def expected(self) -> Floats:
        """(N,) expected squares where line items are independent."""
        return self.variance * (1.0 - self.share)

    @property
    def value(self) -> float:
        """The design effect."""
        return float(np.sum(self.residual**2) / np.sum(self.expected))

    def by_level(self) -> Floats:
        """(L,) the design effect of each level; NaN where it has not two units."""
        n_levels = len(self.total)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.bincount(self.level, self.residual**2, n_levels) / np.bincount(self.level, self.expected, n_levels)


def _sums(residuals: _Residuals, factor: Factor, of: Codes | None = None) -> _Sums | None:
    """None where no level has two units. ``of`` : only pairs of these units."""
    units = residuals.units
    chosen = np.arange(len(residuals.cell)) if of is None else np.flatnonzero(np.isin(units.unit, of))
    of_pair, pair = level_unit_pairs(factor.codes.astype(np.int64)[residuals.cell[chosen]], units.unit[chosen])
    variance = np.bincount(pair, residuals.variance[chosen], len(of_pair))
    n_units = np.bincount(of_pair, variance > 0, factor.n_levels).astype(np.int64)
    used = (n_units[of_pair] >= 2) & (variance > 0)
    if not used.any():
        return None
    place = np.cumsum(used) - 1
    kept = np.flatnonzero(used[pair])
    return _Sums(
        of_pair[used],
        np.bincount(pair, residuals.residual[chosen], len(of_pair))[used],
        variance[used],
        np.bincount(factor.codes, residuals.total, factor.n_levels),
        n_units,
        place[pair[kept]],
        chosen[kept],
    )


def _check(sums: _Sums, fit: Fit, factor: Factor, residuals: _Residuals, published: Published | None, rng: np.random.Generator) -> Check:
    units, value, by_level = residuals.units, sums.value, sums.by_level()
    used = np.flatnonzero(np.isfinite(by_level))
    largest = used[np.argmax(by_level[used])]
    seen, of_all = len(np.unique(units.unit)), units.n_units
    looked_at = f"{seen:,}" if seen == of_all else f"{seen:,} of {of_all:,}"
    # levels are named in brackets: where privacy suppresses one, its name is redacted there even if it is a number
    numbers = (
        f"sums over the line items of one {units.column} vary {value:.3g} times as much as those of independent line items would (median "
        f"level {np.median(by_level[used]):.3g}; largest {by_level[largest]:.3g}, in [{factor.levels[largest]}]; from {looked_at} values "
        f"of {units.column})"
    )
    passed = value <= MATERIAL or not _beyond_chance(sums, fit, factor, residuals, rng)
    message = (
        numbers if passed else f"{_consequence(sums, factor, residuals, published)}; {_advice(factor, residuals)}. In detail: {numbers}"
    )
    return Check(f"design_effect[{factor.name}, {units.column}]", value, MATERIAL, passed, message)


def _beyond_chance(sums: _Sums, fit: Fit, factor: Factor, residuals: _Residuals, rng: np.random.Generator) -> bool:
    """Whether the value exceeds every simulation; of many pairs, that of a sample of the units."""
    if not fit.design.cells.has_moments and len(sums.kept) > MOST_SIMULATED:
        number = residuals.units.unit
        share = MOST_SIMULATED / len(sums.kept)
        few = np.arange(max(2, int(share * (int(number.max()) + 1))), dtype=number.dtype)
        smaller = _sums(residuals, factor, few)
        sums = sums if smaller is None else smaller
    observed = sums.value
    return all(simulated < observed for simulated in _simulated(sums, fit, residuals, rng))


def _simulated(sums: _Sums, fit: Fit, residuals: _Residuals, rng: np.random.Generator) -> Iterator[float]:
    """Design effects of unit sums from the fit, one simulation at a time, each level's own mean taken off as a fit would."""
    n_levels = len(sums.total)
    rest = np.sqrt(np.maximum(sums.total - np.bincount(sums.level, sums.variance, n_levels), 0.0))
    expected = float(np.sum(sums.expected))
    design, kept = fit.design, sums.kept
    counts = None
    if not design.cells.has_moments:
        eta = linear_predictor(design, fit.joint.mean)[residuals.cell[kept]]
        scale = np.inf if fit.dispersion is None else fit.dispersion
        family, size = family_named(design.cells.family), residuals.units.size[kept]
        counts = (family, size, eta, scale, family.moments(size, eta, scale)[0])
    for _ in range(SIMULATIONS):
        if counts is None:
            drawn = rng.standard_normal(len(sums.variance)) * np.sqrt(sums.variance)
        else:
            family, size, eta, scale, mean = counts
            drawn = np.bincount(sums.pair, family.draw_sums(size, eta, scale, rng) - mean, len(sums.variance))
        level = np.bincount(sums.level, drawn, n_levels) + rest * rng.standard_normal(n_levels)
        yield float(np.sum((drawn - sums.share * level[sums.level]) ** 2) / expected)


def _consequence(sums: _Sums, factor: Factor, residuals: _Residuals, published: Published | None) -> str:
    """How far off intervals are: cluster-robust over published standard error, of the median level."""
    n_levels, units = factor.n_levels, residuals.units
    squares = np.bincount(sums.level, sums.residual**2, n_levels)
    looked_at = np.bincount(sums.level, sums.variance, n_levels)
    size = np.bincount(factor.codes, residuals.size, n_levels)
    with np.errstate(invalid="ignore", divide="ignore"):
        robust = np.sqrt(sums.n_units / (sums.n_units - 1.0) * squares * sums.total / looked_at) / size
        plain = np.sqrt(sums.total) / size
        error = plain if published is None else published.std_error / published.estimate if residuals.logarithmic else published.std_error
        ratio = robust / error
    known = ratio[np.isfinite(ratio) & (sums.n_units >= 2)]
    alike = f"lines of one {units.column} are alike"
    typical = float(np.median(known)) if len(known) else float("nan")
    if not typical >= MENTIONED:
        return f"{alike}; the published intervals of {factor.name} are about wide enough all the same"
    times = f"{typical:.0f}" if typical >= 2.5 else f"{typical:.1f}"
    return f"{alike}: intervals of {factor.name} are about {times} times too narrow"


def _advice(factor: Factor, residuals: _Residuals) -> str:
    """The term that carries the units: within the factor where each belongs to one of its levels."""
    unit, level = residuals.units.unit.astype(np.int64), factor.codes.astype(np.int64)[residuals.cell]
    pairs = len(np.unique(unit * factor.n_levels + level))
    column = residuals.units.column
    inside = pairs == len(np.unique(unit)) and ":" not in factor.name
    return f"add (1 | {factor.name}/{column})" if inside else f"add (1 | {column})"
