"""How long a fit will take and how much memory: one evaluation is timed here and now, and multiplied by how many are usual."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from multilevel.bayesian.bookkeeping import one_blas_thread
from multilevel.bayesian.collapsed import Collapsed
from multilevel.bayesian.collapsed_fit import starting_point
from multilevel.bayesian.conditionals import KEPT_BYTES, KEPT_WHOLE, factor_bytes
from multilevel.bayesian.coordinates import build_coordinates
from multilevel.bayesian.durations import USUAL_STEPS, duration, nuts_seconds, seconds_of, speed
from multilevel.bayesian.laplace_collapsed import LaplaceCollapsed
from multilevel.bayesian.laplace_conditionals import kept_bytes, reweighted_bytes
from multilevel.bayesian.laplace_points import CORRECTED
from multilevel.bayesian.level_points import points_to_begin_reweighted, points_to_begin_with
from multilevel.bayesian.memory import draws_bytes, draws_seconds, is_by_points
from multilevel.bayesian.nuts_fit import FEW_COEFFICIENTS, MANY_EFFECTS, starting_covariances, starting_dispersion
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.pilot import fit_pilot
from multilevel.bayesian.points_fit import most_for_bounds
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.bayesian.sampling import Sampling
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows, outcome_of, reduce_design
from multilevel.design.unit_free import unit_free
from multilevel.generalised.search import problem_of
from multilevel.linear.assemble import linear_system
from multilevel.linear.dense_part import dense_bytes
from multilevel.linear.factorise import BlockedSystem
from multilevel.linear.footprint import likelihood_bytes, surrounding_bytes, surrounding_seconds

COMPILE_SECONDS = 12.0
"""Of PyMC's and nutpie's compilation, once in a process."""

GRADIENT = 4.0
"""Factorisations that a value with its gradient costs, in the linear search."""

AROUND_THE_MODE = 1.5
"""Evaluations of a Laplace fit with its intervals, no pooling and what is unknown of theta, for each of the search."""

MODE_STEPS = 3.0
"""Gradients for each variance parameter until the mode of the posterior is known, its curvature included."""

USUAL_POINTS = 850.0
"""Points of the variance parameters until enough count, in a dozen dimensions."""

FEW_LEVELS, FOR_FEW = 10, 0.7
"""Where a factor has fewer levels, the bounds of its variance usually need this share of the most points allowed."""

LEVEL_MOMENTS = 2.5
"""Factorisations that the moments of every level at one point cost."""

TABLE_PASSES, PASS = 16.0, 1.6
"""How often the tables go over the points of theta, and how many factorisations' time each takes per point when none is kept."""

KEPT_PASS = 0.3
"""Share of a pass's time that is left where the factorisations are kept."""

LEVEL_ANSWERS = 1.2e-5
"""Seconds per level and point of theta for everything that the tables ask."""

ONE_FACTOR_ANSWERS = 2.2e-6
"""The same where one factor is eliminated: its levels are asked in compiled loops."""

POINT_COPIES = 3
"""Copies of every level's numbers at every point: means, sds, and what the tables work on."""


SAFE_POINTS = 650.0
"""Points until enough count, of models that are not gaussian; each costs ``POINT`` of a gradient of Laplace's approximation, whose mode is
near that of another theta."""

POINT, CORRECTION, CONDITIONAL, FACTORISATION = 0.36, 1.7, 1.1, 0.35
"""Of such a gradient: a point, the integrals of single levels at one, the nearest normal distribution there, one factorisation."""

