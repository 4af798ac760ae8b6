"""NUTS in the pilot's coordinates, start to end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from multilevel.bayesian.collapsed_fit import Clock
from multilevel.bayesian.coordinates import Coordinates, build_coordinates, coefficients
from multilevel.bayesian.families import Outcome, outcome_of
from multilevel.bayesian.nuts_model import build_model, model_data
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.pilot import Pilot, fit_pilot
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.bayesian.results import Posterior, build_fit
from multilevel.bayesian.sampling import Sampling
from multilevel.cells import Floats
from multilevel.design import Design
from multilevel.fit import Check, Fit
from multilevel.linear.assemble import linear_system
from multilevel.linear.system import LinearSystem
from multilevel.reduction import ReducedRows, reduce_design

MANY_EFFECTS = 1500
"""From so many effects on every second draw is kept: the largest of many R-hats needs more draws than one."""

TARGET_ACCEPT = 0.8


@dataclass(frozen=True)
class NutsDraws:
    """thetas (chains, draws, d), values (chains * draws, p + q), divergences after tuning; ``compiled`` serves refits of the same shape."""

    thetas: Floats
    values: Floats
    divergences: int
    layout: Layout
    pilot: Pilot
    compiled: Any
    record: dict[str, object]


def fit_nuts(design: Design, family: str, priors: ResolvedPriors, sampling: Sampling, *, seed: int, interval: float, progress: bool) -> Fit:
    """Fit any family with NUTS; see ``engine.fit_bayesian``."""
    rows = reduce_design(design)
    found = sample_nuts(rows, outcome_of(design, rows, family), priors, sampling, seed=seed, progress=progress)
    system = quadratic_system(rows, found.pilot)
    posterior = Posterior(design, family, found.layout, found.thetas, found.values, system, False)
    return build_fit(posterior, method="nuts", interval=interval, checks=(_divergence_check(found.divergences),), record=found.record)


def sample_nuts(
    rows: ReducedRows,
    outcome: Outcome,
    priors: ResolvedPriors,
    sampling: Sampling,
    *,
    seed: int,
    progress: bool = False,
    compiled: Any = None,
) -> NutsDraws:
    """Draw from the posterior of reduced rows.

    ``compiled`` from an earlier call is reused with the new data: same family, priors and numbers of levels and columns.
    """
    clock = Clock()
    with_scale = priors.sigma is not None or priors.dispersion is not None
    layout = Layout(tuple(block.values.shape[1] for block in rows.blocks), with_scale)
    pilot = fit_pilot(rows, outcome, priors, starting_covariances(priors), starting_dispersion(priors))
    coordinates = build_coordinates(rows, pilot)
    clock.lap("pilot")
    data = model_data(rows, outcome, coordinates, priors, pilot.weights)
    if compiled is None:
        compiled = compile_model(build_model(data, outcome, coordinates, layout, priors), layout, coordinates, pilot)
    else:
        compiled = compiled.with_data(**data)
    clock.lap("compile")
    thin = 2 if sum(block.n_levels * block.values.shape[1] for block in rows.blocks) > MANY_EFFECTS else 1
    trace = run_nuts(compiled, sampling, thin, seed, progress)
    clock.lap("sampling")
    thetas, w = (trace.posterior[name].values[:, ::thin] for name in ("theta", "w"))
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
        "target_accept": TARGET_ACCEPT,
        "acceptance": float(statistics["mean_tree_accept"].values.mean()),
        "steps_per_draw": float(statistics["n_steps"].values.mean()),
        "seconds": clock.seconds,
    }
    divergences = int(statistics["diverging"].values.sum())
    return NutsDraws(thetas, np.concatenate([beta, *effects], axis=1), divergences, layout, pilot, compiled, record)


def starting_covariances(priors: ResolvedPriors) -> list[Floats]:
    """Diagonal covariances at a fifth of the sds' prior scales."""
    return [np.diag([(0.2 * prior.arguments[-1]) ** 2 for prior in block]) for block in priors.sds]


def starting_dispersion(priors: ResolvedPriors) -> float:
    """sigma at half its prior's scale, phi or shape at 1."""
    if priors.sigma is not None:
        return 0.5 * priors.sigma.arguments[-1]
    return 1.0


def compile_model(model: Any, layout: Layout, coordinates: Coordinates, pilot: Pilot) -> Any:
    """The compiled model, starting at the pilot."""
    import nutpie

    scale = pilot.dispersion if layout.with_scale else 1.0
    size = len(pilot.coarse) + (0 if coordinates.fine is None else len(coordinates.fine.shift))
    start = {"theta": layout.pack(pilot.covariances, scale), "w": np.zeros(size)}
    return nutpie.compile_pymc_model(model, initial_points=start)


def run_nuts(compiled: Any, sampling: Sampling, thin: int, seed: int, progress: bool) -> Any:
    """The trace of all chains, ``draws * thin`` each."""
    import nutpie

    with one_blas_thread():
        return nutpie.sample(
            compiled,
            draws=sampling.draws * thin,
            tune=sampling.tune,
            chains=sampling.chains,
            cores=sampling.threads,
            seed=seed,
            target_accept=TARGET_ACCEPT,
            progress_bar=progress,
            save_warmup=False,
        )


def quadratic_system(rows: ReducedRows, pilot: Pilot) -> LinearSystem:
    """The least-squares system of the likelihood's quadratic approximation at the pilot's mode."""
    response = pilot.weighted_response / np.maximum(pilot.weights, np.finfo(float).tiny)
    return linear_system(replace(rows, residual_ss=0.0), weights=pilot.weights, outcome=response)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS on one thread: the chains have the cores."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1):
        yield


def _divergence_check(divergences: int) -> Check:
    message = "Divergent transitions of NUTS after tuning."
    return Check("n_divergences", float(divergences), 0.0, divergences == 0, message, True)
