"""The PyMC model: two flat vectors in the coordinates of ``coordinates.py`` and one potential, the compiled log posterior.

All arrays are ``pm.Data``: a refit with as many parameters, on whatever data, family and priors, reuses the compiled model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch import numba_funcify

from multilevel.bayesian import kernel
from multilevel.bayesian.coordinates import CoarseBlock, Coordinates, FineBlock
from multilevel.bayesian.distributions import Prior
from multilevel.bayesian.families import Outcome
from multilevel.bayesian.parameters import Layout, lkj_exponents
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.cells import Floats, Integers
from multilevel.reduction import ReducedRows

type Arrays = dict[str, Floats | Integers]

_FAMILY = {
    "gaussian": kernel.GAUSSIAN,
    "binomial": kernel.BINOMIAL,
    "poisson": kernel.POISSON,
    "negative_binomial": kernel.NEGATIVE_BINOMIAL,
    "gamma": kernel.GAMMA,
}


ARGUMENTS = (
    "kinds", "prior", "y", "size", "once", "histogram", "offset", "X", "weights", "codes", "values", "widths", "levels", "starts", "mode",
    "root", "information", "mixing", "pull", "shift", "beta_location", "beta_precision",
)  # fmt: skip
"""The kernel's data, in its order."""


class LogPosterior(Op):
    """``kernel.log_posterior`` as a node: its value, and its gradients as further outputs."""

    __props__ = ()

    def make_node(self, theta: Any, w: Any, *data: Any) -> Any:
        """Value, gradient in theta, gradient in w."""
        inputs = [pt.as_tensor_variable(item) for item in (theta, w, *data)]
        return Apply(self, inputs, [pt.dscalar(), pt.dvector(), pt.dvector()])

    def perform(self, node: Any, inputs: list[Any], outputs: list[list[Any]]) -> None:
        """Evaluate, outside compiled code."""
        value, g_theta, g_w = kernel.log_posterior(*inputs)
        outputs[0][0], outputs[1][0], outputs[2][0] = np.asarray(value), g_theta, g_w

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        """Only the value is ever differentiated."""
        return [cotangents[0] * outputs[1], cotangents[0] * outputs[2], *(DisconnectedType()() for _ in inputs[2:])]

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        """Data are constants."""
        return [[True, True, True] if at < 2 else [False] * 3 for at in range(len(node.inputs))]


@numba_funcify.register(LogPosterior)
def _compiled(op: LogPosterior, **_: Any) -> Any:
    return kernel.log_posterior_node


def model_data(
    rows: ReducedRows, outcome: Outcome, coordinates: Coordinates, layout: Layout, priors: ResolvedPriors, *, weights: Floats
) -> Arrays:
    """Every array of the model by its name in it, in the kernel's order."""
    order = [*(block.block for block in coordinates.coarse), *([] if coordinates.fine is None else [coordinates.fine.block])]
    blocks = [rows.blocks[f] for f in order]
    every: list[CoarseBlock | FineBlock] = [*coordinates.coarse, *([] if coordinates.fine is None else [coordinates.fine])]
    none = np.zeros((0, len(rows.outcome)))
    is_counted = outcome.family in ("negative_binomial", "gamma")
    return {
        "kinds": np.array([_FAMILY[outcome.family], int(layout.with_scale)]),
        "prior": prior_table(layout, priors),
        "y": outcome.outcome,
        "size": (outcome.n if is_counted else outcome.size).astype(np.float64),
        "once": np.array([outcome.residual_ss, float(outcome.n_rows), outcome.sum_log_outcome]),
        "histogram": outcome.histogram,
        "offset": rows.offset,
        "X": np.ascontiguousarray(rows.X),
        "weights": weights,
        "codes": np.array([block.codes for block in blocks], dtype=np.int64) if blocks else none.astype(np.int64),
        "values": np.concatenate([block.values.T for block in blocks]) if blocks else none,
        "widths": np.array([block.values.shape[1] for block in blocks], dtype=np.int64),
        "levels": np.array([block.n_levels for block in blocks], dtype=np.int64),
        "starts": np.array([layout.starts[f] for f in order], dtype=np.int64),
        "mode": coordinates.mode,
        "root": np.ascontiguousarray(coordinates.root),
        "information": _joined([block.information for block in every]),
        "mixing": _joined([block.mixing for block in coordinates.coarse]),
        "pull": _joined([block.pull for block in coordinates.coarse]),
        "shift": _joined([block.shift for block in every]),
        "beta_location": priors.beta_location,
        "beta_precision": priors.beta_precision,
    }


def placeholder_data() -> Arrays:
    """Empty arrays of the right types, to compile with."""
    vectors = ("y", "size", "once", "offset", "weights", "mode", "information", "mixing", "pull", "shift", "beta_location")
    data: Arrays = {name: np.zeros(1) for name in vectors}
    data |= {name: np.zeros((1, 1)) for name in ("histogram", "X", "values", "root", "beta_precision")}
    data |= {name: np.zeros(1, dtype=np.int64) for name in ("widths", "levels", "starts")}
    return data | {"kinds": np.zeros(2, dtype=np.int64), "prior": np.zeros((1, 4)), "codes": np.zeros((1, 1), dtype=np.int64)}


def prior_table(layout: Layout, priors: ResolvedPriors) -> Floats:
    """(d, 4) kind, two arguments, whether the prior is on 1 / sqrt(exp(theta)); see ``kernel``."""
    rows: list[tuple[float, float, float, float]] = []
    for block, k in enumerate(layout.widths):
        rows += [_prior_row(prior, 0.0) for prior in priors.sds[block]]
        rows += [(kernel.CORRELATION, float(b), 0.0, 0.0) for b in lkj_exponents(priors.correlations[block], k)]
    if priors.sigma is not None:
        rows.append(_prior_row(priors.sigma, 0.0))
    if priors.dispersion is not None:
        rows.append(_prior_row(priors.dispersion, 1.0))
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def build_model(data: Arrays, n_theta: int, n_coefficients: int) -> pm.Model:
    """A model with ``theta`` (d,) and ``w`` (p + q,); ``coordinates.coefficients`` turns their draws into coefficients."""
    with pm.Model() as model:
        at = [pm.Data(name, data[name]) for name in ARGUMENTS]
        theta = pm.Flat("theta", shape=n_theta)
        w = pm.Flat("w", shape=n_coefficients)
        pm.Potential("log_posterior", LogPosterior()(theta, w, *at)[0])
    return model


def _prior_row(prior: Prior, inverse_root: float) -> tuple[float, float, float, float]:
    if prior.name == "half_cauchy":
        return kernel.HALF_STUDENT_T, 1.0, prior.arguments[0], inverse_root
    kinds = {
        "half_normal": kernel.HALF_NORMAL,
        "half_student_t": kernel.HALF_STUDENT_T,
        "exponential": kernel.EXPONENTIAL,
        "log_normal": kernel.LOG_NORMAL,
    }
    first, second = (*prior.arguments, 0.0)[:2]
    return kinds[prior.name], first, second, inverse_root


def _joined(arrays: list[Floats]) -> Floats:
    return np.concatenate([np.ravel(array) for array in arrays]) if arrays else np.zeros(0)
