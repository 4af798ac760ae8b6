"""Lanes of ``density_kernel`` and ``independence_sampler`` in processes of their own, and their tables in the pages of the decisions."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._calibration_page import markdown
from benchmarks._reliability_page import provenance, provenance_line, replace_block
from multilevel.arrays import Floats
from multilevel.bayesian.convergence import convergence

FIGURES = Path(".groupwise") / "samplers"
"""What each lane left behind: a table has a row for every lane with figures."""

PYTHON = Path(".venv-samplers/bin/python")
NOT_INSTALLED = "JAX and BlackJAX are not installed; `make benchmarks` makes an environment for them"

type Figures = Mapping[str, Any]


def run_lane(module: str, *arguments: str, name: str, caches: Path) -> None:
    """Leave a lane's figures under ``name``, with numba's and PyTensor's caches in ``caches``."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    file = FIGURES / f"{name}.npz"
    places = {"NUMBA_CACHE_DIR": str(caches / "numba"), "PYTENSOR_FLAGS": f"base_compiledir={caches / 'pytensor'}"}
    subprocess.run([str(PYTHON), "-W", "ignore", "-m", f"benchmarks.{module}", *arguments, str(file)], check=True, env=os.environ | places)


def figures_of(name: str) -> dict[str, Any] | None:
    """What the lane left, None where it has not run."""
    file = FIGURES / f"{name}.npz"
    if not file.exists():
        return None
    with np.load(file) as left:
        return {key: left[key] if left[key].ndim else left[key].item() for key in left}


def smallest_ess(chains: Floats) -> float:
    """Smallest bulk ESS of (chains, draws, n)."""
    return float(convergence(chains).ess_bulk.min())


def largest_difference(first: Floats, second: Floats) -> float:
    """Largest difference of two runs' means, in Monte Carlo standard errors of that difference (by bulk ESS)."""
    squared = [chains.reshape(-1, chains.shape[-1]).var(axis=0) / convergence(chains).ess_bulk for chains in (first, second)]
    return float(np.max(np.abs(first.mean(axis=(0, 1)) - second.mean(axis=(0, 1))) / np.sqrt(squared[0] + squared[1])))


def gradient_difference(found: Floats, wanted: Floats) -> float:
    """Largest difference of two gradients, relative to the largest entry."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def write_block(page: Path, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the table, and put it and where it was measured between the page's markers of ``name``."""
    block = f"{markdown(columns, [tuple(row) for row in rows])}\n{provenance_line([provenance()])}"
    print(block)
    page.write_text(replace_block(page.read_text(encoding="utf-8"), name, block), encoding="utf-8")
