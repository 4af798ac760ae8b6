"""Published errors of line_spend, its last term left out, against those made in shops simulated from its fit. Writes docs/calibration.md.

Every shop has the cells of the real one. Its group effects are drawn from the fitted covariances, its outcomes about them; it is fitted
again, variance parameters included. Cells' means are summed from columns of the cells with NumPy, not by the model's design. The error of
an estimate is its distance from the expected outcome at the effects that were drawn.

Run: ``python -m benchmarks household_shops [shops]``; ``groupwise load-shop`` comes before. Takes some seconds a shop.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np

from benchmarks._calibration_page import PAGE, markdown
from benchmarks._reliability_page import provenance, provenance_line, replace_block
from benchmarks.household_errors import FACTOR, PRICE_LEVELS, UNIT, KnownEffects, study_statistics
from multilevel.arrays import Floats, Integers
from multilevel.cells.statistics import CellStatistics
from multilevel.design.model import Design, Factor
from multilevel.design.nesting import nesting
from multilevel.estimands.fitted_part import FittedPart, expected_outcome
from multilevel.estimands.level_variance import LevelVariance, level_variance
from multilevel.estimands.log_means import with_variance_error
from multilevel.estimands.standardise import standardise
from multilevel.fit.container import Fit, Summary
from multilevel.fit.residuals import expected_residual_ss
from multilevel.intervals.theta_uncertainty import with_theta
from multilevel.linear.linear_engine import fit_linear
from multilevel.study.designs import study_parts
from multilevel.tables.population_rows import population_of_levels

SHOPS, SEED, FEW, WRITTEN_EVERY = 400, 20_261_130, 30, 50


def main(shops: int = SHOPS) -> None:
    """Fit once, simulate and fit every shop, write the table."""
    formula, cells = study_statistics(without=PRICE_LEVELS)
    design = study_parts(formula, cells)[0].design
    fit = fit_linear(design)
    errors: dict[str, list[Floats]] = {}
    published: dict[str, list[Floats]] = {}
    # the page that is written changes the folder
    began, measured_at = time.monotonic(), provenance()
    for shop in range(shops):
        rng = np.random.default_rng([SEED, shop])
        coefficients = _drawn(fit, rng)
        own = replace(design, cells=_simulated(design, coefficients, fit, rng))
        truth = _truth(fit, coefficients)
        for key, summary in _estimates(with_theta(fit_linear(own, near=fit))).items():
            errors.setdefault(key, []).append(summary.estimate - truth[key].estimate)
            published.setdefault(key, []).append(summary.std_error)
        print(f"{shop + 1} of {shops}, {time.monotonic() - began:,.0f} s", file=sys.stderr, flush=True)
        if (shop + 1) % WRITTEN_EVERY == 0 or shop + 1 == shops:
            block = _table({key: (np.array(errors[key]), np.array(published[key])) for key in errors}, fit, shop + 1, measured_at)
            PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), "household-shops", block), encoding="utf-8")
    print(block)


def _drawn(fit: Fit, rng: np.random.Generator) -> Floats:
    """(p + q,) the fitted population coefficients, and group effects from the fitted covariances."""
    design, p = fit.design, len(fit.design.population)
    drawn = np.array(fit.joint.mean)
    for start, block, covariance in zip(design.starts, design.blocks, fit.covariances, strict=True):
        effects = rng.multivariate_normal(np.zeros(len(covariance)), covariance, size=block.factor.n_levels)
        drawn[p + start : p + start + block.n_effects] = effects.reshape(-1)
    return drawn


def _simulated(design: Design, coefficients: Floats, fit: Fit, rng: np.random.Generator) -> CellStatistics:
    """Statistics of normal rows about the cells' means."""
    cells, sigma = design.cells, fit.sigma
    assert sigma is not None
    assert cells.mean.shape[1] == 1  # no predictor varies within a cell
    mean = _means(design, coefficients) + sigma * rng.standard_normal(cells.n_cells) / np.sqrt(cells.n)
    several = cells.n > 1
    within = np.zeros(cells.n_cells)
    within[several] = sigma**2 * rng.chisquare(cells.n[several] - 1)
    return replace(cells, mean=mean[:, None], cross=within[:, None, None])


