"""NUTS in the pilot's coordinates, start to end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from multilevel.arrays import Floats
from multilevel.bayesian.bookkeeping import Clock, one_blas_thread
from multilevel.bayesian.convergence import MAX_R_HAT, MIN_ESS, Convergence, convergence
from multilevel.bayesian.coordinates import build_coordinates, coefficients
from multilevel.bayesian.durations import HOURS, duration, nuts_seconds, seconds_of
from multilevel.bayesian.importance_points import Tell
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.pilot import Pilot, fit_pilot, level_information
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.bayesian.results import Posterior, build_fit
from multilevel.bayesian.sampling import Sampling
from multilevel.bayesian.unit_free_priors import ModelPriors
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows, outcome_of, reduce_design
from multilevel.families.family import Family
from multilevel.families.outcome import Outcome
from multilevel.fit.container import Check, Fit
from multilevel.linear.assemble import linear_system
from multilevel.linear.system import LinearSystem

log = logging.getLogger("groupwise.sampling")

OF_DRAWS, PROGRESS_MILLISECONDS = 0.95, 2_000
"""Share of the work that is done with the last draw, and how often the number of draws is told."""

MANY_EFFECTS = 1500
"""From so many effects on every third draw is kept instead of every second.

In these coordinates positions are nearly independent from draw to draw, but distances from the centre are not (a trajectory keeps its
energy): their ESS is 40 % of the draws, and the largest of a thousand folded R-hats would pass 1.01 by chance.
"""

FEW_COEFFICIENTS = 200
"""Below so many coefficients steps are shorter: they cost little, and little data leave the posterior far from normal."""

TARGETS = (0.8, 0.95, 0.99, 0.995)
"""Target acceptances: the next where an attempt diverged. Where it did not, but has too few effective draws, chains twice as long."""

ATTEMPTS = 4

LITTLE = 2.0
"""A level's information about its effect, times the effects' variance at the pilot, below which that variance is not to be trusted."""

SCOUT_TUNE, SCOUT_DRAWS = 150, 50
"""Tuning and draws of the short run that finds better variances for such a pilot."""

FAR = 0.2
"""Difference in log sd from which the pilot is fitted again."""

USUAL_DRAWS = 4_000
"""Of fewer draws R-hats are larger by chance, as their number is smaller."""
STATISTICS = {"diverging": "diverging", "n_steps": "n_steps", "mean_tree_accept": "acceptance_rate", "energy": "energy", "logp": "lp"}
"""What the sampler says of a draw that is kept -> ArviZ' name of it."""


@dataclass(frozen=True)
class NutsDraws:
    """thetas (chains, draws, d), values (chains * draws, p + q) and their convergence, divergences after tuning, seconds by step, and
    ``statistics``: name -> (chains, draws), what the sampler says of every draw."""

    thetas: Floats
    values: Floats
    figures: Convergence
    divergences: int
    layout: Layout
    pilot: Pilot
    seconds: dict[str, float]
    record: dict[str, object]
    statistics: Mapping[str, Floats]


def fit_nuts(
    design: Design, family: str, priors: ModelPriors, sampling: Sampling, *, seed: int, interval: float, progress: Tell | None
) -> Fit:
    """Fit any family with NUTS; see ``engine.fit_bayesian``."""
    rows = reduce_design(priors.form.design)
    found = sample_nuts(rows, outcome_of(design.cells, rows, family), priors.inner, sampling, seed=seed, progress=progress)
    system = quadratic_system(rows, found.pilot)
    drawn = (found.layout, found.thetas, found.values)
    posterior = Posterior(design, priors.form, family, *drawn, system, False, found.figures, found.statistics)
    return build_fit(posterior, method="nuts", interval=interval, checks=(_divergence_check(found.divergences),), record=found.record)


def sample_nuts(
    rows: ReducedRows, outcome: Outcome, priors: ResolvedPriors, sampling: Sampling, *, seed: int, progress: Tell | None = None
) -> NutsDraws:
    """Draw from the posterior of reduced rows; where that is not sound, again from where it was, with shorter steps or longer chains."""
    with_scale = priors.sigma is not None or priors.dispersion is not None
    layout = Layout(tuple(block.values.shape[1] for block in rows.blocks), with_scale)
    n_coefficients = rows.X.shape[1] + sum(block.n_levels * block.values.shape[1] for block in rows.blocks)
    clock = Clock()
    pilot = fit_pilot(rows, outcome, priors, starting_covariances(priors), starting_dispersion(priors))
    clock.lap("pilot")
    effort = _Effort(step=int(n_coefficients < FEW_COEFFICIENTS), longer=1)
    model = _scouted(_Model(rows, outcome, priors, layout, pilot), sampling, effort, seed=seed + ATTEMPTS, progress=progress)
    clock.lap("scout")
    before: list[dict[str, object]] = []
    for number in range(ATTEMPTS):
        found = _attempt(model, sampling, effort, seed=seed + number, progress=progress)
        if number == ATTEMPTS - 1 or _is_sound(found):
            break
        before.append({name: found.record[name] for name in ("target_accept", "tune", "thin")} | {"divergences": found.divergences})
        effort = effort.after(found.divergences)
        model = _at(model, found.thetas)
    seconds = clock.seconds | found.seconds
    return replace(found, record=found.record | {"earlier_attempts": before, "seconds": seconds})


