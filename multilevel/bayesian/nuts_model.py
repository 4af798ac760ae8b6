"""The PyMC model in the coordinates of ``coordinates.py``: two flat vectors, index arrays, one potential.

All arrays are ``pm.Data``, so that a refit on new statistics of the same shape of model reuses the compiled one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from multilevel.bayesian.coordinates import Coordinates, conditional_effects, covariance_factor
from multilevel.bayesian.families import Outcome, log_likelihood
from multilevel.bayesian.parameters import Layout, log_prior
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.cells import Floats, Integers
from multilevel.reduction import ReducedRows

type Arrays = dict[str, Floats | Integers]


def model_data(rows: ReducedRows, outcome: Outcome, coordinates: Coordinates, priors: ResolvedPriors, weights: Floats) -> Arrays:
    """Every array of the model by its name in it."""
    data: Arrays = {
        "y": outcome.outcome,
        "offset": rows.offset,
        "X": rows.X,
        "mode": coordinates.mode,
        "root": coordinates.root,
        "beta_location": priors.beta_location,
        "beta_precision": priors.beta_precision,
    }
    data |= {name: value for name, value in _likelihood_data(outcome).items() if name in _USED[outcome.family]}
    for f, block in enumerate(rows.blocks):
        data[f"codes_{f}"] = block.codes.astype(np.int64)
        data[f"values_{f}"] = np.ascontiguousarray(block.values.T)
    for coarse in coordinates.coarse:
        data[f"information_{coarse.block}"] = _flat(coarse.information)
        data |= {f"mixing_{coarse.block}": coarse.mixing, f"shift_{coarse.block}": coarse.shift, f"pull_{coarse.block}": coarse.pull}
    if coordinates.fine is not None:
        data[f"information_{coordinates.fine.block}"] = _flat(coordinates.fine.information)
        data |= {f"shift_{coordinates.fine.block}": coordinates.fine.shift, "weights": weights}
    return data


_USED = {
    "gaussian": ("once",),
    "binomial": ("size",),
    "poisson": ("size",),
    "negative_binomial": ("n", "histogram"),
    "gamma": ("n", "once"),
}
"""What each family's likelihood reads besides ``y``: a compiled model knows no other data."""


def _likelihood_data(outcome: Outcome) -> Arrays:
    return {
        "size": outcome.size.astype(np.float64),
        "n": outcome.n.astype(np.float64),
        "histogram": outcome.histogram,
        "once": np.array([outcome.residual_ss, float(outcome.n_rows), outcome.sum_log_outcome]),
    }


def build_model(data: Arrays, outcome: Outcome, coordinates: Coordinates, layout: Layout, priors: ResolvedPriors) -> Any:
    """A ``pm.Model`` with ``theta`` (d,) and ``w`` (p + q,); ``coordinates.coefficients`` turns their draws into coefficients."""
    import pymc as pm
    import pytensor.tensor as pt

    with pm.Model() as model:
        at = {name: pm.Data(name, value) for name, value in data.items()}
        theta = pm.Flat("theta", shape=layout.size)
        w = pm.Flat("w", shape=_size(coordinates))
        eta, log_density = _Graph(at, coordinates, layout, pt).predictor(theta, w)
        once: Any = at.get("once", np.zeros(3))
        symbolic = Outcome(
            outcome.family,
            at["y"],
            at.get("size", outcome.size),
            at.get("n", outcome.n),
            once[1],
            once[0],
            at.get("histogram", outcome.histogram),
            once[2],
        )
        scale = pt.exp(theta[-1]) if layout.with_scale else 1.0
        likelihood = log_likelihood(symbolic, eta, scale, pt)
        pm.Potential("log_posterior", likelihood + log_density + log_prior(theta, layout, priors, pt))
    return model


class _Graph:
    """The linear predictor and the log prior of the coefficients, in PyTensor."""

    def __init__(self, at: dict[str, Any], coordinates: Coordinates, layout: Layout, pt: Any) -> None:
        self.at, self.coordinates, self.layout, self.pt = at, coordinates, layout, pt

    def predictor(self, theta: Any, w: Any) -> tuple[Any, Any]:
        """eta (R,), and the log prior density of what w stands for."""
        at, pt, p = self.at, self.pt, self.coordinates.n_population
        beta = at["mode"][:p] + at["root"] @ w[:p]
        off = beta - at["beta_location"]
        log_density = -0.5 * pt.sum(off * (at["beta_precision"] @ off))
        eta = at["offset"] + at["X"] @ beta
        found, place = beta, p
        for block in self.coordinates.coarse:
            f, size = block.block, len(block.mixing)
            h = at[f"shift_{f}"] + at[f"pull_{f}"] @ (found - at["mode"][:place])
            columns, part = self._effects(f, theta, h, at[f"mixing_{f}"] @ w[place : place + size])
            eta, log_density = eta + self._contribution(f, columns), log_density + part
            found, place = pt.concatenate([found, _interleave(columns, pt)]), place + size
        if self.coordinates.fine is not None:
            f = self.coordinates.fine.block
            columns, part = self._effects(f, theta, self._fine_terms(f, eta), w[place:])
            eta, log_density = eta + self._contribution(f, columns), log_density + part
        return eta, log_density

    def _fine_terms(self, f: int, eta: Any) -> Any:
        """h of the finest block: Z' W (working response - eta of everything else)."""
        at, pt = self.at, self.pt
        weighted = at["weights"] * (eta - at["offset"])
        empty = pt.zeros((at[f"information_{f}"].shape[1],))
        sums = [pt.inc_subtensor(empty[at[f"codes_{f}"]], weighted * at[f"values_{f}"][i]) for i in range(self.layout.widths[f])]
        return at[f"shift_{f}"] - _interleave(sums, pt)

    def _effects(self, f: int, theta: Any, h: Any, z: Any) -> tuple[list[Any], Any]:
        k = self.layout.widths[f]
        info = [[self.at[f"information_{f}"][i * k + j] for j in range(k)] for i in range(k)]
        columns = [slice(i, None, k) for i in range(k)]
        factor = covariance_factor(theta, self.layout, f, self.pt)
        effects, square, log_diagonal = conditional_effects(factor, info, [h[c] for c in columns], [z[c] for c in columns], self.pt)
        return effects, -0.5 * square - log_diagonal

    def _contribution(self, f: int, columns: list[Any]) -> Any:
        return sum(self.at[f"values_{f}"][i] * column[self.at[f"codes_{f}"]] for i, column in enumerate(columns))


def _interleave(columns: list[Any], pt: Any) -> Any:
    """Columns of (L,) as one level-major (L k,) vector."""
    return columns[0] if len(columns) == 1 else pt.stack(columns, axis=1).flatten()


def _flat(information: Floats) -> Floats:
    """(L, k, k) as (k k, L): one contiguous row per entry."""
    return np.ascontiguousarray(information.reshape(len(information), -1).T)


def _size(coordinates: Coordinates) -> int:
    fine = 0 if coordinates.fine is None else len(coordinates.fine.shift)
    return coordinates.n_population + sum(len(block.mixing) for block in coordinates.coarse) + fine