def _means(design: Design, coefficients: Floats) -> Floats:
    """(C,) what the formula adds up to in each cell, from its labels and numbers."""
    cells, p = design.cells, len(design.population)
    flags = {f"{name}[{value}]": own.codes == place for name, own in cells.labels.items() for place, value in enumerate(own.values)}
    columns = {"Intercept": np.ones(cells.n_cells), **cells.numbers, **flags}
    found = np.zeros(cells.n_cells)
    for column, slope in zip(design.population, coefficients[:p], strict=True):
        found += slope * columns[column.label]
    for start, block in zip(design.starts, design.blocks, strict=True):
        place = _places(cells, block.factor)
        effects = coefficients[p + start :][: block.n_effects].reshape(block.factor.n_levels, -1)
        for at, own in enumerate(block.columns):
            found += effects[place, at] * columns[own.label]
    return found


def _places(cells: CellStatistics, factor: Factor) -> Integers:
    """(C,) the level of each cell among the factor's, by the texts of its columns."""
    groups = [cells.groups[name] for name in factor.columns]
    texts = [np.array(list(map(str, group.values)), dtype=object)[group.codes] for group in groups]
    names = [*([] if factor.parents is None else [factor.parents]), factor.levels]
    known = {key: place for place, key in enumerate(zip(*(map(str, own) for own in names), strict=True))}
    return np.array([known[key] for key in zip(*texts, strict=True)])


def _truth(fit: Fit, coefficients: Floats) -> dict[str, Summary]:
    """What the tables would hold if coefficients and variances were known."""
    assert fit.sigma is not None
    factors = nesting(fit.design).factors
    zeros = {name: np.zeros(factor.n_levels) for name, factor in factors.items()}
    variance = LevelVariance(float(np.log(fit.sigma**2)), zeros, zeros, dict.fromkeys(factors, 0.0))
    return _averages(replace(fit, joint=KnownEffects(coefficients), theta=None), variance)


def _estimates(fit: Fit) -> dict[str, Summary]:
    variance = level_variance(fit.design.cells.n, expected_residual_ss(fit.design, fit.joint), dict(nesting(fit.design).factors))
    return _averages(fit, variance)


def _averages(fit: Fit, variance: LevelVariance) -> dict[str, Summary]:
    """``estimate`` of every factor's levels and ``population_estimate`` of the income groups', with their standard errors."""
    tree = nesting(fit.design)
    outcome = expected_outcome([FittedPart(None, fit, fit.design, variance)])
    found = {}
    for name in [name for name in tree.factors if name != _members(fit)]:
        standard = standardise(outcome, tree, name, variance)
        found[f"{name}, estimate"] = with_variance_error(standard.respond(), standard, variance, tree, name)
    population = population_of_levels(outcome, tree, FACTOR, variance, (UNIT,), None)
    assert population is not None
    found[f"{FACTOR}, population_estimate"] = population.summary
    return found


def _table(measured: dict[str, tuple[Floats, Floats]], fit: Fit, shops: int, measured_at: dict[str, str]) -> str:
    """A row a kind of estimate: the ratio of root mean square error to mean published error, over its levels; income groups by size.

    Under ``log(y)`` errors are in proportion to the outcome, and a category's effect is drawn anew in every shop: its errors are mostly
    those of the shops where it is dear. Errors over the published error of their own shop have no such weights.
    """
    tree = nesting(fit.design)
    households = np.bincount(tree.ancestors[_members(fit)][FACTOR])
    rows = []
    for key, (error, published) in measured.items():
        name = key.split(",")[0]
        choices = {"": np.ones(error.shape[1], dtype=bool)}
        if name == FACTOR:
            choices = {f", {FEW} households or more": households >= FEW, f", fewer than {FEW}": households < FEW}
        for words, chosen in choices.items():
            ratio = np.sqrt(np.mean(error[:, chosen] ** 2, axis=0)) / np.mean(published[:, chosen], axis=0)
            overall = np.sqrt(np.mean((error[:, chosen] / np.mean(published[:, chosen], axis=0)) ** 2))
            own = np.sqrt(np.mean((error[:, chosen] / published[:, chosen]) ** 2))
            rows.append((key + words, f"{np.sum(chosen)}", f"{overall:.3f}", f"{ratio.min():.2f} to {ratio.max():.2f}", f"{own:.3f}"))
    columns = (
        "estimate",
        "levels",
        "root mean square error / mean std_error",
        "lowest to highest level",
        "root mean square of error / its own std_error",
    )
    return f"{markdown(columns, rows)}\n{shops} shops. {provenance_line([measured_at])}"


def _members(fit: Fit) -> str:
    return next(name for name, factor in nesting(fit.design).factors.items() if factor.columns[-1] == UNIT)
