"""The independence sampler beside NUTS on the same collapsed density: by differences of ours, PyTensor's gradient, JAX, BlackJAX.

Run: ``python -m benchmarks independence_sampler [draws]``: the five variance parameters of a crossed gaussian model, coefficients and
effects integrated out. Every lane has a process of its own with empty caches. Writes
docs/decisions/0011-independence-sampler.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks._sampler_pages import (
    NOT_INSTALLED,
    PYTHON,
    figures_of,
    gradient_difference,
    largest_difference,
    run_lane,
    smallest_ess,
    write_block,
)
from multilevel.bayesian.convergence import convergence

PAGE = Path("docs") / "decisions" / "0011-independence-sampler.md"
DRAWS = 200
LANES = {
    "ours": "independence Metropolis-Hastings (ours)",
    "nutpie-numeric": "nutpie, our density by central differences",
    "nutpie": "nutpie with numba, PyTensor's gradient",
    "nutpie-jax": "nutpie with JAX",
    "blackjax": "BlackJAX",
}
COLUMNS = (
    "sampler",
    "compile, nothing cached (processor s)",
    "sampling (s)",
    "sampling (processor s)",
    "densities or gradients",
    "smallest bulk ESS",
    "ESS a processor second, sampling",
    "largest R-hat",
    "own diagnostics",
    "gradient against differences of ours (relative)",
    "largest difference of means (MC standard errors)",
)


def main(draws: int = DRAWS) -> None:
    """Run all lanes and write their table."""
    if not PYTHON.exists():
        print(NOT_INSTALLED)
        return
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        for lane in LANES:
            run_lane("_collapsed_lane", lane, str(draws), name=f"collapsed-{lane}", caches=Path(folder) / lane)
    write_table()


def write_table() -> None:
    """The table, of the lanes that have run."""
    found = {lane: figures_of(f"collapsed-{lane}") for lane in LANES}
    ours = found["ours"] or {}
    write_block(PAGE, "independence-sampler", COLUMNS, [row(lane, of, ours) for lane, of in found.items() if of is not None])


def row(lane: str, figures: dict[str, Any], ours: dict[str, Any]) -> tuple[str, ...]:
    """One lane's row, in the order of ``COLUMNS``."""
    ess, busy = smallest_ess(figures["positions"]), figures["sampling_processor_seconds"]
    return (
        LANES[lane],
        f"{max(figures['compile_seconds'], 0.0):.0f}",
        f"{figures['sampling_seconds']:.1f}",
        f"{busy:.1f}",
        evaluations(figures),
        f"{ess:,.0f}",
        f"{ess / busy:.0f}",
        f"{convergence(figures['positions']).r_hat.max():.3f}",
        diagnostics(figures),
        f"{gradient_difference(figures['gradient'], figures['wanted']):.0e}" if "gradient" in figures else "",
        "" if lane == "ours" else f"{largest_difference(figures['positions'], ours['positions']):.1f}",
    )


def evaluations(figures: dict[str, Any]) -> str:
    """How often the density was evaluated; of a sampler with gradients, those of the draws that it kept."""
    if "evaluations" in figures:
        return f"{figures['evaluations']:,} densities"
    chains, draws, _ = figures["positions"].shape
    return f"{figures['gradients_per_draw'] * chains * draws:,.0f} gradients after warm-up"


def diagnostics(figures: dict[str, Any]) -> str:
    """Acceptance, Pareto k and importance ESS of an independence sampler, divergences of NUTS."""
    if "pareto_k" not in figures:
        return f"{figures['divergences']} divergences"
    return f"acceptance {figures['acceptance']:.2f}, Pareto k {figures['pareto_k']:.2f}, importance ESS {figures['importance_ess']:,.0f}"
