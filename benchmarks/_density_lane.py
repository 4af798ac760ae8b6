"""One way to evaluate and sample the posterior of a crossed Poisson model, in a process of its own, for ``density_kernel``.

Run: ``python -m benchmarks._density_lane LANE SHAPE DRAWS FILE`` with the environment of ``requirements-samplers.lock``. Every lane has
the same posterior in the same coordinates (``multilevel.bayesian.coordinates``): ours by the kernel, the others written with tensors.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt

from benchmarks._sampling_lanes import LANES, Plan, Run, sampled, starting_points
from multilevel.arrays import Floats
from multilevel.bayesian.coordinates import Coordinates, build_coordinates, conditional_effects, covariance_factor
from multilevel.bayesian.nuts_fit import starting_covariances, starting_dispersion, unstretched
from multilevel.bayesian.parameters import Layout, log_prior
from multilevel.bayesian.pilot import Pilot, fit_pilot
from multilevel.bayesian.priors import Priors
from multilevel.bayesian.unit_free_priors import ModelPriors, model_priors
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.reduction import ReducedRows, outcome_of, reduce_design
from multilevel.families.outcome import Outcome
from multilevel.formula.parse import parse_formula

SHAPES = {
    "first": "y ~ 1 + x + (1 | region) + (1 + x | category)",
    "second": "y ~ 1 + x + (1 + x | region) + (1 | category) + (0 + x | category)",
}
"""The model that is sampled, and another that needs another graph and is only compiled."""

REGIONS, CATEGORIES, ROWS, FAMILY = 50, 100, 10_000, "poisson"


@dataclass(frozen=True)
class Crossed:
    """The reduced model, its pilot and coordinates."""

    rows: ReducedRows
    outcome: Outcome
    priors: ModelPriors
    layout: Layout

    @classmethod
    def simulate(cls, shape: str) -> Crossed:
        """Counts of 50 x 100 unbalanced crossed levels, from a fixed seed."""
        rng = np.random.default_rng(20260101)
        region = (REGIONS * rng.random(ROWS) ** 1.5).astype(int)
        category = (CATEGORIES * rng.random(ROWS) ** 1.5).astype(int)
        x = rng.integers(0, 2, ROWS)
        slopes = 0.2 + 0.3 * rng.normal(size=CATEGORIES)
        eta = 0.2 + 0.3 * rng.normal(size=REGIONS)[region] + 0.5 * rng.normal(size=CATEGORIES)[category] + slopes[category] * x
        frame = pd.DataFrame({"region": region.astype(str), "category": category.astype(str), "x": x, "y": rng.poisson(np.exp(eta))})
        formula = parse_formula(SHAPES[shape])
        design = build_design(formula, cells_from_frame(formula, frame, FAMILY))
        priors = model_priors(design, FAMILY, Priors())
        rows = reduce_design(priors.form.design)
        return cls(rows, outcome_of(design.cells, rows, FAMILY), priors, Layout(tuple(len(b.columns) for b in design.blocks), False))

    @cached_property
    def pilot(self) -> Pilot:
        """At the mode, after a few EM steps."""
        inner = self.priors.inner
        return fit_pilot(self.rows, self.outcome, inner, starting_covariances(inner), starting_dispersion(inner))

    @cached_property
    def coordinates(self) -> Coordinates:
        """Those that the sampler uses."""
        return build_coordinates(self.rows, self.pilot)

    @cached_property
    def units(self) -> Floats:
        """(d,) the pilot's sds in the places of the sds, zero elsewhere; ``nuts_model.sd_units`` without its import."""
        units = np.zeros(self.layout.size)
        for start, k, covariance in zip(self.layout.starts, self.layout.widths, self.pilot.covariances, strict=True):
            units[start : start + k] = np.sqrt(np.diag(covariance))
        return units

    @cached_property
    def centre(self) -> Floats:
        """(d + p + q,) the pilot in the sampler's coordinates."""
        theta = unstretched(self.layout.pack(self.pilot.covariances, self.pilot.dispersion), self.units)
        return np.concatenate([theta, np.zeros(self.rows.X.shape[1] + sum(effects.size for effects in self.pilot.effects))])

    @cached_property
    def spread(self) -> Floats:
        """How far starting points may be from it."""
        return np.where(np.arange(len(self.centre)) < self.layout.size, 0.2, 1.0)


def ours(model: Crossed, plan: Plan) -> tuple[Run, Floats]:
    """The kernel, in the PyMC model of ``nuts_model``."""
    began = time.process_time()
    from multilevel.bayesian.nuts_fit import compiled_model
    from multilevel.bayesian.nuts_model import model_data, pack

    data = pack(model_data(model.rows, model.outcome, model.coordinates, model.layout, model.priors.inner, pilot=model.pilot))
    compiled = compiled_model(model.outcome.family, model.layout.size, len(model.centre) - model.layout.size).with_data(**data)
    shared = [compiled.shared_data[compiled.shared_var_keys[value]] for value in compiled.logp_func.get_shared()]

    def evaluate(point: Floats) -> Any:
        return compiled.logp_func.vm.jit_fn(point, *shared)

    gradient = np.array(evaluate(plan.probe)[1])
    seconds = time.process_time() - began
    return sampled(compiled, evaluate, plan, seconds), gradient


