"""The collapsed form without a table of draws: weighted points of the variance parameters, everything else a mixture over them.

What is held is of the size of the levels, whatever the number of draws would have been. Where importance sampling fails its gates, points
are the states of Markov chains in the variance parameters instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from multilevel.arrays import Floats
from multilevel.bayesian.bookkeeping import Clock, one_blas_thread
from multilevel.bayesian.collapsed import Collapsed
from multilevel.bayesian.collapsed_fit import importance_checks, importance_gates, starting_point
from multilevel.bayesian.collapsed_gradient import value_and_gradient
from multilevel.bayesian.conditionals import Conditionals, LevelMoments, PointConditionals, level_moments
from multilevel.bayesian.convergence import convergence, convergence_checks
from multilevel.bayesian.importance_points import Density, Tell, ThetaPosterior, further_points, importance_points, nobody
from multilevel.bayesian.independence import laplace_proposal, sample_independently
from multilevel.bayesian.level_points import LevelPoints, bound_errors, choose_points, number_of_points, points_to_begin_with
from multilevel.bayesian.mixture_joint import MixtureJoint
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.bayesian.refined_points import WeightedPoints, refined
from multilevel.bayesian.results import component_draws, parameter_names, posterior_components
from multilevel.bayesian.sampling import Sampling
from multilevel.bayesian.unit_free_priors import ModelPriors
from multilevel.bayesian.weighted_summaries import WeightedSummary, summarise_weighted
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows, reduce_design
from multilevel.families.registry import family_named
from multilevel.fit.container import Check, Fit, UnitFreeFit
from multilevel.fit.theta_points import ThetaPoints
from multilevel.fit.theta_spread import ThetaMixture
from multilevel.fit.variance_surface import VarianceSurface, variance_surface
from multilevel.linear.assemble import linear_system
from multilevel.linear.factorise import BlockedSystem

MOST_ERROR = 0.05
"""Monte Carlo standard error of a mean, over the posterior standard deviation, above which it is called uncertain: that of 400 draws."""

DENSE_EFFECTS = 250
"""Coefficients and effects up to which every point's covariance is kept as a root."""

ROOT_VALUES, MOST_ROOTS = 4_000_000, 500
"""Doubles of all roots together: 32 MB, and few enough to be kept with the tables; and how many roots at most."""


MOST_FOR_BOUNDS, VALUES_FOR_BOUNDS, DENSE_FOR_BOUNDS = 8_000, 40_000_000, 800_000_000
"""Points, points times coefficients and effects, and points times the square of the columns that stay dense, up to which more are made for
the bounds of variance components, where so many are expected to do at first."""

SPARE = 2.0
"""Points over those that the first estimate of the error asks for."""

MANY_COEFFICIENTS = 50_000
"""Coefficients and effects above which their conditional variances are made at some of the points and read off at the others."""

OF_POINTS = 0.8
"""Rough fraction of the work that is complete when the points are made."""


@dataclass(frozen=True)
class PointsPosterior:
    """What ``sample_points`` leaves, in unit-free coordinates: the points of theta; the same with less noise; those that stand for them
    where levels are concerned, with the conditional distributions there; checks and record of how the points came about. ``more`` gives
    more of both, where there were few to begin with."""

    layout: Layout
    theta: ThetaPosterior
    population: WeightedPoints
    levels: LevelPoints
    conditionals: PointConditionals
    checks: tuple[Check, ...]
    record: dict[str, object]
    more: Callable[[], tuple[LevelPoints, PointConditionals]] | None = None

    def with_more(self) -> PointsPosterior:
        """The same with more points for the levels."""
        assert self.more is not None
        levels, conditionals = self.more()
        return replace(self, levels=levels, conditionals=conditionals, record=self.record | {"level_points": len(levels.places)}, more=None)


@dataclass(frozen=True)
class LevelErrors:
    """(p + q,) of every coefficient and effect: posterior ``sds``, and over them the Monte Carlo errors of means and of bounds."""

    sds: Floats
    of_means: Floats
    of_bounds: Floats

    def are_within(self, most_of_bounds: float) -> bool:
        """Whether no error is above what is asked."""
        known = self.sds > 0
        return bool(self.of_means[known].max(initial=0.0) <= MOST_ERROR and self.of_bounds[known].max(initial=0.0) <= most_of_bounds)


