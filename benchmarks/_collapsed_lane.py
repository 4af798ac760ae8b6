"""One way to sample the variance parameters of a gaussian model, in a process of its own, for ``independence_sampler``.

Run: ``python -m benchmarks._collapsed_lane LANE DRAWS FILE`` with the environment of ``requirements-samplers.lock``. Every lane has the
posterior of ``multilevel.bayesian.collapsed``, coefficients and effects integrated out: ours by its blocked factorisation, without
gradient; the others by one dense Cholesky factorisation written with tensors, and its gradient. NUTS moves in the parameters standardised
by the mode and the curvature there, from which our proposal starts too.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import nutpie
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
from scipy.linalg import block_diag

from benchmarks._sampling_lanes import CHAINS, CORES, LANES, SEED, Plan, Run, sampled, starting_points
from multilevel.arrays import Floats
from multilevel.bayesian.collapsed import Collapsed
from multilevel.bayesian.collapsed_fit import starting_point
from multilevel.bayesian.coordinates import covariance_factor
from multilevel.bayesian.independence import IndependenceDraws, gradient, laplace_proposal, sample_independently
from multilevel.bayesian.parameters import Layout, log_prior
from multilevel.bayesian.pilot import block_values
from multilevel.bayesian.priors import Priors
from multilevel.bayesian.unit_free_priors import ModelPriors, model_priors
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.reduction import ReducedRows, reduce_design
from multilevel.formula.parse import parse_formula
from multilevel.linear.assemble import linear_system

FORMULA, FAMILY = "y ~ 1 + x + (1 | region) + (1 + x | category)", "gaussian"
REGIONS, CATEGORIES, ROWS = 20, 40, 5_000


@dataclass(frozen=True)
class Gaussian:
    """The reduced model and its collapsed density."""

    rows: ReducedRows
    priors: ModelPriors
    layout: Layout

    @classmethod
    def simulate(cls) -> Gaussian:
        """20 x 40 unbalanced crossed levels with a slope, from a fixed seed."""
        rng = np.random.default_rng(20260102)
        region = (REGIONS * rng.random(ROWS) ** 1.5).astype(int)
        category = (CATEGORIES * rng.random(ROWS) ** 1.5).astype(int)
        x = rng.normal(size=ROWS)
        slopes = 0.2 + 0.2 * rng.normal(size=CATEGORIES)
        y = 0.3 * rng.normal(size=REGIONS)[region] + 0.5 * rng.normal(size=CATEGORIES)[category] + slopes[category] * x
        frame = pd.DataFrame({"region": region.astype(str), "category": category.astype(str), "x": x, "y": y + rng.normal(size=ROWS)})
        formula = parse_formula(FORMULA)
        design = build_design(formula, cells_from_frame(formula, frame, FAMILY))
        priors = model_priors(design, FAMILY, Priors())
        return cls(reduce_design(priors.form.design), priors, Layout(tuple(len(b.columns) for b in design.blocks), True))

    @cached_property
    def density(self) -> Collapsed:
        """Ours."""
        return Collapsed(linear_system(self.rows), self.layout, self.priors.inner)


class Counted:
    """The density, with the number of its evaluations."""

    def __init__(self, density: Collapsed) -> None:
        self.density, self.evaluations = density, 0

    def __call__(self, theta: Floats) -> float:
        self.evaluations += 1
        return self.density(theta)

    def many(self, thetas: Floats) -> Floats:
        self.evaluations += len(thetas)
        return self.density.many(thetas, CORES)


def ours(model: Gaussian, draws: int) -> tuple[Run, IndependenceDraws, int]:
    """Mode, proposal and chains, twice: what the first run takes more is numba's compilation."""
    busy: list[float] = []
    for _ in range(2):
        start, began = time.perf_counter(), time.process_time()
        density = Counted(model.density)
        _, proposal = laplace_proposal(density, starting_point(model.layout, model.priors.inner))
        drawn = sample_independently(density.many, proposal, chains=CHAINS, draws=draws, rng=np.random.default_rng(SEED))
        seconds = time.perf_counter() - start
        busy.append(time.process_time() - began)
    run = Run(drawn.thetas, busy[0] - busy[1], seconds, busy[1], 0.0, 0.0, 0)
    return run, drawn, density.evaluations


@dataclass(frozen=True)
class Standardised:
    """theta = mode + root z."""

    mode: Floats
    root: Floats

    def theta(self, z: Floats) -> Floats:
        """(..., d) of (..., d)."""
        return self.mode + z @ self.root.T


