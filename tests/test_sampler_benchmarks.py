"""The comparisons of samplers: figures come out as the columns that the decisions' pages speak of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import cold_start, density_kernel, independence_sampler
from benchmarks._sampler_pages import gradient_difference, largest_difference, smallest_ess

ROOT = Path(__file__).parents[1]


def figures(shift: float = 0.0) -> dict[str, object]:
    return {
        "positions": np.random.default_rng(3).normal(size=(4, 200, 2)) + shift,
        "compile_seconds": 1.0,
        "sampling_seconds": 4.0,
        "sampling_processor_seconds": 8.0,
        "gradient_microseconds": 20.0,
        "gradients_per_draw": 7.0,
        "divergences": 0,
        "gradient": np.array([1.0, 2.0]),
        "wanted": np.array([1.0, 2.0 + 2e-6]),
    }


def test_a_row_of_the_density_kernel_has_every_column() -> None:
    row = dict(zip(density_kernel.COLUMNS, density_kernel.row("nutpie", figures(), figures(), figures()), strict=True))
    assert row["gradient against ours (relative)"] == "0e+00"
    assert row["largest difference of means (MC standard errors)"] == "0.0"
    assert float(row["ESS a processor second, sampling"]) == pytest.approx(smallest_ess(figures()["positions"]) / 8, abs=0.06)


@pytest.mark.parametrize("lane", ["ours", "nutpie"])
def test_a_row_of_the_independence_sampler_has_every_column(lane: str) -> None:
    own = {"evaluations": 1234, "acceptance": 0.7, "pareto_k": 0.2, "importance_ess": 600.0} if lane == "ours" else {}
    row = dict(zip(independence_sampler.COLUMNS, independence_sampler.row(lane, figures() | own, figures()), strict=True))
    wanted = {"ours": ("1,234 densities", "acceptance 0.70, Pareto k 0.20, importance ESS 600")}
    assert (row["densities or gradients"], row["own diagnostics"]) == wanted.get(lane, ("5,600 gradients after warm-up", "0 divergences"))
    assert row["gradient against differences of ours (relative)"] == "1e-06"


def test_means_that_differ_are_told_in_standard_errors() -> None:
    first, second = figures()["positions"], figures(0.5)["positions"]
    assert largest_difference(first, second) == pytest.approx(0.5 / np.sqrt(2 / 800), rel=0.3)
    assert gradient_difference(np.array([1.0, 2.0]), np.array([1.0, 4.0])) == 0.5


@pytest.mark.parametrize("lane", [density_kernel, independence_sampler, cold_start], ids=lambda lane: lane.__name__)
def test_every_lanes_page_holds_its_table(lane: object) -> None:
    text = (ROOT / lane.PAGE).read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert f"| {' | '.join(lane.COLUMNS)} |" in text  # type: ignore[attr-defined]
