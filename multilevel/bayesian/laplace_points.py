"""Generalised models without a table of draws: weighted points of the variance parameters, at each a normal distribution of all effects.

The points are those of ``importance_points``, of Laplace's approximation with what single levels' integrals add to it. At each the normal
distribution is the nearest one to the exact distribution of coefficients and effects, not the curvature at its mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from multilevel.arrays import Floats
from multilevel.bayesian.bookkeeping import Clock, one_blas_thread
from multilevel.bayesian.collapsed_fit import starting_point
from multilevel.bayesian.conditionals import PointConditionals
from multilevel.bayesian.importance_points import (
    MAX_PARETO_K,
    Tell,
    ThetaPosterior,
    first_proposal,
    near_mode,
    nobody,
    points_about,
    settled,
)
from multilevel.bayesian.independence import importance
from multilevel.bayesian.laplace_collapsed import LaplaceCollapsed
from multilevel.bayesian.laplace_conditionals import laplace_conditionals
from multilevel.bayesian.level_correction import LevelCorrection, corrections, first_points, normals_about, quadratic, worth_correcting
from multilevel.bayesian.level_integrals import MOST_EFFECTS, TAIL, LevelFactor, LevelShapes, largest, level_factors, level_shapes
from multilevel.bayesian.level_points import LevelPoints, choose_points, number_of_points, points_to_begin_reweighted
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.points_fit import (
    OF_POINTS,
    PointsPosterior,
    build_points_fit,
    known_bounds,
    most_for_bounds,
    most_roots,
    parameter_units,
    points_checks,
    points_record,
)
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.bayesian.sampling import Sampling
from multilevel.bayesian.some_levels import laplace_mode
from multilevel.bayesian.unit_free_priors import ModelPriors
from multilevel.bayesian.variational_normal import LevelsNotNormalError, variational_normal
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows, outcome_of, reduce_design
from multilevel.families.outcome import Outcome
from multilevel.fit.container import Check, Fit, fact

ROUNDS = 12
"""Most fits of the correction, each where the one before has put the mode: with very many levels Laplace's is many standard deviations
away."""

NOT_SETTLED = (
    "The search for the mode of the variance parameters does not settle: levels have too few line items for Laplace's approximation. "
    "Write sampling: {form: nuts}."
)

NEAR = 1.5
"""Standard deviations that the mode may be from where the correction was fitted, by the density there and here: inside the points that it
was fitted to."""

FARTHEST = 8.0
"""Standard deviations that a search by the correction may go at once: beyond, nothing is known of it."""

MOST_MISSED = 0.5
"""Of a log density: a quadratic that misses more where it was fitted says nothing of where the mode is."""

NARROWER = 0.5
"""Width of the next points over that of those which the quadratic missed."""

CORRECTED = 40
"""Points at which the correction is calculated again once the posterior is known, at least."""

FRESH = 12
"""Points of the posterior at which the last correction is compared with values that it was not fitted to."""

MOST_TAIL = 0.04
"""Probability beyond one of a level's bounds that should leave 0.025: a skewness of 0.54. Both together then still leave 0.05."""

MOST_SPREAD = 0.1
"""Share by which a level's standard deviation may be off."""

MOST_ERROR_OF_INTEGRALS = 0.2
"""Of a log density: weights of points are then off by so much at random, where 400 counting points are off by their own noise."""


class CorrectedDensity:
    """Laplace's approximation with a correction for the levels of ``factors``."""

    def __init__(self, density: LaplaceCollapsed, factors: tuple[LevelFactor, ...], correction: LevelCorrection) -> None:
        self.density, self.factors, self.correction = density, factors, correction

    def many(self, thetas: Floats, threads: int) -> Floats:
        """(S,)."""
        return self.density.many(thetas, threads) + self.correction(thetas)

    def value_and_gradient(self, theta: Floats) -> tuple[float, Floats]:
        """Value and slope (d,)."""
        value, slope = self.density.value_and_gradient(theta)
        return value + float(self.correction(theta[None])[0]), slope + self.correction.slope(theta)


def corrected_mode(
    density: LaplaceCollapsed, factors: tuple[LevelFactor, ...], mode: Floats, covariance: Floats, threads: int
) -> tuple[CorrectedDensity, Floats, Floats]:
    """The corrected density with its mode (d,) and the curvature's covariance (d, d), from those of Laplace's approximation."""
    for _ in range(ROUNDS):
        density.follow(mode, covariance)
        worth = worth_correcting(density, factors, mode)
        thetas, weights = first_points(first_proposal(lambda points: density.many(points, threads), mode, covariance))
        values = corrections(density, worth, thetas, threads)
        found = CorrectedDensity(density, worth, quadratic(density.layout, mode, thetas, values, weights))
        if found.correction.error > MOST_MISSED:
            # Laplace's mode at a standard deviation of about zero, where the density has hardly any curvature: the points are too wide
            best = int(np.nanargmax(density.many(thetas, threads) + values))
            mode, covariance = thetas[best], covariance * NARROWER**2
            continue
        before, spread = mode, covariance
        mode, covariance = near_mode(found.value_and_gradient, mode, covariance, FARTHEST)
        if _distance(mode - before, spread) < NEAR:
            mode, covariance = settled(found.value_and_gradient, mode)
            if _distance(mode - before, covariance) < NEAR:
                return found, mode, covariance
    raise LevelsNotNormalError(NOT_SETTLED)


