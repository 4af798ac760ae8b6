"""The hand-written kernel beside other ways to the same posterior: PyTensor's gradient, nutpie's JAX backend, BlackJAX.

Run: ``python -m benchmarks density_kernel [draws]``: a crossed Poisson model in the sampler's coordinates. Every lane has a process of its
own with empty caches, and a second one with those caches and another model. At its own number of draws it writes
docs/decisions/0010-density-kernel.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks._sampler_pages import NOT_INSTALLED, PYTHON, gradient_difference, largest_difference, run_lane, smallest_ess, write_block

PAGE = Path("docs") / "decisions" / "0010-density-kernel.md"
DRAWS = 500
LANES = {
    "ours": "kernel, nutpie (ours)",
    "nutpie": "PyTensor's gradient, nutpie with numba",
    "nutpie-jax": "JAX's gradient, nutpie with JAX",
    "blackjax": "JAX's gradient, BlackJAX",
}
COLUMNS = (
    "density and sampler",
    "compile, nothing cached (processor s)",
    "compile, another model with these caches (processor s)",
    "a gradient (µs)",
    "gradients a draw",
    "sampling (s)",
    "sampling (processor s)",
    "smallest bulk ESS",
    "ESS a processor second, sampling",
    "ESS a processor second, compiling another model included",
    "divergences",
    "gradient against ours (relative)",
    "largest difference of means (MC standard errors)",
)


def main(draws: int = DRAWS) -> None:
    """Print the table of all lanes; write it at the usual number of draws."""
    if not PYTHON.exists():
        print(NOT_INSTALLED)
        return
    found: dict[str, dict[str, Any]] = {}
    again: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        for lane in LANES:
            caches, file = Path(folder) / lane, Path(folder) / f"{lane}.npz"
            found[lane] = run_lane("_density_lane", lane, "first", str(draws), file=file, caches=caches)
            again[lane] = run_lane("_density_lane", lane, "second", str(draws), file=file, caches=caches)["compile_seconds"]
    rows = [row(lane, found[lane], again[lane], found["ours"]) for lane in LANES]
    if draws == DRAWS:
        write_block(PAGE, "density-kernel", COLUMNS, rows)
    else:
        print(*rows, sep="\n")


def row(lane: str, figures: dict[str, Any], again: float, ours: dict[str, Any]) -> tuple[str, ...]:
    """One lane's row, in the order of ``COLUMNS``."""
    ess, busy = smallest_ess(figures["positions"]), figures["sampling_processor_seconds"]
    is_ours = lane == "ours"
    return (
        LANES[lane],
        f"{figures['compile_seconds']:.0f}",
        f"{again:.0f}",
        f"{figures['gradient_microseconds']:.0f}",
        f"{figures['gradients_per_draw']:.1f}",
        f"{figures['sampling_seconds']:.1f}",
        f"{busy:.1f}",
        f"{ess:,.0f}",
        f"{ess / busy:.1f}",
        f"{ess / (busy + again):.1f}",
        f"{figures['divergences']}",
        "" if is_ours else f"{gradient_difference(figures['gradient'], ours['gradient']):.0e}",
        "" if is_ours else f"{largest_difference(figures['positions'], ours['positions']):.1f}",
    )