@one_blas_thread()
def fit_points(
    design: Design,
    priors: ModelPriors,
    sampling: Sampling,
    *,
    seed: int,
    interval: float,
    progress: Tell | None = None,
) -> Fit:
    """Fit a gaussian model; see ``bayesian_engine.fit_bayesian``."""
    tell = progress or nobody
    found = sample_points(reduce_design(priors.form.design), priors.inner, sampling, seed, tell, interval)
    fit = build_points_fit(found, design, priors, sampling, interval, tell)
    system = _system(found.conditionals)
    if system is not None:
        system.let_go()
    return fit


def build_points_fit(
    found: PointsPosterior, design: Design, priors: ModelPriors, sampling: Sampling, interval: float, tell: Tell = nobody
) -> Fit:
    """Summaries, Monte Carlo errors and checks of a posterior kept as points."""
    maps = priors.form.maps
    written = None if maps.is_identity else maps.blocks
    n_coefficients = len(design.population) + design.n_effects
    clock = Clock()

    def told(doing: str, share: float) -> None:
        tell(doing, OF_POINTS + (1.0 - OF_POINTS) * share)

    def of_levels(found: PointsPosterior) -> tuple[LevelMoments, LevelErrors]:
        levels, identity = found.levels, maps.is_identity
        moments = level_moments(
            found.conditionals,
            levels.weights,
            maps.blocks,
            is_identity=identity,
            threads=sampling.threads,
            tell=told,
            surface=_surface(found) if n_coefficients > MANY_COEFFICIENTS else None,
        )
        return moments, LevelErrors(*bound_errors(levels, moments.means, moments.sds, interval))

    tell("levels", OF_POINTS)
    moments, level_errors = of_levels(found)
    if found.more is not None and not level_errors.are_within(most_error_of_bounds(interval)):
        found = found.with_more()
        moments, level_errors = of_levels(found)
    spread = _spread(found, moments, sampling.threads)
    clock.lap("levels")
    layout, thetas, weights = found.layout, found.population.thetas, found.population.weights
    family = design.cells.family
    components = summarise_weighted(component_draws(thetas, layout, written), weights, found.population.errors, interval)
    # of weights above zero, so that they are covariances
    inner = tuple(np.einsum("k,kij->ij", found.levels.weights, own) for own in spread.covariances)
    joint = MixtureJoint(spread if maps.is_identity else spread.mapped(maps.matrix))
    names = parameter_names(priors.form.design, family, with_scale=layout.with_scale)
    clock.lap("summaries")
    errors = error_checks(level_errors, components, names, interval)
    clock.lap("monte_carlo_errors")
    scale = float(weights @ layout.scale(thetas)) if layout.with_scale else 1.0
    has_sigma = family_named(family).has_sigma
    return Fit(
        design=design,
        family=family,
        engine="bayesian",
        method="importance" if found.theta.chains is None else "theta_chains",
        interval=interval,
        joint=joint,
        components=tuple(posterior_components(design, family, layout, components.summary)),
        covariances=maps.covariances(inner),
        conditional_variance=moments.conditional,
        shrinkage=moments.shrinkage,
        sigma=scale if has_sigma else None,
        dispersion=None if has_sigma or not layout.with_scale else scale,
        n_parameters=len(design.population) + layout.size,
        checks=(*found.checks, *errors),
        record={**found.record, "seconds": {**_seconds(found.record), **clock.seconds}},
        unit_free=UnitFreeFit(priors.form, inner, shrinkage=moments.plain_shrinkage, system=_system(found.conditionals)),
        theta=joint.spread,
    )


@one_blas_thread()
def sample_points(
    rows: ReducedRows, priors: ResolvedPriors, sampling: Sampling, seed: int, tell: Tell = nobody, interval: float = 0.95
) -> PointsPosterior:
    """Points of the posterior of reduced gaussian rows, and the few that stand for them; ``tell`` : see ``fit_bayesian``."""
    clock = Clock()
    layout = Layout(tuple(block.values.shape[1] for block in rows.blocks), priors.sigma is not None)
    system = linear_system(rows)
    density = Collapsed(system, layout, priors)
    rng = np.random.default_rng(seed)
    clock.lap("cross_products")
    theta = importance_points(
        lambda thetas: density.many(thetas, sampling.threads),
        lambda at: value_and_gradient(density, at),
        starting_point(layout, priors),
        parameter_units(layout, rows),
        rng,
        lambda doing, share: tell(doing, OF_POINTS * share),
    )
    checks: tuple[Check, ...] = points_checks(theta)
    failed = None if theta.are_enough else {"pareto_k": theta.pareto_k, "importance_ess": theta.ess}
    if failed is not None:
        tell("points failed their gates: chains of the variance parameters", OF_POINTS)
        theta, checks = chains_in_theta(density, sampling, rng)
    size, most = system.n_population + system.n_effects, most_for_bounds(system)
    theta, population = known_bounds(theta, lambda thetas: density.many(thetas, sampling.threads), layout, most, interval, rng, tell)
    clock.lap("points")

    def chosen(points: int) -> tuple[LevelPoints, PointConditionals]:
        levels = choose_points(theta, population, points, rng)
        return levels, Conditionals(density, theta.thetas[levels.places])

    first, many = max(points_to_begin_with(layout.size, size), most_roots(size)), number_of_points(layout.size)
    levels, conditionals = chosen(first)
    record = points_record(theta, population, levels, seed) | {"seconds": clock.seconds}
    if failed is not None:
        record["importance_points_failed"] = failed
    more = (lambda: chosen(many)) if first < many else None
    return PointsPosterior(layout, theta, population, levels, conditionals, checks, record, more)