def numeric(model: Gaussian, scale: Standardised, plan: Plan) -> tuple[Run, int]:
    """nutpie on our density, its gradient by central differences."""
    density = Counted(model.density)

    def logp(z: Floats) -> tuple[float, Floats]:
        theta = scale.theta(np.asarray(z))
        return density(theta), gradient(density, theta) @ scale.root

    d = model.layout.size
    compiled = nutpie.compiled_pyfunc.from_pyfunc(
        d, lambda: logp, lambda *_: lambda z: {"position": np.array(z)}, [np.dtype("float64")], [(d,)], ["position"]
    )
    began = time.process_time()
    logp(plan.probe)
    run = sampled(compiled, logp, plan, time.process_time() - began)
    return run, density.evaluations


def dense_model(model: Gaussian, scale: Standardised) -> pm.Model:
    """The same density by one Cholesky factorisation of the coefficients' and effects' joint precision."""
    rows, layout, inner = model.rows, model.layout, model.priors.inner
    Z = np.hstack([block_values(block).toarray() for block in rows.blocks])
    q, p = Z.shape[1], rows.X.shape[1]
    products = np.hstack([Z, rows.X]).T @ np.hstack([Z, rows.X, rows.outcome[:, None]])
    own = block_diag(np.eye(q), inner.beta_precision)
    pull = np.concatenate([np.zeros(q), inner.beta_precision @ inner.beta_location])
    total = rows.outcome @ rows.outcome + rows.residual_ss
    with pm.Model() as written:
        theta = pm.Data("mode", scale.mode) + pm.Data("root_of_curvature", scale.root) @ pm.Flat("position", shape=layout.size)
        gram, right = pm.Data("gram", products[:, :-1]), pm.Data("right", products[:, -1])
        variance = pt.exp(2.0 * theta[-1])
        spread = _spread(theta, model, _spread(theta, model, gram, p).T, p)
        precision = spread / variance + own
        linear = _spread(theta, model, right[None], p)[0] / variance + pull
        root = pt.linalg.cholesky(precision)
        half = pt.linalg.solve_triangular(root, linear, lower=True)
        squares = total / variance - half @ half
        log_determinant = 2.0 * pt.log(pt.diag(root)).sum()
        value = -0.5 * (rows.n_rows * 2.0 * theta[-1] + log_determinant + squares)
        pm.Potential("log_posterior", value + log_prior(theta, layout, inner, pt))
    return written


def _spread(theta: Any, model: Gaussian, matrix: Any, p: int) -> Any:
    """``matrix`` (n, q + p) times the block-diagonal of every level's covariance factor and ones."""
    pieces, at = [], 0
    for f, block in enumerate(model.rows.blocks):
        k, n = block.values.shape[1], block.n_levels
        entries = covariance_factor(theta, model.layout, f, pt)
        factor = pt.stack([pt.stack([*row, *([pt.zeros(())] * (k - len(row)))]) for row in entries])
        own = matrix[:, at : at + n * k].reshape((-1, k)) @ factor
        pieces.append(own.reshape((-1, n * k)))
        at += n * k
    return pt.concatenate([*pieces, matrix[:, at : at + p]], axis=1)


def main(lane: str, draws: str, file: str) -> None:
    """Run one lane and leave its draws and figures in ``file``."""
    model = Gaussian.simulate()
    if lane == "ours":
        run, drawn, evaluations = ours(model, int(draws))
        np.savez(file, **vars(run), evaluations=evaluations, **{k: getattr(drawn, k) for k in ("acceptance", "pareto_k", "importance_ess")})
        return
    mode, proposal = laplace_proposal(model.density, starting_point(model.layout, model.priors.inner))
    scale = Standardised(mode, proposal.factors[0])
    plan = Plan(starting_points(np.zeros(len(mode)), np.ones(len(mode))), np.full(len(mode), 0.5), int(draws))
    if lane == "nutpie-numeric":
        run, evaluations = numeric(model, scale, plan)
        left: dict[str, Any] = {"evaluations": evaluations}
    else:
        began = time.process_time()
        run, found = LANES[lane](dense_model(model, scale), plan, began)
        left = {"gradient": found, "wanted": gradient(model.density, scale.theta(plan.probe)) @ scale.root}
    np.savez(file, **(vars(run) | {"positions": scale.theta(run.positions)}), **left)


if __name__ == "__main__":
    main(*sys.argv[1:])
