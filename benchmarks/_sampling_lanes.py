"""NUTS of nutpie and of BlackJAX on one PyMC model that has one free vector ``position``: seconds, draws, divergences, cost of a gradient.

Runs in the environment of ``requirements-samplers.lock``; JAX is imported by the lanes that need it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import nutpie
import pymc as pm
from threadpoolctl import threadpool_limits

from multilevel.arrays import Floats

CHAINS, CORES, SEED, TARGET = 4, 2, 1, 0.8
"""The same for every lane."""


@dataclass(frozen=True)
class Run:
    """What one lane leaves.

    positions (chains, draws, n); processor seconds to compile, the first gradient included; seconds and processor seconds to sample,
    warm-up included. Processor seconds are counted because other work on a machine stretches the others.
    """

    positions: Floats
    compile_seconds: float
    sampling_seconds: float
    sampling_processor_seconds: float
    gradient_microseconds: float
    gradients_per_draw: float
    divergences: int

    def save(self, file: str, gradient: Floats) -> None:
        """Write to an npz file, with the gradient (n,) at a point that all lanes share."""
        np.savez(file, gradient=gradient, **vars(self))


@dataclass(frozen=True)
class Plan:
    """``starts``: a starting point by seed; ``probe``: where gradients are compared; as many ``draws`` of warm-up as are kept.

    A lane that is not ``sampled`` ends when it has compiled.
    """

    starts: Callable[[int], Floats]
    probe: Floats
    draws: int
    sampled: bool = True


def starting_points(centre: Floats, spread: Floats) -> Callable[[int], Floats]:
    """Starting points that differ by chain."""
    return lambda seed: centre + spread * np.random.default_rng(seed).uniform(-1.0, 1.0, len(centre))


def nutpie_numba(model: pm.Model, plan: Plan, began: float) -> tuple[Run, Floats]:
    """PyTensor's gradient, compiled by numba; ``began``: processor seconds when compiling began."""
    compiled = nutpie.compile_pymc_model(model)
    evaluate = numba_gradient(compiled)
    gradient = np.array(evaluate(plan.probe)[1])
    return sampled(compiled, evaluate, plan, time.process_time() - began), gradient


def numba_gradient(compiled: Any) -> Callable[[Floats], Any]:
    """nutpie's value and gradient, called without PyTensor's checks of its arguments."""
    shared = [np.asarray(value.get_value()) for value in compiled.logp_func.get_shared()]
    return lambda point: compiled.logp_func.vm.jit_fn(point, *shared)


def nutpie_jax(model: pm.Model, plan: Plan, began: float) -> tuple[Run, Floats]:
    """nutpie with its JAX backend: each gradient is a call of Python, as it is while it samples."""
    import jax

    jax.config.update("jax_enable_x64", True)
    compiled = nutpie.compile_pymc_model(model, backend="jax", gradient_backend="jax")
    logp = compiled._make_logp_func()

    def evaluate(point: Floats) -> Any:
        return logp(point, **compiled._shared_data)

    gradient = np.array(evaluate(plan.probe)[1])
    return sampled(compiled, evaluate, plan, time.process_time() - began), gradient


def sampled(compiled: Any, evaluate: Callable[[Floats], Any], plan: Plan, compile_seconds: float) -> Run:
    """nutpie's chains."""
    if not plan.sampled:
        return only_compiled(compile_seconds)
    field = "initial_point_func" if hasattr(compiled, "initial_point_func") else "_make_initial_points"
    with threadpool_limits(1):
        microseconds = gradient_microseconds(lambda: evaluate(plan.probe))
        start, busy = time.perf_counter(), time.process_time()
        trace = nutpie.sample(
            replace(compiled, **{field: plan.starts}),
            draws=plan.draws,
            tune=plan.draws,
            chains=CHAINS,
            cores=CORES,
            seed=SEED,
            target_accept=TARGET,
            progress_bar=False,
            save_warmup=False,
        )
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
    names = [name for name in ("x", "w", "position") if name in trace.posterior]
    positions = np.concatenate([trace.posterior[name].values for name in names], axis=-1)
    steps, diverging = trace.sample_stats["n_steps"].values, trace.sample_stats["diverging"].values
    return Run(positions, compile_seconds, seconds, busy, microseconds, float(steps.mean()), int(diverging.sum()))


def blackjax_nuts(model: pm.Model, plan: Plan, began: float) -> tuple[Run, Floats]:
    """BlackJAX with Stan's window adaptation on PyMC's JAX density; a chain is one compiled program, one runs after the other."""
    import blackjax
    import jax
    from pymc.sampling.jax import get_jaxified_logp

    jax.config.update("jax_enable_x64", True)
    density = get_jaxified_logp(model)

    def logp(position: Any) -> Any:
        return density([position])

    def chain(key: Any, start: Any) -> Any:
        warm_key, key = jax.random.split(key)
        adaptation = blackjax.window_adaptation(blackjax.nuts, logp, target_acceptance_rate=TARGET)
        (state, parameters), _ = adaptation.run(warm_key, start, num_steps=plan.draws)
        step = blackjax.nuts(logp, **parameters).step

        def one(state: Any, key: Any) -> Any:
            state, info = step(key, state)
            return state, (state.position, info.is_divergent, info.num_integration_steps)

        return jax.lax.scan(one, state, jax.random.split(key, plan.draws))[1]

    keys = jax.random.split(jax.random.key(SEED), CHAINS)
    points = [jax.numpy.asarray(plan.starts(SEED + at)) for at in range(CHAINS)]
    gradient_of = jax.jit(jax.value_and_grad(logp))
    gradient = np.array(gradient_of(jax.numpy.asarray(plan.probe))[1])
    program = jax.jit(chain).lower(keys[0], points[0]).compile()
    compile_seconds = time.process_time() - began
    if not plan.sampled:
        return only_compiled(compile_seconds), gradient
    microseconds = gradient_microseconds(lambda: jax.block_until_ready(gradient_of(points[0])))
    start, busy = time.perf_counter(), time.process_time()
    found = [jax.block_until_ready(program(key, point)) for key, point in zip(keys, points, strict=True)]
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    positions, diverging, steps = (np.stack([np.asarray(one[at]) for one in found]) for at in range(3))
    return Run(positions, compile_seconds, seconds, busy, microseconds, float(steps.mean()), int(diverging.sum())), gradient


def only_compiled(seconds: float) -> Run:
    """A run without draws."""
    return Run(np.zeros((CHAINS, 0, 0)), seconds, 0.0, 0.0, 0.0, 0.0, 0)


def gradient_microseconds(evaluate: Callable[[], Any]) -> float:
    """The fastest of five batches of calls of a fifth of a second or so: others use the machine too."""
    start = time.perf_counter()
    evaluate()
    calls = max(5, int(0.2 / max(time.perf_counter() - start, 1e-6)))
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            evaluate()
        best = min(best, (time.perf_counter() - start) / calls)
    return 1e6 * float(best)


LANES: dict[str, Callable[..., tuple[Run, Floats]]] = {
    "nutpie": nutpie_numba,
    "nutpie-jax": nutpie_jax,
    "blackjax": blackjax_nuts,
}