@dataclass(frozen=True)
class _Effort:
    """``step``: which of ``TARGETS``; ``longer``: multiple of the transitions that make one draw, and of tuning."""

    step: int
    longer: int

    @property
    def target(self) -> float:
        return TARGETS[self.step]

    def after(self, divergences: int) -> _Effort:
        """What to try next."""
        if divergences and self.step < len(TARGETS) - 1:
            return replace(self, step=self.step + 1)
        return replace(self, longer=2 * self.longer)


@dataclass(frozen=True)
class _Model:
    """What one attempt samples."""

    rows: ReducedRows
    outcome: Outcome
    priors: ResolvedPriors
    layout: Layout
    pilot: Pilot


def _scouted(model: _Model, sampling: Sampling, effort: _Effort, *, seed: int, progress: Tell | None) -> _Model:
    """The model with its pilot where a short run finds the variances.

    Where levels say little, as with a few zeros and ones each, the pilot's normal approximation makes variances far too small (Breslow and
    Lin 1995), and coordinates that fit there are slow where the posterior is.
    """
    if not _says_little(model):
        return model
    found = _attempt(model, replace(sampling, tune=SCOUT_TUNE, draws=SCOUT_DRAWS), effort, seed=seed, progress=progress)
    sds = np.array([start + i for start, k in zip(model.layout.starts, model.layout.widths, strict=True) for i in range(k)], dtype=int)
    moved = np.median(found.thetas.reshape(-1, model.layout.size), axis=0) - model.layout.pack(
        model.pilot.covariances, model.pilot.dispersion
    )
    return _at(model, found.thetas) if np.abs(moved[sds]).max() > FAR else model


def _says_little(model: _Model) -> bool:
    """Whether most levels of some block have less information about their effects than the distribution of the effects."""
    for block, covariance in zip(model.rows.blocks, model.pilot.covariances, strict=True):
        information = level_information(block, model.pilot.weights)
        if (np.median(np.diagonal(information, axis1=1, axis2=2), axis=0) * np.diag(covariance)).min() < LITTLE:
            return True
    return False


def _at(model: _Model, thetas: Floats) -> _Model:
    """The model with a pilot at the medians of these (chains, draws, d) parameters."""
    layout = model.layout
    centre = np.median(thetas.reshape(-1, layout.size), axis=0)
    factors = [layout.factor(centre, block) for block in range(len(model.rows.blocks))]
    covariances = [factor @ factor.T for factor in factors]
    pilot = fit_pilot(model.rows, model.outcome, model.priors, covariances, float(layout.scale(centre)), em_steps=0)
    return replace(model, pilot=pilot)


def _attempt(model: _Model, sampling: Sampling, effort: _Effort, *, seed: int, progress: Tell | None) -> NutsDraws:
    from multilevel.bayesian.nuts_model import compiled_density, model_data, pack, sd_units

    sampling = replace(sampling, tune=sampling.tune * (1 + effort.step) * effort.longer)
    clock, layout, pilot = Clock(), model.layout, model.pilot
    coordinates = build_coordinates(model.rows, pilot)
    data = model_data(model.rows, model.outcome, coordinates, layout, model.priors, pilot=pilot)
    units = sd_units(layout, pilot)
    centre = unstretched(layout.pack(pilot.covariances, pilot.dispersion), units)
    n_effects = sum(effects.size for effects in pilot.effects)
    start = np.concatenate([centre, np.zeros(model.rows.X.shape[1] + n_effects)])
    compiled = compiled_model(model.outcome.family, layout.size, len(start) - layout.size)
    clock.lap("compile")
    thin = (3 if n_effects > MANY_EFFECTS else 2) * effort.longer
    packed = pack(data)
    density = compiled_density(model.outcome.family)
    gradient = seconds_of(lambda: density(start[: layout.size], start[layout.size :], packed["numbers"], packed["counts"]))
    expected = nuts_seconds(gradient, sampling, thin=thin)
    if expected > HOURS:
        log.warning("NUTS will take about %s for %s coefficients; stop here if that is too long.", duration(expected), f"{len(start):,}")
    ready = replace(compiled.with_data(**packed), initial_point_func=_starts(start, layout.size))
    trace = run_nuts(ready, sampling, thin=thin, target=effort.target, seed=seed, progress=progress)
    clock.lap("sampling")
    x, w = (trace.posterior[name].values[:, ::thin] for name in ("x", "w"))
    thetas = stretched(x, units)
    beta, effects = coefficients(coordinates, layout, thetas.reshape(-1, layout.size), w.reshape(-1, w.shape[-1]))
    clock.lap("conditional_draws")
    statistics = trace.sample_stats
    record: dict[str, object] = {
        "form": "nuts",
        "chains": sampling.chains,
        "draws": sampling.draws,
        "tune": sampling.tune,
        "thin": thin,
        "seed": seed,
        "target_accept": effort.target,
        "acceptance": float(statistics["mean_tree_accept"].values.mean()),
        "expected_seconds": expected,
        "steps_per_draw": float(statistics["n_steps"].values.mean()),
    }
    divergences = int(statistics["diverging"].values.sum())
    values = np.concatenate([beta, *effects], axis=1)
    figures = convergence(values.reshape(*thetas.shape[:2], -1))
    kept = {name: statistics[own].values[:, ::thin] for own, name in STATISTICS.items() if own in statistics}
    return NutsDraws(thetas, values, figures, divergences, layout, pilot, clock.seconds, record, kept)


