"""R-hat and effective sample sizes of many parameters at once (Vehtari et al. 2021), and the gates they feed.

ArviZ computes the same figures one parameter at a time; here they are computed for a few hundred together, because every effect counts
and there may be thousands.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri

from multilevel.arrays import Floats
from multilevel.fit.container import Check

MAX_R_HAT = 1.01
MIN_ESS = 400.0
CHUNK = 200


@dataclass(frozen=True)
class Convergence:
    """Per parameter (n,): rank-normalised split R-hat (the larger of bulk and folded), bulk ESS, tail ESS (5 and 95 %)."""

    r_hat: Floats
    ess_bulk: Floats
    ess_tail: Floats


def convergence(chains: Floats) -> Convergence:
    """Figures of (chains, draws, n) draws; a parameter that never moves has ESS 1 and an infinite R-hat."""
    parts = [chains[:, :, at : at + CHUNK] for at in range(0, chains.shape[2], CHUNK)]
    with ThreadPoolExecutor(2) as pool:  # sorting and Fourier transforms release the interpreter
        pieces = list(pool.map(_convergence, parts))
    return Convergence(*(np.concatenate([piece[i] for piece in pieces]) if pieces else np.empty(0) for i in range(3)))


def joined(first: Convergence, second: Convergence) -> Convergence:
    """The figures of both lots of parameters, in this order."""
    pairs = ((getattr(first, name), getattr(second, name)) for name in ("r_hat", "ess_bulk", "ess_tail"))
    return Convergence(*(np.concatenate(pair) for pair in pairs))


def convergence_checks(names: Sequence[str], found: Convergence) -> tuple[Check, Check, Check]:
    """The gates on R-hat, bulk ESS and tail ESS over all parameters, each naming the worst one."""
    worst_r, worst_bulk, worst_tail = int(np.argmax(found.r_hat)), int(np.argmin(found.ess_bulk)), int(np.argmin(found.ess_tail))
    r_hat, bulk, tail = float(found.r_hat[worst_r]), float(found.ess_bulk[worst_bulk]), float(found.ess_tail[worst_tail])
    over = f"of {len(names)} parameters"
    return (
        Check("max_r_hat", r_hat, MAX_R_HAT, r_hat <= MAX_R_HAT, f"The largest R-hat {over} is that of {names[worst_r]}.", True),
        Check("min_ess_bulk", bulk, MIN_ESS, bulk >= MIN_ESS, f"The smallest bulk ESS {over} is that of {names[worst_bulk]}.", True),
        Check("min_ess_tail", tail, MIN_ESS, tail >= MIN_ESS, f"The smallest tail ESS {over} is that of {names[worst_tail]}.", True),
    )


def _convergence(chains: Floats) -> tuple[Floats, Floats, Floats]:
    half = chains.shape[1] // 2
    split = np.concatenate([chains[:, :half], chains[:, -half:]])
    x = np.ascontiguousarray(np.moveaxis(split, 2, 0))  # (n, 2 chains, half)
    flat = x.reshape(len(x), -1)
    lower, median, upper = (q[:, None, None] for q in np.quantile(flat, [0.05, 0.5, 0.95], axis=1))
    bulk = _rank_normalise(x)
    r_hat = np.maximum(_r_hat(bulk), _r_hat(_rank_normalise(np.abs(x - median))))
    tail = np.minimum(_ess((x <= lower).astype(np.float64)), _ess((x <= upper).astype(np.float64)))
    return r_hat, _ess(bulk), tail


def _rank_normalise(x: Floats) -> Floats:
    flat = x.reshape(len(x), -1)
    size = flat.shape[1]
    order = np.argsort(flat, axis=1)
    scores = np.empty_like(flat)
    np.put_along_axis(scores, order, ndtri((np.arange(1, size + 1) - 0.375) / (size + 0.25))[None], axis=1)
    sorted_values = np.take_along_axis(flat, order, axis=1)
    tied = np.flatnonzero((sorted_values[:, 1:] == sorted_values[:, :-1]).any(axis=1))
    if len(tied):
        # SciPy's statistics take a second to import, and only ties need them
        from scipy.stats import rankdata

        scores[tied] = ndtri((rankdata(flat[tied], axis=1) - 0.375) / (size + 0.25))
    return scores.reshape(x.shape)


def _r_hat(x: Floats) -> Floats:
    draws = x.shape[2]
    within = x.var(axis=2, ddof=1).mean(axis=1)
    between = draws * x.mean(axis=2).var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.sqrt((between / within + draws - 1) / draws), nan=np.inf)


def _ess(x: Floats) -> Floats:
    """Geyer's initial monotone sequence over (n, chains, draws)."""
    n_chains, draws = x.shape[1:]
    centred = x - x.mean(axis=2, keepdims=True)
    size = next_fast_len(2 * draws)
    transformed = rfft(centred, size, axis=2)
    covariance = irfft(np.abs(transformed) ** 2, size, axis=2)[:, :, :draws].mean(axis=1) / draws
    within = covariance[:, 0] * draws / (draws - 1.0)
    total = within * (draws - 1.0) / draws + (x.mean(axis=2).var(axis=1, ddof=1) if n_chains > 1 else 0.0)
    moving = total > 0
    safe = np.where(moving, total, 1.0)
    rho = 1.0 - (within[:, None] - covariance * draws / (draws - 1.0)) / safe[:, None]
    rho[:, 0] = 1.0
    pairs = rho[:, 0 : draws - 1 : 2] + rho[:, 1:draws:2]
    positive = np.logical_and.accumulate(pairs > 0, axis=1)
    positive[:, 0] = True
    monotone = np.minimum.accumulate(np.where(positive, pairs, 0.0), axis=1) * positive
    monotone[:, 0] = pairs[:, 0]
    last = np.minimum(positive.sum(axis=1), pairs.shape[1] - 1)
    following = rho[np.arange(len(rho)), np.minimum(2 * last, draws - 1)]
    tau = -1.0 + 2.0 * monotone.sum(axis=1) + np.maximum(following, 0.0)
    ess = n_chains * draws / np.maximum(tau, 1.0 / np.log10(n_chains * draws))
    return np.where(moving, ess, 1.0)
