"""The curvature of the Laplace deviance in theta without a difference: the average information of the working linear mixed model.

At the conditional modes, with weights W, the working outcome y has the variance V = W^-1 + Z Sigma Z' and P y = s, the score of the rows.
The mean of the observed and the expected information is then (V_i s)'P (V_j s) on the deviance's scale, one solve a parameter (Gilmour,
Thompson and Cullis 1995, eq. 7; Breslow and Clayton 1993 for the working model). V_i = Z (E_i Lambda' + Lambda E_i') Z' for the entry i of
Lambda. How W itself follows theta is left out: this is where searches begin, not what is published.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.generalised.pirls import Mode
from multilevel.generalised.reweighting import Reweighting, solve
from multilevel.linear.theta import Theta

FLATTEST = 1e-6
"""Curvature relative to the steepest below which a first step is no longer than if it had this one."""


@dataclass(frozen=True)
class Information:
    """average : (nt, nt) in theta, coefficients at their modes. basis_moves : (p, nt) derivative of gamma's mode."""

    average: Floats
    basis_moves: Floats


def average_information(layout: Reweighting, theta_layout: Theta, mode: Mode) -> Information:
    """At the joint mode of effects and coefficients."""
    n, weight = theta_layout.n, mode.curvature.weight
    score = layout.by_block(layout.transposed(mode.curvature.score))
    moves, images = [], []
    basis_moves = np.zeros((layout.basis.shape[1], n))
    for index in range(n):
        entries = theta_layout.lambdas(np.eye(n)[index])
        turns = [entry @ own.T for entry, own in zip(entries, mode.factor.lambdas, strict=True)]
        move = layout.from_blocks([part @ (turn + turn.T) for part, turn in zip(score, turns, strict=True)], np.zeros(len(basis_moves)))
        moved = layout.linear(move)
        follow, _ = solve(mode.factor, layout.transposed(weight * moved), with_basis=True)
        basis_moves[:, index] = -follow.basis
        moves.append(move)
        images.append(layout.transposed(weight * (moved - layout.linear(follow))))
    average = np.array([[move.dot(image) for image in images] for move in moves]).reshape(n, n)
    return Information((average + average.T) / 2.0, basis_moves)


def second_order(theta_layout: Theta, theta: Floats, gradient: Floats) -> Floats:
    """(nt, nt) what the deviance's ``gradient`` (nt,) in theta adds to its curvature, since Sigma = Lambda Lambda' is not linear in theta.

    With G the derivative in Sigma, the derivative in Lambda is 2 G Lambda, which gives G column by column, and the second one has
    2 G_ab for entries (a, c) and (b, c). Only the directions in which it is positive count: towards a variance of zero.
    """
    found, start = np.zeros((theta_layout.n, theta_layout.n)), 0
    for k, own, slope in zip(theta_layout.sizes, theta_layout.lambdas(theta), theta_layout.lambdas(gradient), strict=True):
        columns, rows = np.triu_indices(k)
        by_sigma = _by_sigma(own, slope)
        values, vectors = np.linalg.eigh(by_sigma)
        upwards = (vectors * np.maximum(values, 0.0)) @ vectors.T
        same_column = columns[:, None] == columns[None, :]
        here = slice(start, start + len(rows))
        found[here, here] = np.where(same_column, 2.0 * upwards[np.ix_(rows, rows)], 0.0)
        start += len(rows)
    return found


def _by_sigma(own: Floats, slope: Floats) -> Floats:
    """(k, k) symmetric G with the lower triangle of 2 G Lambda = ``slope``; zero where Lambda's diagonal says nothing of it."""
    k = len(own)
    found = np.zeros((k, k))
    for column in reversed(range(k)):
        if own[column, column] == 0.0:
            continue
        for row in reversed(range(column, k)):
            known = found[row, column + 1 :] @ own[column + 1 :, column]
            found[row, column] = found[column, row] = (slope[row, column] / 2.0 - known) / own[column, column]
    return found


def bounded_inverse(hessian: Floats) -> Floats:
    """Of a symmetric matrix, its eigenvalues taken as positive and no smaller than ``FLATTEST`` of the largest."""
    values, vectors = np.linalg.eigh(hessian)
    size = np.abs(values)
    return np.asarray((vectors / np.maximum(size, FLATTEST * max(float(np.max(size)), 1e-300))) @ vectors.T)