def _is_sound(found: NutsDraws) -> bool:
    """No divergence, and variance parameters and coefficients converged, as far as so many draws can tell."""
    n_draws = found.thetas.shape[0] * found.thetas.shape[1]
    enough = min(MIN_ESS, 0.1 * n_draws)
    largest = 1.0 + (MAX_R_HAT - 1.0) * max(1.0, USUAL_DRAWS / n_draws)
    converged = [
        figures.r_hat.max() <= largest and min(figures.ess_bulk.min(), figures.ess_tail.min()) >= enough
        for figures in (convergence(found.thetas), found.figures)
    ]
    return found.divergences == 0 and all(converged)


def starting_covariances(priors: ResolvedPriors) -> list[Floats]:
    """Diagonal covariances at a fifth of the sds' prior scales."""
    return [np.diag([(0.2 * prior.arguments[-1]) ** 2 for prior in block]) for block in priors.sds]


def starting_dispersion(priors: ResolvedPriors) -> float:
    """sigma at half its prior's scale, phi or shape at 1."""
    if priors.sigma is not None:
        return 0.5 * priors.sigma.arguments[-1]
    return 1.0


def stretched(x: Floats, units: Floats) -> Floats:
    """(..., d) theta of the sampler's x; see ``kernel.stretch``."""
    with np.errstate(divide="ignore"):
        logs = np.log(units) + np.where(x < -30.0, x, np.log(np.logaddexp(0.0, np.maximum(x, -30.0))))
    return np.where(units > 0, logs, x)


def unstretched(theta: Floats, units: Floats) -> Floats:
    """The inverse of ``stretched``."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.where(units > 0, np.log(np.expm1(np.exp(theta) / units)), theta)


@lru_cache(maxsize=8)
def compiled_model(family: Family, n_theta: int, n_coefficients: int) -> Any:
    """The compiled model of so many parameters, with data to be replaced; compiled once in a process."""
    import nutpie

    from multilevel.bayesian.nuts_model import build_model

    nothing: dict[str, Any] = {"numbers": np.zeros(1), "counts": np.zeros(6, dtype=np.int32)}
    return nutpie.compile_pymc_model(build_model(nothing, family, n_theta, n_coefficients))


def _starts(centre: Floats, n_theta: int) -> Callable[[int], Floats]:
    """Starting points that differ by chain, around the pilot."""
    spread = np.where(np.arange(len(centre)) < n_theta, 0.2, 1.0)
    return lambda seed: centre + spread * np.random.default_rng(seed).uniform(-1.0, 1.0, len(centre))


def run_nuts(compiled: Any, sampling: Sampling, *, thin: int, target: float, seed: int, progress: Tell | None) -> Any:
    """The trace of all chains, ``draws * thin`` each."""
    import nutpie

    def told(chains: Sequence[Any]) -> None:
        done, of = (sum(int(getattr(chain, name)) for chain in chains) for name in ("finished_draws", "total_draws"))
        if progress is not None and of:
            progress(f"{done:,} of {of:,} draws, warm-up included", OF_DRAWS * done / of)

    with one_blas_thread():
        return nutpie.sample(
            compiled,
            draws=sampling.draws * thin,
            tune=sampling.tune,
            chains=sampling.chains,
            cores=sampling.threads,
            seed=seed,
            target_accept=target,
            progress_bar=False,
            progress_callback=None if progress is None else told,
            progress_rate=PROGRESS_MILLISECONDS,
            save_warmup=False,
        )


def quadratic_system(rows: ReducedRows, pilot: Pilot) -> LinearSystem:
    """The least-squares system of the likelihood's quadratic approximation at the pilot's mode."""
    response = pilot.weighted_response / np.maximum(pilot.weights, np.finfo(float).tiny)
    return linear_system(replace(rows, residual_ss=0.0), weights=pilot.weights, outcome=response)


def _divergence_check(divergences: int) -> Check:
    message = "Divergent transitions of NUTS after tuning."
    return Check("n_divergences", float(divergences), 0.0, divergences == 0, message, True)