def _distance(move: Floats, covariance: Floats) -> float:
    """Length of ``move`` (d,) in standard deviations."""
    return float(np.linalg.norm(np.linalg.solve(np.linalg.cholesky(covariance), move)))


def shapes_at(density: LaplaceCollapsed, factors: tuple[LevelFactor, ...], theta: Floats) -> list[LevelShapes]:
    """How far single levels are from normal at theta (d,), everything else at its mean."""
    found, log_dispersion = variational_normal(density, theta, density.mode(theta)), density.log_dispersion(theta)
    # the rows' expected information has the spread of everything else in it, which is held here
    weights = density.likelihood.curvature(found.eta, log_dispersion).weight
    normals = (normals_about(density, factor, theta, found.effects, weights, found.eta) for factor in factors)
    return [level_shapes(each, density.likelihood, log_dispersion) for each in normals]


@one_blas_thread()
def fit_laplace_points(
    design: Design, priors: ModelPriors, sampling: Sampling, *, seed: int, interval: float, progress: Tell | None = None
) -> Fit:
    """Fit a generalised model; see ``bayesian_engine.fit_bayesian``. Raises LevelsNotNormalError where levels have too few line items."""
    tell = progress or nobody
    rows = reduce_design(priors.form.design)
    found = sample_laplace_points(rows, outcome_of(design.cells, rows, design.cells.family), priors.inner, sampling, seed, tell, interval)
    return build_points_fit(found, design, priors, sampling, interval, tell)


@one_blas_thread()
def sample_laplace_points(
    rows: ReducedRows,
    outcome: Outcome,
    priors: ResolvedPriors,
    sampling: Sampling,
    seed: int,
    tell: Tell = nobody,
    interval: float = 0.95,
) -> PointsPosterior:
    """Points of the posterior of reduced rows, and the few that stand for them where levels are concerned.

    Raises
    ------
    LevelsNotNormalError
        Levels have too few line items, or too many effects, for any normal distribution. Under ``form: auto`` also where they fail the
        gates on their shapes: no point is made then.
    """
    clock, threads = Clock(), sampling.threads
    layout = Layout(tuple(block.values.shape[1] for block in rows.blocks), priors.dispersion is not None)
    factors, rng = level_factors(rows), np.random.default_rng(seed)
    for factor in factors:
        if factor.values.shape[1] > MOST_EFFECTS:
            raise LevelsNotNormalError(
                f"Levels of {factor.name} have {factor.values.shape[1]} effects each; {MOST_EFFECTS} at most can be integrated."
            )
    density = LaplaceCollapsed(rows, outcome, layout, priors)
    clock.lap("cross_products")
    tell("mode of the variance parameters", 0.0)
    of_laplace = laplace_mode(density, rows, outcome, largest(factors), starting_point(layout, priors), parameter_units(layout, rows))
    try:
        corrected, mode, covariance = corrected_mode(density, factors, *of_laplace, threads)
    except np.linalg.LinAlgError as error:
        raise LevelsNotNormalError(NOT_SETTLED) from error
    clock.lap("mode")
    shapes = shapes_at(density, factors, mode)
    of_levels = level_checks(shapes, largest(factors))
    if sampling.form == "auto" and not all(check.passed for check in of_levels if check.gate):
        raise LevelsNotNormalError("; ".join(check.message for check in of_levels if check.gate and not check.passed))
    clock.lap("shapes_of_levels")

    def points_of(own: CorrectedDensity, mode: Floats, covariance: Floats, begun: float) -> ThetaPosterior:
        return points_about(
            lambda thetas: own.many(thetas, threads), mode, covariance, rng, lambda doing, share: tell(doing, OF_POINTS * max(share, begun))
        )

    theta = points_of(corrected, mode, covariance, 0.0)
    clock.lap("points")
    tell("integrals of single levels", OF_POINTS)
    were_enough = theta.are_enough
    theta, correction = recorrected(theta, corrected, threads, rng)
    if were_enough and not theta.are_enough:
        # the correction that the points were made with was too far off
        corrected = CorrectedDensity(density, corrected.factors, correction)
        mode, covariance = settled(corrected.value_and_gradient, near_mode(corrected.value_and_gradient, mode, covariance, FARTHEST)[0])
        density.follow(mode, covariance)
        theta, correction = recorrected(points_of(corrected, mode, covariance, 1.0), corrected, threads, rng)
    final = CorrectedDensity(density, corrected.factors, correction)
    template = density.coordinates.template
    size = template.n_population + template.n_effects
    most = most_for_bounds(template)
    theta, population = known_bounds(theta, lambda thetas: final.many(thetas, threads), layout, most, interval, rng, tell)
    missed = max(correction.error, missed_at_fresh_points(theta, final, threads, rng))
    clock.lap("level_integrals")
    tell("nearest normal distributions", OF_POINTS)

    def chosen(points: int) -> tuple[LevelPoints, PointConditionals]:
        levels = choose_points(theta, population, points, rng)
        return levels, laplace_conditionals(density, largest(factors), theta.thetas[levels.places], threads)

    many = number_of_points(layout.size)
    first = max(points_to_begin_reweighted(layout.size, size), most_roots(size))
    levels, conditionals = chosen(first)
    clock.lap("conditionals")
    record = points_record(theta, population, levels, seed) | {
        "correction_sd": _weighted_sd(correction(theta.thetas), theta.weights),
        "seconds": clock.seconds,
    }
    checks = (*points_checks(theta), *of_levels, correction_check(missed))
    more = (lambda: chosen(many)) if first < many else None
    return PointsPosterior(layout, theta, population, levels, conditionals, checks, record, more)