MODE_GRADIENTS, GRADIENTS_A_PARAMETER = 15.0, 10.0
"""Gradients until the mode is known, and where the modes of the points begin."""


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes of a fit, each right to about a factor of two, and the form of the sampler."""

    form: str
    seconds: float
    memory: int

    def sentence(self) -> str:
        """For people."""
        return f"about {duration(self.seconds)} and {self.memory / 1e9:.1f} GB, by the {self.form} form"


def sampling_cost(design: Design, family: str, priors: ResolvedPriors, sampling: Sampling) -> Cost:
    """What ``fit_bayesian`` of the same arguments would cost on this machine. Takes seconds itself: the pilot, for NUTS."""
    rows = reduce_design(design)
    n_coefficients = len(design.population) + design.n_effects
    with one_blas_thread():
        by_points = is_by_points(design, sampling)
        if by_points and not design.cells.has_moments:
            found = _by_laplace_points(design, rows, family, priors, sampling)
        elif by_points:
            found = _by_points(design, rows, priors, sampling)
        elif design.cells.has_moments and sampling.form != "nuts":
            found = _collapsed(rows, priors, sampling, n_coefficients)
        else:
            found = _nuts(design, rows, family, priors, sampling)
    around = surrounding_seconds(design)
    if by_points:  # what is around is in the memory of a likelihood fit already
        return replace(found, seconds=found.seconds + around)
    around += draws_seconds(n_coefficients, sampling)
    return replace(found, seconds=found.seconds + around, memory=found.memory + surrounding_bytes(design))


def _by_points(design: Design, rows: ReducedRows, priors: ResolvedPriors, sampling: Sampling) -> Cost:
    layout = Layout(tuple(block.values.shape[1] for block in rows.blocks), priors.sigma is not None)
    system = linear_system(rows)
    density = Collapsed(system, layout, priors)
    theta = starting_point(layout, priors)
    evaluation = seconds_of(lambda: density(theta))
    level_points = points_to_begin_with(layout.size, len(design.population) + design.n_effects)
    shared = _points(design, system, USUAL_POINTS) + LEVEL_MOMENTS * level_points
    evaluations = MODE_STEPS * GRADIENT * (layout.size + 1) + shared / speed(sampling.threads)
    kept = level_points * factor_bytes(system)
    if kept > KEPT_WHOLE:
        kept = level_points * dense_bytes(system)
        if kept > KEPT_BYTES:
            evaluations += TABLE_PASSES * PASS * level_points / speed(sampling.threads)
    each = LEVEL_ANSWERS if system.chain else ONE_FACTOR_ANSWERS
    answers = each * level_points * design.n_effects / speed(sampling.threads)
    memory = likelihood_bytes(design) + min(kept, KEPT_BYTES)
    memory += 8 * POINT_COPIES * level_points * (len(design.population) + design.n_effects)
    return Cost("importance", evaluation * evaluations + answers, memory)


def _points(design: Design, system: BlockedSystem, usual: float) -> float:
    """Expected number of points of the variance parameters, including those added for the bounds of factors with few levels."""
    fewest = min(block.factor.n_levels for block in design.blocks)
    most = most_for_bounds(system)
    return max(usual, FOR_FEW * most) if fewest < FEW_LEVELS else usual


def _by_laplace_points(design: Design, rows: ReducedRows, family: str, priors: ResolvedPriors, sampling: Sampling) -> Cost:
    layout = Layout(tuple(block.values.shape[1] for block in rows.blocks), priors.dispersion is not None)
    density = LaplaceCollapsed(rows, outcome_of(design.cells, rows, family), layout, priors)
    theta = starting_point(layout, priors)
    for step in (0.0, 0.1, 0.2):
        began = time.perf_counter()
        density.value_and_gradient(theta + step)
        gradient = time.perf_counter() - began
    points = _points(design, density.coordinates.template, SAFE_POINTS)
    level_points = points_to_begin_reweighted(layout.size, len(design.population) + design.n_effects)
    template = density.coordinates.template
    kept = level_points * reweighted_bytes(template)
    passes = TABLE_PASSES * PASS * FACTORISATION * (KEPT_PASS if kept <= kept_bytes() else 1.0)
    shared = points * POINT + CORRECTED * CORRECTION + level_points * (CONDITIONAL + LEVEL_MOMENTS * FACTORISATION + passes)
    evaluations = MODE_GRADIENTS + GRADIENTS_A_PARAMETER * layout.size + shared / speed(sampling.threads)
    answers = LEVEL_ANSWERS * level_points * design.n_effects / speed(sampling.threads)
    memory = likelihood_bytes(design) + (kept if kept <= kept_bytes() else 0) + 4 * level_points * len(rows.offset)
    memory += 8 * POINT_COPIES * level_points * (len(design.population) + design.n_effects)
    return Cost("importance", gradient * evaluations + answers, memory)


def _collapsed(rows: ReducedRows, priors: ResolvedPriors, sampling: Sampling, n_coefficients: int) -> Cost:
    layout = Layout(tuple(block.values.shape[1] for block in rows.blocks), priors.sigma is not None)
    density = Collapsed(linear_system(rows), layout, priors)
    theta = starting_point(layout, priors)
    evaluation = seconds_of(lambda: density(theta))
    draws = sampling.chains * sampling.draws
    evaluations = 1.5 * draws / speed(sampling.threads) + 60 * layout.size
    conditional = draws / speed(sampling.threads)
    widest = n_coefficients - max((block.n_levels * block.values.shape[1] for block in rows.blocks), default=0)
    memory = draws_bytes(n_coefficients, sampling) + 8 * 8 * sampling.threads * widest**2
    return Cost("collapsed", evaluation * (evaluations + conditional), _with_process(memory))


def likelihood_cost(design: Design) -> Cost:
    """What the likelihood engine would cost with its tables: an evaluation, timed, times how many a search for the maximum takes."""
    rows = reduce_design(unit_free(design).design)
    factors = [np.eye(block.values.shape[1]) for block in rows.blocks]
    n_theta = sum(len(factor) * (len(factor) + 1) // 2 for factor in factors)
    if design.cells.has_moments:
        system = linear_system(rows)
        search = seconds_of(lambda: system.factorise(factors)) * GRADIENT * (20 + 10 * n_theta)
    else:
        search = _evaluation_of_laplace(design, rows) * AROUND_THE_MODE * (12 + 4 * n_theta)
    form = "linear" if design.cells.has_moments else "Laplace"
    return Cost(form, search + surrounding_seconds(design), likelihood_bytes(design))


def _evaluation_of_laplace(design: Design, rows: ReducedRows) -> float:
    """Seconds of a Laplace deviance with its gradient, from the modes of another theta; the first one compiles."""
    problem = problem_of(design, rows, design.cells.family)
    start = problem.theta_layout.start(problem.scales, 0.5)
    for share in (1.0, 0.8):
        began = time.perf_counter()
        mode = problem.objective.mode(share * start, 0.0, None)
        problem.objective.gradient(mode, 0.0, profiled=True)
        taken = time.perf_counter() - began
    return taken


def _nuts(design: Design, rows: ReducedRows, family: str, priors: ResolvedPriors, sampling: Sampling) -> Cost:
    from multilevel.bayesian.nuts_model import compiled_density, model_data, pack

    with_scale = priors.sigma is not None or priors.dispersion is not None
    layout = Layout(tuple(block.values.shape[1] for block in rows.blocks), with_scale)
    outcome = outcome_of(design.cells, rows, family)
    start = time.perf_counter()
    pilot = fit_pilot(rows, outcome, priors, starting_covariances(priors), starting_dispersion(priors))
    pilot_seconds = time.perf_counter() - start
    data = model_data(rows, outcome, build_coordinates(rows, pilot), layout, priors, pilot=pilot)
    packed = pack(data)
    n_coefficients = len(design.population) + design.n_effects
    x, w = np.zeros(layout.size), np.zeros(n_coefficients)
    density = compiled_density(outcome.family)
    gradient = seconds_of(lambda: density(x, w, packed["numbers"], packed["counts"]))
    thin = 3 if design.n_effects > MANY_EFFECTS else 2
    steps = USUAL_STEPS * (2.0 if n_coefficients < FEW_COEFFICIENTS else 1.0)
    seconds = pilot_seconds + COMPILE_SECONDS + nuts_seconds(gradient, sampling, thin=thin, steps=steps)
    memory = draws_bytes(n_coefficients, sampling, thin=thin) + 8 * sampling.threads * len(packed["numbers"])
    return Cost("NUTS", seconds, _with_process(memory))


def _with_process(memory: int) -> int:
    """With what Python and its libraries take."""
    return int(memory) + 700_000_000
