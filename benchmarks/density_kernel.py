"""The hand-written kernel beside other ways to the same posterior: PyTensor's gradient, nutpie's JAX backend, BlackJAX.

Run: ``python -m benchmarks density_kernel [draws]``: a crossed Poisson model in the sampler's coordinates. Every lane has a process of its
own with empty caches, and a second one with those caches and another model. Writes
docs/decisions/0010-density-kernel.md.
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
    """Run all lanes and write their table."""
    if not PYTHON.exists():
        print(NOT_INSTALLED)
        return
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        for lane in LANES:
            for shape in ("first", "second"):
                run_lane("_density_lane", lane, shape, str(draws), name=f"density-{lane}-{shape}", caches=Path(folder) / lane)
    write_table()


def write_table() -> None:
    """The table, of the lanes that have run."""
    found = {lane: figures_of(f"density-{lane}-first") for lane in LANES}
    again = {lane: figures_of(f"density-{lane}-second") for lane in LANES}
    ours = found["ours"] or {}
    rows = [row(lane, figures, again[lane], ours) for lane, figures in found.items() if figures is not None]
    write_block(PAGE, "density-kernel", COLUMNS, rows)


def row(lane: str, figures: dict[str, Any], again: dict[str, Any] | None, ours: dict[str, Any]) -> tuple[str, ...]:
    """One lane's row, in the order of ``COLUMNS``; ``again``: its second model's figures."""
    compiling = None if again is None else again["compile_seconds"]
    ess, busy = smallest_ess(figures["positions"]), figures["sampling_processor_seconds"]
    is_alone = lane == "ours" or not ours
    return (
        LANES[lane],
        f"{figures['compile_seconds']:.0f}",
        "not measured" if compiling is None else f"{compiling:.0f}",
        f"{figures['gradient_microseconds']:.0f}",
        f"{figures['gradients_per_draw']:.1f}",
        f"{figures['sampling_seconds']:.1f}",
        f"{busy:.1f}",
        f"{ess:,.0f}",
        f"{ess / busy:.1f}",
        "not measured" if compiling is None else f"{ess / (busy + compiling):.1f}",
        f"{figures['divergences']}",
        "" if is_alone else f"{gradient_difference(figures['gradient'], ours['gradient']):.0e}",
        "" if is_alone else f"{largest_difference(figures['positions'], ours['positions']):.1f}",
    )
