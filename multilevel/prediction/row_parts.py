"""One saved model at rows of a table: its linear predictor there, with what is unknown of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from multilevel.arrays import Floats
from multilevel.estimands.response import response_for
from multilevel.families.link import Link
from multilevel.fit.interval_estimates import ONE, Moments
from multilevel.fit.joint_draws import evenly_spaced
from multilevel.prediction.prediction_rows import PredictionRows
from multilevel.prediction.saved_model import SavedModel

MOST_DRAWS = 500
"""Draws of the next outcome's distribution that are kept, evenly: a bound's error is then a twentieth of the spread of what is unknown."""


class RowPart:
    """One model at the rows. size : (N,) trials or weight of each row's next outcome, where that is asked for."""

    def __init__(self, model: SavedModel, rows: PredictionRows, size: Floats | None, seed: int) -> None:
        self.model, self.rows = model, rows
        self.size: Floats = np.ones(rows.rows.shape[0]) if size is None else size
        self.response: Link = response_for(model.family, model.log_outcome)
        n_draws = model.joint.row_values if model.has_draws else 1
        # one place of an even grid for each draw: the quantiles of the mixture without the noise of its normal numbers
        rng, grid = np.random.default_rng(seed), np.asarray(ndtri((np.arange(n_draws) + 0.5) / n_draws))
        self.of_effects: Floats = rng.permutation(grid)
        self.of_variance: Floats = rng.permutation(grid)

    def centre(self, here: slice) -> Floats:
        """(n,) linear predictor at the estimates, half of sigma^2 included under ``log(y)``."""
        rows, log_variance = self.rows, self.rows.log_variance
        half = 0.0 if log_variance is None else np.exp(log_variance[here]) / 2.0
        return np.asarray(rows.rows[here] @ self.model.mean + rows.offset[here] + half)

    def moments(self, here: slice) -> Moments:
        """(n, K) of the linear predictor, half of sigma^2 included under ``log(y)``."""
        rows = csr_array(self.rows.rows[here])
        found, estimate = self.model.conditional(rows), np.asarray(rows @ self.model.mean)
        return replace(found, mean=found.mean + (self.centre(here) - estimate)[:, None])

    def variance_error(self, here: slice) -> Floats | None:
        """(n,) sd of sigma^2 / 2, None where the outcome is no logarithm."""
        rows = self.rows
        if rows.log_variance is None or rows.log_variance_error is None:
            return None
        return np.exp(rows.log_variance[here]) / 2.0 * rows.log_variance_error[here]

    def unseen(self, here: slice, draws: bool) -> Floats:
        """(n, S) or (n, 1) variance of the effects never seen."""
        size = here.stop - here.start
        total = np.zeros((size, len(self.of_effects) if draws else 1))
        for new in self.rows.new:
            inside = (new.rows >= here.start) & (new.rows < here.stop)
            z = new.z[inside] @ self.model.maps[new.block]
            if draws and self.model.covariance_draws is not None:
                part = np.einsum("nk,skl,nl->ns", z, self.model.covariance_draws[new.block].astype(np.float64), z, optimize=True)
            else:
                part = np.einsum("nk,kl,nl->n", z, self.model.covariances[new.block], z)[:, None]
            total[new.rows[inside] - here.start] += part
        return total

    def unseen_points(self, here: slice) -> tuple[Floats, Floats]:
        """(n, T) the same at each point of theta, and the weights of the points; (n, 1) where none were kept or nothing is new."""
        points, weights = self.model.covariance_points, self.model.point_weights
        if points is None or weights is None or not self.rows.new:
            return self.unseen(here, draws=False), ONE
        total = np.zeros((here.stop - here.start, len(points[0])))
        for new in self.rows.new:
            inside = (new.rows >= here.start) & (new.rows < here.stop)
            z = new.z[inside] @ self.model.maps[new.block]
            total[new.rows[inside] - here.start] += np.einsum("nk,tkl,nl->nt", z, points[new.block], z, optimize=True)
        return total, weights

    def predictor(self, here: slice) -> Moments:
        """(n, K) of the linear predictor itself, effects never seen included; where there are no draws."""
        found, half = self.moments(here), self.centre(here) - self.bare_centre(here)
        return replace(found, mean=found.mean - half[:, None]).wider(*self.unseen_points(here))

    def drawn(self, here: slice) -> tuple[Moments, Floats]:
        """(n, S) linear predictors, each draw a point without variance, and the scale (n, S) beside each."""
        picks = evenly_spaced(self.model.joint.row_values, MOST_DRAWS)
        eta = self.bare_centre(here)[:, None] + self.model.spread(csr_array(self.rows.rows[here]))
        eta = (eta + np.sqrt(self.unseen(here, draws=True)) * self.of_effects)[:, picks]
        if self.rows.log_variance is None and self.model.scale_draws is not None:
            scale = np.broadcast_to(self.model.scale_draws[picks].astype(np.float64), eta.shape)
        else:
            centre, error = self.log_scale(here)
            scale = np.exp(centre[:, None] + error[:, None] * self.of_variance[picks])
        return Moments(eta, np.zeros(eta.shape), np.full(len(picks), 1.0 / len(picks))), scale

    def bare_centre(self, here: slice) -> Floats:
        """(n,) linear predictor at the estimates."""
        return np.asarray(self.rows.rows[here] @ self.model.mean + self.rows.offset[here])

    def log_scale(self, here: slice) -> tuple[Floats, Floats]:
        """(n,) logarithm of sigma, phi or shape at the rows, and the sd of what is unknown of it; 0 without a scale."""
        rows = self.rows
        if rows.log_variance is not None and rows.log_variance_error is not None:
            return rows.log_variance[here] / 2.0, rows.log_variance_error[here] / 2.0
        n = here.stop - here.start
        centre = 0.0 if self.model.scale is None else float(np.log(self.model.scale))
        return np.full(n, centre), np.full(n, self.model.log_scale_error)
