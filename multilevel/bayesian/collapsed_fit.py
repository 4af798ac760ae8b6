"""The collapsed form, start to end: a few variance parameters by independence sampling, everything else drawn exactly given them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.bayesian.bookkeeping import Clock, one_blas_thread
from multilevel.bayesian.collapsed import Collapsed
from multilevel.bayesian.independence import IndependenceDraws, laplace_proposal, sample_independently
from multilevel.bayesian.parameters import Layout
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.bayesian.results import Posterior, build_fit
from multilevel.bayesian.sampling import Sampling
from multilevel.bayesian.unit_free_priors import ModelPriors
from multilevel.design.model import Design
from multilevel.design.reduction import ReducedRows, reduce_design
from multilevel.fit.container import Check, Fit
from multilevel.linear.assemble import linear_system

MAX_PARETO_K = 0.7
MIN_IMPORTANCE_ESS = 400.0
AT_ONCE = 32
"""Factorisations held in memory together."""


@dataclass(frozen=True)
class CollapsedDraws:
    """thetas (chains, draws, d), values (chains * draws, p + q), the density and the sampler's own figures."""

    thetas: Floats
    values: Floats
    density: Collapsed
    independence: IndependenceDraws
    record: dict[str, object]


def fit_collapsed(design: Design, priors: ModelPriors, sampling: Sampling, *, seed: int, interval: float) -> Fit:
    """Fit a gaussian model; see ``engine.fit_bayesian``."""
    found = sample_collapsed(reduce_design(priors.form.design), priors.inner, sampling, seed)
    density, family = found.density, design.cells.family
    posterior = Posterior(design, priors.form, family, density.layout, found.thetas, found.values, density.system, True)
    checks = importance_checks(found.independence)
    return build_fit(posterior, method="collapsed", interval=interval, checks=checks, record=found.record)


def sample_collapsed(rows: ReducedRows, priors: ResolvedPriors, sampling: Sampling, seed: int) -> CollapsedDraws:
    """Draw theta, then (beta, b) given theta, from the posterior of reduced gaussian rows."""
    with one_blas_thread():
        return _sample_collapsed(rows, priors, sampling, seed)


def _sample_collapsed(rows: ReducedRows, priors: ResolvedPriors, sampling: Sampling, seed: int) -> CollapsedDraws:
    clock = Clock()
    layout = Layout(tuple(block.values.shape[1] for block in rows.blocks), priors.sigma is not None)
    density = Collapsed(linear_system(rows), layout, priors)
    rng = np.random.default_rng(seed)
    clock.lap("cross_products")
    mode, proposal = laplace_proposal(density, starting_point(layout, priors))
    clock.lap("mode")
    drawn = sample_independently(
        lambda thetas: density.many(thetas, sampling.threads), proposal, chains=sampling.chains, draws=sampling.draws, rng=rng
    )
    clock.lap("sampling")
    values = conditional_draws(density, drawn, rng, sampling.threads)
    clock.lap("conditional_draws")
    record: dict[str, object] = {
        "form": "collapsed",
        "chains": sampling.chains,
        "draws": sampling.draws,
        "seed": seed,
        "mode": mode.tolist(),
        "acceptance": drawn.acceptance,
        "proposals_per_draw": drawn.thin,
        "proposal_rounds": drawn.rounds,
        "pareto_k": drawn.pareto_k,
        "importance_ess": drawn.importance_ess,
        "seconds": clock.seconds,
    }
    return CollapsedDraws(drawn.thetas, values, density, drawn, record)


def starting_point(layout: Layout, priors: ResolvedPriors) -> Floats:
    """sds at a tenth of their priors' scale, no correlation, sigma at half its own: any point with a finite density would do."""
    covariances = [np.diag([(0.1 * prior.arguments[-1]) ** 2 for prior in block]) for block in priors.sds]
    return layout.pack(covariances, 0.5 * priors.sigma.arguments[-1] if priors.sigma is not None else 1.0)


def conditional_draws(density: Collapsed, drawn: IndependenceDraws, rng: np.random.Generator, threads: int) -> Floats:
    """(chains * draws, p + q) one exact draw of (beta, b) for every state; a state that repeats is factorised once and drawn anew.

    Factorisations run ``threads`` at a time, the random numbers in order: the draws do not depend on the number of threads.
    """
    thetas = drawn.thetas.reshape(-1, density.layout.size)
    origin = drawn.origin.ravel()
    _, where, times = np.unique(origin, return_index=True, return_counts=True)
    places = np.split(np.argsort(origin, kind="stable"), np.cumsum(times)[:-1])
    values = np.empty((len(thetas), density.system.n_population + density.system.n_effects))
    with ThreadPoolExecutor(threads) as pool:
        for batch in range(0, len(where), AT_ONCE):
            chosen = slice(batch, batch + AT_ONCE)
            factorised = pool.map(density.factorise, thetas[where[chosen]])
            for found, theta, count, place in zip(factorised, thetas[where[chosen]], times[chosen], places[chosen], strict=True):
                values[place] = found.draw(int(count), float(density.layout.scale(theta)), rng)
    return values


def importance_checks(drawn: IndependenceDraws) -> tuple[Check, Check]:
    """The gates on the proposal: without them the tails of the posterior may have been missed."""
    told = f"Of {drawn.origin.size * drawn.thin} independent proposals of the variance parameters, so many count."
    return importance_gates(drawn.pareto_k, MAX_PARETO_K, drawn.importance_ess, told)


def importance_gates(k: float, largest_k: float, ess: float, told: str) -> tuple[Check, Check]:
    """The two gates of any importance sample; ``told`` says what its effective number counts."""
    return (
        Check(
            "pareto_k",
            float(np.nan_to_num(k, posinf=1e6, neginf=-1e6)),
            largest_k,
            bool(k < largest_k),
            "Pareto k of the importance ratios of the variance parameters' proposal: whether its tails cover the posterior's.",
            True,
        ),
        Check("importance_ess", ess, MIN_IMPORTANCE_ESS, ess >= MIN_IMPORTANCE_ESS, told, True),
    )