def tensor_model(model: Crossed) -> pm.Model:
    """The same posterior written with PyTensor: effects level by level as vectors, gathered for each cell."""
    coordinates, layout, rows = model.coordinates, model.layout, model.rows
    if coordinates.joint.blocks or coordinates.fine is None:
        raise ValueError("the comparison is written for factors of more levels than are taken together with beta")
    with pm.Model() as written:
        position = pm.Flat("position", shape=len(model.centre))
        x, w = position[: layout.size], position[layout.size :]
        theta, value = _stretch(x, model.units)
        value = value + log_prior(theta, layout, model.priors.inner, pt)
        root = np.linalg.cholesky(coordinates.joint.information)
        p = coordinates.n_population
        beta = _data("location", np.linalg.solve(root @ root.T, coordinates.joint.shift)) + _data("root", np.linalg.inv(root).T) @ w[:p]
        off = beta - model.priors.inner.beta_location
        value = value - 0.5 * off @ (model.priors.inner.beta_precision @ off)
        coarse = beta
        eta = _data("offset", rows.offset) + _data("X", rows.X) @ beta
        at = p
        for block in coordinates.coarse:
            size = len(block.mixing)
            k, name = layout.widths[block.block], f"block{block.block}"
            off = coarse - _data(f"{name}_mode", coordinates.mode[:at])
            h = _data(f"{name}_shift", block.shift) + _data(f"{name}_pull", block.pull) @ off
            z = _data(f"{name}_mixing", block.mixing) @ w[at : at + size]
            effects, part = _effects(model, theta, block, h, z)
            value, eta = value + part, eta + _gathered(rows, block.block, effects)
            coarse = pt.concatenate([coarse, pt.stack(effects, axis=1).reshape((size // k * k,))])
            at += size
        fine = coordinates.fine
        h = _data("fine_shift", fine.shift) - _data("fine_coupling", fine.coupling.toarray()) @ coarse
        effects, part = _effects(model, theta, fine, h, w[at:])
        eta = eta + _gathered(rows, fine.block, effects)
        likelihood = _data("y", rows.outcome) * eta - _data("size", rows.size) * pt.exp(eta)
        pm.Potential("log_posterior", value + part + likelihood.sum())
    return written


def _stretch(x: Any, units: Floats) -> tuple[Any, Any]:
    """theta and the log Jacobian; see ``kernel.stretch``."""
    is_sd = units > 0
    soft = pt.softplus(x)
    theta = pt.switch(is_sd, np.log(np.where(is_sd, units, 1.0)) + pt.log(soft), x)
    return theta, pt.switch(is_sd, pt.log(pt.sigmoid(x)) - pt.log(soft), 0.0).sum()


def _effects(model: Crossed, theta: Any, block: Any, h: Any, z: Any) -> tuple[list[Any], Any]:
    """Effects of one block as columns, and their part of the log posterior."""
    k = model.layout.widths[block.block]
    information = _data(f"information{block.block}", block.information)
    entries = [[information[:, i, j] for j in range(k)] for i in range(k)]
    factor = covariance_factor(theta, model.layout, block.block, pt)
    effects, squares, logs = conditional_effects(factor, entries, [h[i::k] for i in range(k)], [z[i::k] for i in range(k)], pt)
    return effects, -0.5 * squares - logs


def _gathered(rows: ReducedRows, f: int, effects: list[Any]) -> Any:
    block = rows.blocks[f]
    codes, values = _data(f"codes{f}", block.codes.astype(np.int64)), _data(f"values{f}", block.values)
    return sum(values[:, i] * effect[codes] for i, effect in enumerate(effects))


def _data(name: str, values: Floats) -> Any:
    """Data that may be replaced: a refit need not compile again."""
    return pm.Data(name, np.ascontiguousarray(values))


def main(lane: str, shape: str, draws: str, file: str) -> None:
    """Run one lane and leave its draws and figures in ``file``."""
    model = Crossed.simulate(shape)
    rng = np.random.default_rng(5)
    probe = model.centre + model.spread * rng.uniform(-1.0, 1.0, len(model.centre))
    plan = Plan(starting_points(model.centre, model.spread), probe, int(draws), shape == "first")
    if lane == "ours":
        run, gradient = ours(model, plan)
    else:
        began = time.process_time()
        run, gradient = LANES[lane](tensor_model(model), plan, began)
    run.save(file, gradient)


if __name__ == "__main__":
    main(*sys.argv[1:])