def level_checks(shapes: Sequence[LevelShapes], leaves: LevelFactor) -> tuple[Check, Check, Check]:
    """Of the levels of all factors at the mode of theta: how far their exact distributions are from normal, everything else held."""
    tails, tailed = _worst(shapes, [own.tails for own in shapes])
    others = [own for own in shapes if own.factor is not leaves] or [replace(shapes[0], spreads=np.ones(1))]
    spread, spread_of = _worst(others, [np.abs(own.spreads - 1.0) for own in others])
    k, k_of = _worst(shapes, [own.pareto_k for own in shapes])
    beyond, levels = sum(int(np.sum(own.pareto_k > MAX_PARETO_K)) for own in shapes), sum(len(own.pareto_k) for own in shapes)
    return (
        Check(
            "level_tails",
            tails,
            MOST_TAIL,
            tails <= MOST_TAIL,
            f"With everything else fixed, the probability beyond a bound of the most skewed level of {tailed}; it should be {TAIL}.",
            True,
        ),
        Check(
            "level_spreads",
            spread,
            MOST_SPREAD,
            spread <= MOST_SPREAD,
            f"With everything else fixed, the largest relative error of a level's standard deviation, of {spread_of}; "
            f"those of {leaves.name} are exact.",
            True,
        ),
        fact(
            "level_pareto_k",
            float(np.clip(k, -1e6, 1e6)),
            f"Largest Pareto k of a level's exact distribution over its normal one, of {k_of}; {beyond:,} of {levels:,} levels are beyond "
            f"{MAX_PARETO_K}.",
        ),
    )


def _weighted_sd(values: Floats, weights: Floats) -> float:
    return float(np.sqrt(weights @ (values - weights @ values) ** 2))


def _worst(shapes: Sequence[LevelShapes], values: Sequence[Floats]) -> tuple[float, str]:
    """The largest of all values and the factor that has it."""
    largest_of = [float(own.max()) for own in values]
    at = int(np.argmax(largest_of))
    return largest_of[at], shapes[at].factor.name


def correction_check(missed: float) -> Check:
    """How well the quadratic knows what levels' integrals add."""
    message = (
        "Root mean square error, in the log posterior density of the variance parameters, of the quadratic that corrects for single "
        "levels: where it was fitted or at other points of the posterior, whichever is larger."
    )
    return Check("level_integrals", missed, MOST_ERROR_OF_INTEGRALS, missed <= MOST_ERROR_OF_INTEGRALS, message, True)


def missed_at_fresh_points(theta: ThetaPosterior, corrected: CorrectedDensity, threads: int, rng: np.random.Generator) -> float:
    """Root mean square of what the correction misses at ``FRESH`` points drawn by their weights, but for a constant."""
    ends = np.cumsum(theta.weights)
    places = np.unique(np.searchsorted(ends, (rng.uniform() + np.arange(FRESH)) / FRESH * ends[-1]))
    chosen = theta.thetas[np.minimum(places, len(ends) - 1)]
    missed = corrections(corrected.density, corrected.factors, chosen, threads) - corrected.correction(chosen)
    missed = missed[np.isfinite(missed)]
    return float(missed.std()) if len(missed) > 1 else math.inf


def recorrected(
    theta: ThetaPosterior, corrected: CorrectedDensity, threads: int, rng: np.random.Generator
) -> tuple[ThetaPosterior, LevelCorrection]:
    """The points with a correction that is fitted where they are."""
    before, density = corrected.correction, corrected.density
    size = max(CORRECTED, 3 * theta.thetas.shape[1])
    shares = np.cumsum(np.sqrt(theta.weights))
    places = np.unique(np.searchsorted(shares, (rng.uniform() + np.arange(size)) / size * shares[-1]))
    chosen = theta.thetas[places]
    found = quadratic(density.layout, before.centre, chosen, corrections(density, corrected.factors, chosen, threads), np.ones(len(chosen)))
    values = theta.log_densities - before(theta.thetas) + found(theta.thetas)
    weights, k, ess = importance(values - theta.log_mixture(theta.thetas))
    return replace(theta, log_densities=values, weights=weights, pareto_k=k, ess=ess), found