def known_bounds(
    theta: ThetaPosterior, density: Density, layout: Layout, most: int, interval: float, rng: np.random.Generator, tell: Tell
) -> tuple[ThetaPosterior, WeightedPoints]:
    """Add points while a bound of a variance component has too large a Monte Carlo error, if no more than ``most`` are expected to do.

    Returns all points, and the same with less noise.

    An interval of the standard deviation of five levels ends far in a long tail, where few of the points that know its mean are.
    """
    population = refined(theta, rng)
    missed = 0.0 if theta.chains is not None else _missed(population, layout, interval)
    # errors fall with the root of the number; rounds that ended at a small estimate of the error would make it look too small
    if missed <= 1.0 or len(theta.thetas) * missed**2 > most:
        return theta, population
    wanted = min(most, SPARE * len(theta.thetas) * missed**2)
    while len(theta.thetas) < wanted:
        tell(f"{len(theta.thetas):,} points, more for bounds", OF_POINTS)
        theta = further_points(theta, density, rng)
        population = refined(theta, rng)
    return theta, population


def most_for_bounds(system: BlockedSystem) -> int:
    """The most points that may be made for the bounds of a model with these cross-products."""
    size, dense = system.n_population + system.n_effects, system.rest_starts[-1] + system.n_population
    return min(MOST_FOR_BOUNDS, VALUES_FOR_BOUNDS // max(size, 1), DENSE_FOR_BOUNDS // max(dense, 1) ** 2)


def _missed(population: WeightedPoints, layout: Layout, interval: float) -> float:
    """The largest Monte Carlo error of a variance component's bound, over what it should be at most."""
    found = summarise_weighted(component_draws(population.thetas, layout), population.weights, population.errors, interval)
    spread = found.summary.std_error
    return float(np.max(found.bound_error[spread > 0] / spread[spread > 0], initial=0.0)) / most_error_of_bounds(interval)


def points_record(theta: ThetaPosterior, population: WeightedPoints, levels: LevelPoints, seed: int) -> dict[str, object]:
    """How the points came about, for the report."""
    return {
        "form": "importance",
        "seed": seed,
        "mode": theta.mode.tolist(),
        "points": len(theta.thetas),
        "rounds": theta.rounds,
        "level_points": len(levels.places),
        "pareto_k": theta.pareto_k,
        "importance_ess": theta.ess,
        "refined_ess": population.ess,
    }


def most_roots(width: int) -> int:
    """Points of which roots of the covariance of ``width`` coefficients and effects are kept, 0 where they are too large."""
    return min(ROOT_VALUES // width**2, MOST_ROOTS) if width <= DENSE_EFFECTS else 0


def parameter_units(layout: Layout, rows: ReducedRows) -> Floats:
    """(d,) standard deviations of the variance parameters if every effect and residual had been observed."""
    units: list[float] = []
    for k, block in zip(layout.widths, rows.blocks, strict=True):
        units += [(2.0 * block.n_levels) ** -0.5] * k + [block.n_levels**-0.5] * (k * (k - 1) // 2)
    return np.array([*units, (2.0 * rows.n_rows) ** -0.5] if layout.with_scale else units)


def chains_in_theta(density: Collapsed, sampling: Sampling, rng: np.random.Generator) -> tuple[ThetaPosterior, tuple[Check, ...]]:
    """Markov chains in the variance parameters alone, where importance points fail their gates: as in the collapsed form, but of a state
    nothing is drawn. Every state weighs the same; they count for as many as the smallest bulk ESS says."""
    layout = density.layout
    mode, proposal = laplace_proposal(density, starting_point(layout, density.priors))
    drawn = sample_independently(
        lambda thetas: density.many(thetas, sampling.threads), proposal, chains=sampling.chains, draws=sampling.draws, rng=rng
    )
    thetas = drawn.thetas.reshape(-1, layout.size)
    components = component_draws(thetas, layout).reshape(*drawn.thetas.shape[:2], -1)
    figures = convergence(components)
    n = len(thetas)
    found = ThetaPosterior(
        thetas,
        np.full(n, 1.0 / n),
        drawn.pareto_k,
        np.inf,
        float(figures.ess_bulk.min()),
        drawn.rounds,
        mode,
        np.zeros(n),
        chains=drawn.thetas.shape[:2],
    )
    names = [f"variance parameter {at + 1}" for at in range(components.shape[2])]
    gates = convergence_checks(names, figures)
    return found, (*gates, *(replace(check, gate=False) for check in importance_checks(drawn)))


def points_checks(theta: ThetaPosterior) -> tuple[Check, Check]:
    """The gates on the points."""
    told = f"Of {len(theta.thetas):,} points of the variance parameters, so many count."
    return importance_gates(theta.pareto_k, theta.largest_k, theta.ess, told)


def most_error_of_bounds(interval: float) -> float:
    """Of a normal distribution's quantile, from as many draws as know its mean to ``MOST_ERROR``."""
    z, tail = float(ndtri(0.5 + interval / 2.0)), (1.0 - interval) / 2.0
    return MOST_ERROR * math.sqrt(tail * (1.0 - tail)) / (math.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi))


def error_checks(levels: LevelErrors, components: WeightedSummary, names: Sequence[str], interval: float) -> tuple[Check, Check]:
    """Monte Carlo standard errors of posterior means and of the intervals' bounds, over the posterior sd, the largest of all parameters."""
    spread = components.summary.std_error
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.concatenate([components.mean_error / spread, levels.of_means])
        bounds = np.concatenate([components.bound_error / spread, levels.of_bounds])
    means, bounds = (np.where(np.append(spread, levels.sds) > 0, own, 0.0) for own in (means, bounds))
    over = f"of {len(names):,} parameters, in their posterior standard deviations"
    most_of_bounds = most_error_of_bounds(interval)
    found = []
    for name, what, values, most in (
        ("monte_carlo_error", "estimate", means, MOST_ERROR),
        ("monte_carlo_error_of_bounds", "interval's bounds", bounds, most_of_bounds),
    ):
        worst = int(np.argmax(values))
        value = float(values[worst])
        message = f"The largest Monte Carlo standard error {over}: {names[worst]}'s {what}; half are below {np.median(values):.2g}."
        found.append(Check(name, value, most, value <= most, message))
    return found[0], found[1]


def _surface(found: PointsPosterior) -> VarianceSurface | None:
    layout, thetas = found.layout, found.conditionals.thetas
    covariances = [_covariances(layout, thetas, block) for block in range(len(layout.widths))]
    return variance_surface(covariances, layout.scale(thetas), found.levels.weights)


def _spread(found: PointsPosterior, moments: LevelMoments, threads: int) -> ThetaPoints | ThetaMixture:
    layout, thetas = found.layout, found.conditionals.thetas
    covariances = tuple(_covariances(layout, thetas, block) for block in range(len(layout.widths)))
    scales, weights = layout.scale(thetas), found.levels.weights
    if moments.means.shape[1] > DENSE_EFFECTS:
        return ThetaPoints(moments.means, found.conditionals, covariances, weights, moments.variance, scales, threads=threads)
    roots = np.stack([found.conditionals(point).covariance_root().T for point in range(len(weights))], axis=1)
    return ThetaMixture(moments.means, roots, covariances, weights, method="posterior", scales=scales)


def _covariances(layout: Layout, thetas: Floats, block: int) -> Floats:
    factor = layout.factor(thetas, block)
    return np.asarray(np.einsum("sij,skj->sik", factor, factor))


def _system(conditionals: PointConditionals) -> BlockedSystem | None:
    system = conditionals.density.system if isinstance(conditionals, Conditionals) else None
    return system if isinstance(system, BlockedSystem) else None


def _seconds(record: dict[str, object]) -> dict[str, float]:
    seconds = record["seconds"]
    assert isinstance(seconds, dict)
    return seconds
