"""NUTS in the pilot's coordinates, start to end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from multilevel.bayesian.collapsed_fit import Clock
from multilevel.bayesian.coordinates import Coordinates, build_coordinates, coefficients
from multilevel.bayesian.families import outcome_of
from multilevel.bayesian.nuts_model import build_model, model_data
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.pilot import Pilot, fit_pilot
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.bayesian.results import Posterior, build_fit
from multilevel.bayesian.sampling import Sampling
from multilevel.cells import Floats
from multilevel.design import Design
from multilevel.fit import Check, Fit
from multilevel.reduction import ReducedBlock, ReducedRows, reduce_design

MANY_EFFECTS = 1500
"""From so many effects on every second draw is kept: the largest of many R-hats needs more draws than one."""

TARGET_ACCEPT = 0.8


def fit_nuts(design: Design, family: str, priors: ResolvedPriors, sampling: Sampling, *, seed: int, interval: float, progress: bool) -> Fit:
    """Fit any family with NUTS; see ``engine.fit_bayesian``."""
    from multilevel.linear.assemble import linear_system

    clock = Clock()
    rows = reduce_design(design)
    outcome = outcome_of(design, rows, family)
    with_scale = priors.sigma is not None or priors.dispersion is not None
    layout = Layout(tuple(len(block.columns) for block in design.blocks), with_scale)
    pilot = fit_pilot(rows, outcome, priors, starting_covariances(priors), starting_dispersion(priors))
    coordinates = build_coordinates(rows, pilot)
    clock.lap("pilot")
    data = model_data(rows, outcome, coordinates, priors, pilot.weights)
    compiled = compile_model(build_model(data, outcome, coordinates, layout, priors), layout, coordinates, pilot)
    clock.lap("compile")
    thin = 2 if design.n_effects > MANY_EFFECTS else 1
    trace = run_nuts(compiled, sampling, thin, seed, progress)
    clock.lap("sampling")
    thetas = trace.posterior["theta"].values[:, ::thin]
    w = trace.posterior["w"].values[:, ::thin]
    beta, effects = coefficients(coordinates, layout, thetas.reshape(-1, layout.size), w.reshape(-1, w.shape[-1]))
    values = np.concatenate([beta, *effects], axis=1)
    divergences = int(trace.sample_stats["diverging"].values.sum())
    record: dict[str, object] = {
        "form": "nuts",
        "chains": sampling.chains,
        "draws": sampling.draws,
        "tune": sampling.tune,
        "thin": thin,
        "seed": seed,
        "target_accept": TARGET_ACCEPT,
        "acceptance": float(trace.sample_stats["mean_tree_accept"].values.mean()),
        "steps_per_draw": float(trace.sample_stats["n_steps"].values.mean()),
        "seconds": clock.seconds,
    }
    system = linear_system(weighted_rows(rows, pilot))
    posterior = Posterior(design, family, layout, thetas, values, system, False)
    return build_fit(posterior, method="nuts", interval=interval, checks=(_divergence_check(divergences),), record=record)


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


def weighted_rows(rows: ReducedRows, pilot: Pilot) -> ReducedRows:
    """Rows whose least-squares system is the quadratic approximation of the likelihood at the pilot's mode."""
    root = np.sqrt(pilot.weights)
    blocks = tuple(ReducedBlock(block.codes, block.values * root[:, None], block.n_levels) for block in rows.blocks)
    response = pilot.weighted_response / np.maximum(root, np.finfo(float).tiny)
    return replace(rows, X=rows.X * root[:, None], blocks=blocks, outcome=response, offset=np.zeros(len(root)), residual_ss=0.0)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS on one thread: the chains have the cores."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def _divergence_check(divergences: int) -> Check:
    message = "Divergent transitions of NUTS after tuning."
    return Check("n_divergences", float(divergences), 0.0, divergences == 0, message, True)
