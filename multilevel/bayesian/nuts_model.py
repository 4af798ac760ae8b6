"""The PyMC model: two flat vectors in the coordinates of ``coordinates.py`` and one potential, the compiled log posterior.

The data are ``pm.Data``: a refit of a family with as many parameters, on whatever data and priors, reuses the compiled model.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numba import njit, types
from numba.experimental.function_type import _get_wrapper_address
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch import numba_funcify

from multilevel.arrays import Codes, Floats, Integers
from multilevel.bayesian import kernel
from multilevel.bayesian.coordinates import CoarseBlock, Coordinates, FineBlock
from multilevel.bayesian.distributions import Prior
from multilevel.bayesian.parameters import Layout, lkj_exponents
from multilevel.bayesian.pilot import Pilot
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.design.reduction import ReducedRows
from multilevel.families.family import Family
from multilevel.families.outcome import Outcome

type Arrays = dict[str, Floats | Integers | Codes]

PACKED = (
    "prior", "y", "size", "offset", "weights", "once", "histogram", "X", "values", "mode", "joint_information", "joint_shift",
    "information", "mixing", "pull", "shift", "beta_location", "beta_precision", "units",
)  # fmt: skip
"""The order of ``numbers`` in ``kernel.packed_log_posterior``."""


class LogPosterior(Op):
    """``kernel.packed_log_posterior`` as a node: its value, and its gradients as further outputs."""

    __props__ = ("family",)

    def __init__(self, family: Family) -> None:
        self.family = family

    def make_node(self, x: Any, w: Any, numbers: Any, counts: Any) -> Any:
        """Value, gradient in x, gradient in w."""
        inputs = [pt.as_tensor_variable(item) for item in (x, w, numbers, counts)]
        return Apply(self, inputs, [pt.dscalar(), pt.dvector(), pt.dvector()])

    def perform(self, node: Any, inputs: list[Any], outputs: list[list[Any]]) -> None:
        """Evaluate, outside compiled code."""
        value, g_theta, g_w = compiled_density(self.family)(*inputs)
        outputs[0][0], outputs[1][0], outputs[2][0] = value, g_theta, g_w

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        """Only the value is ever differentiated."""
        return [cotangents[0] * outputs[1], cotangents[0] * outputs[2], *(DisconnectedType()() for _ in inputs[2:])]

    def connection_pattern(self, node: Any) -> list[list[bool]]:
        """Data are constants."""
        return [[True, True, True] if at < 2 else [False] * 3 for at in range(len(node.inputs))]


@numba_funcify.register(LogPosterior)
def _compiled(op: LogPosterior, **_: Any) -> Any:
    return compiled_density(op.family)


class _Pointer(types.WrapperAddressProtocol):
    """Compiled code that is called by its address: called by its name it would be compiled again into every function that calls it."""

    def __init__(self, function: Any, signature: Any) -> None:
        if signature.args not in function.overloads:
            function.compile(signature)
        self._function, self._signature = function, signature

    def __wrapper_address__(self) -> Any:
        """Address of the compiled code."""
        return _get_wrapper_address(self._function, self._signature)

    def signature(self) -> Any:
        """Types of its arguments and of its value."""
        return self._signature


@cache
def compiled_density(family: Family) -> Any:
    """``kernel.packed_log_posterior`` of a family, without its last argument."""
    log_density = _Pointer(family.log_density, kernel.LOG_DENSITY)
    packed = _Pointer(kernel.packed_log_posterior, kernel.PACKED)

    @njit(nogil=True)
    def log_posterior(x, w, numbers, counts):  # type: ignore[no-untyped-def]
        return packed(np.ascontiguousarray(x), np.ascontiguousarray(w), numbers, counts, log_density)

    return log_posterior


def model_data(
    rows: ReducedRows, outcome: Outcome, coordinates: Coordinates, layout: Layout, priors: ResolvedPriors, *, pilot: Pilot
) -> Arrays:
    """Every array of the model by its name in it, in the kernel's order."""
    order = coordinates.order
    blocks = [rows.blocks[f] for f in order]
    every: list[CoarseBlock | FineBlock] = [*coordinates.coarse, *([] if coordinates.fine is None else [coordinates.fine])]
    none = np.zeros((0, len(rows.outcome)))
    return {
        "kinds": np.array([int(layout.with_scale), len(coordinates.joint.blocks)]),
        "prior": prior_table(layout, priors),
        "y": outcome.outcome,
        "size": outcome.size.astype(np.float64),
        "once": outcome.numbers,
        "histogram": outcome.histogram,
        "offset": rows.offset,
        "X": np.ascontiguousarray(rows.X),
        "weights": pilot.weights,
        "codes": np.array([block.codes for block in blocks], dtype=np.int64) if blocks else none.astype(np.int64),
        "values": np.concatenate([block.values.T for block in blocks]) if blocks else none,
        "widths": np.array([block.values.shape[1] for block in blocks], dtype=np.int64),
        "levels": np.array([block.n_levels for block in blocks], dtype=np.int64),
        "starts": np.array([layout.starts[f] for f in order], dtype=np.int64),
        "mode": coordinates.mode,
        "joint_information": np.ascontiguousarray(coordinates.joint.information),
        "joint_shift": coordinates.joint.shift,
        "information": _joined([block.information for block in every]),
        "mixing": _joined([block.mixing for block in coordinates.coarse]),
        "pull": _joined([block.pull for block in coordinates.coarse]),
        "shift": _joined([block.shift for block in every]),
        "beta_location": priors.beta_location,
        "beta_precision": priors.beta_precision,
        "units": sd_units(layout, pilot),
    }


def pack(data: Arrays) -> Arrays:
    """``numbers`` and ``counts``, as ``kernel.packed_log_posterior`` takes them apart."""
    head = [*data["kinds"], *data["X"].shape, len(data["widths"]), len(data["histogram"])]
    counts = [np.array(head), np.ravel(data["codes"]), data["widths"], data["levels"], data["starts"]]
    numbers = np.concatenate([np.ravel(data[name]) for name in PACKED])
    return {"numbers": numbers.astype(np.float64), "counts": np.concatenate(counts).astype(np.int32)}


def sd_units(layout: Layout, pilot: Pilot) -> Floats:
    """(d,) the pilot's sds in the places of the sds, zero elsewhere."""
    units = np.zeros(layout.size)
    for start, k, covariance in zip(layout.starts, layout.widths, pilot.covariances, strict=True):
        units[start : start + k] = np.sqrt(np.diag(covariance))
    return units


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


def build_model(packed: Arrays, family: Family, n_theta: int, n_coefficients: int) -> pm.Model:
    """A model with ``x`` (d,), theta stretched, and ``w`` (p + q,), which ``coordinates.coefficients`` turns into coefficients."""
    with pm.Model() as model:
        numbers, counts = pm.Data("numbers", packed["numbers"]), pm.Data("counts", packed["counts"])
        x = pm.Flat("x", shape=n_theta)
        w = pm.Flat("w", shape=n_coefficients)
        pm.Potential("log_posterior", LogPosterior(family)(x, w, numbers, counts)[0])
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
