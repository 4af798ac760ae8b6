"""The log posterior with its gradient, compiled once for all models; in one file, since numba would not notice changes in another.

Written out by hand because a symbolic gradient costs a minute to compile for each new shape of model, and this costs nothing after the
first time on a machine. What it computes is documented in ``coordinates.py`` and ``multilevel.families``; the tests hold it against them.
Every ``_..._back`` returns or adds adjoints: the derivative of the log posterior with respect to its function's inputs.
"""

# Compiled code is untyped to mypy, has no use for keyword arguments, and reads best with each pass in one piece.
# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: PLR0912, PLR0915

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

HALF_NORMAL, HALF_STUDENT_T, EXPONENTIAL, LOG_NORMAL, CORRELATION = range(5)


_VECTOR = types.float64[::1]
# data come as arrays that may not be written
_DATA = types.Array(types.float64, 1, "C", readonly=True)
_TABLE = types.Array(types.float64, 2, "C", readonly=True)
_COUNTS = types.Array(types.int32, 1, "C", readonly=True)

LOG_DENSITY = types.float64(_DATA, _DATA, _DATA, _TABLE, _VECTOR, types.float64, _VECTOR, _VECTOR)
"""Signature of ``Family.log_density``: a family comes as a pointer to compiled code, so that all of them share the code here."""

PACKED = types.Tuple((types.Array(types.float64, 0, "C"), _VECTOR, _VECTOR))(
    _VECTOR, _VECTOR, _DATA, _COUNTS, types.FunctionType(LOG_DENSITY)
)


@njit(cache=True, nogil=True)
def log_posterior(
    theta, w, kinds, prior, y, size, once, histogram, offset, X, weights, codes, values, widths, levels, starts, mode, joint_information,
    joint_shift, information, mixing, pull, shift, beta_location, beta_precision, log_density,
):  # fmt: skip
    """Value and gradients (d,), (p + q,).

    theta (d,), w (p + q,); kinds: whether theta ends with log sigma, phi or shape, and how many blocks are joint with beta; prior (d, 4):
    kind, two arguments, and 1 where the prior speaks of 1 / sqrt(exp(theta)); y, size, offset, weights (R,); once: residual_ss, N, sum of
    log y; codes (B, R), values (K, R), widths, levels, starts (in theta) (B,): blocks in the pilot's order; mode, joint_information (m, m),
    joint_shift (m,) and the flat arrays as in ``coordinates``; log_density: the family's.
    """
    p, m, n_blocks, n_rows, n_joint = X.shape[1], len(joint_shift), len(widths), len(y), kinds[1]
    value, g_theta = _log_prior(theta, prior)
    g_w = np.zeros(len(w))
    factors = _factors(theta, widths, starts)
    spread, ends = _spread(factors, widths, levels, n_joint, p, m)
    informed, root, inverse = _joint_root(spread, ends, joint_information, p)
    joint_x = inverse @ (spread.T @ joint_shift)
    joint_v = inverse.T @ (joint_x + w[:m])
    first = spread @ joint_v
    for i in range(m):
        value -= math.log(root[i, i])
        if i >= p:
            value -= 0.5 * joint_v[i] ** 2
    beta = first[:p].copy()
    pull_back = beta_precision @ (beta - beta_location)
    value -= 0.5 * np.dot(beta - beta_location, pull_back)

    # forward: coefficients block by block, and the linear predictor
    eta = offset + X @ beta
    off = np.zeros(len(w))  # coefficients of beta and all blocks but the finest, minus their mode
    off[:m] = first - mode[:m]
    u = np.zeros(len(w))
    x0, h = np.zeros(len(w)), np.zeros(len(w))
    effects = np.zeros(len(w))
    at, row, at_info, at_mix, at_pull = p, 0, 0, 0, 0
    for block in range(n_joint):
        k = widths[block]
        for i in range(k):
            for r in range(n_rows):
                eta[r] += values[row + i, r] * first[at + codes[block, r] * k + i]
        at, row = at + k * levels[block], row + k
    for block in range(n_joint, n_blocks):
        k, n = widths[block], levels[block]
        count = k * n
        own = slice(at, at + count)
        is_fine = block == n_blocks - 1
        h[own] = shift[at - m : at - m + count]
        if is_fine:
            z = w[own]
            for i in range(k):
                for r in range(n_rows):
                    h[at + codes[block, r] * k + i] -= weights[r] * values[row + i, r] * (eta[r] - offset[r])
        else:
            h[own] += pull[at_pull : at_pull + count * at].reshape((count, at)) @ off[:at]
            z = mixing[at_mix : at_mix + count * count].reshape((count, count)) @ w[own]
        value += _effects(factors[block], information[at_info:], h[own], z, k, n, u[own], x0[own], effects[own])
        for i in range(k):
            for r in range(n_rows):
                eta[r] += values[row + i, r] * effects[at + codes[block, r] * k + i]
        if not is_fine:
            off[own] = effects[own] - mode[own]
            at_mix += count * count
            at_pull += count * at
        at, row, at_info = at + count, row + k, at_info + n * k * k

    scale = math.exp(theta[-1]) if kinds[0] else 1.0
    g_eta, g_scale = np.empty(n_rows), np.empty(1)
    value += log_density(y, size, once, histogram, eta, scale, g_eta, g_scale)
    if kinds[0]:
        g_theta[-1] += scale * g_scale[0]

    # backward, in the opposite order
    g_off = np.zeros(len(w))
    for block in range(n_blocks - 1, n_joint - 1, -1):
        k, n = widths[block], levels[block]
        count = k * n
        at, row, at_info = at - count, row - k, at_info - n * k * k
        own = slice(at, at + count)
        is_fine = block == n_blocks - 1
        g_b = g_off[own].copy()
        for i in range(k):
            for r in range(n_rows):
                g_b[codes[block, r] * k + i] += values[row + i, r] * g_eta[r]
        g_h, g_z, g_factor = _effects_back(factors[block], information[at_info:], h[own], k, n, u[own], x0[own], g_b)
        _factor_back(theta, starts[block], k, factors[block], g_factor, g_theta)
        if is_fine:
            g_w[own] = g_z
            for i in range(k):
                for r in range(n_rows):
                    g_eta[r] -= weights[r] * values[row + i, r] * g_h[codes[block, r] * k + i]
        else:
            at_mix -= count * count
            at_pull -= count * at
            g_w[own] = mixing[at_mix : at_mix + count * count].reshape((count, count)).T @ g_z
            g_off[:at] += pull[at_pull : at_pull + count * at].reshape((count, at)).T @ g_h
    g_first = g_off[:m].copy()
    g_first[:p] += X.T @ g_eta - pull_back
    for block in range(n_joint - 1, -1, -1):
        k = widths[block]
        at, row = at - k * levels[block], row - k
        for i in range(k):
            for r in range(n_rows):
                g_first[at + codes[block, r] * k + i] += values[row + i, r] * g_eta[r]
    g_v = spread.T @ g_first
    g_v[p:] -= joint_v[p:]
    g_z = inverse @ g_v
    g_w[:m] = g_z
    g_right = inverse.T @ g_z
    g_inner = _joint_root_back(inverse, joint_x, w[:m], g_z, g_right)
    g_factor = np.zeros((factors.shape[1], factors.shape[1]))
    at = p
    for block in range(n_joint):
        k = widths[block]
        g_factor[:] = 0.0
        for _ in range(levels[block]):
            for i in range(k):
                for j in range(i + 1):
                    through_inner = np.dot(informed[at + i], g_inner[at + j])
                    g_factor[i, j] += 2.0 * through_inner + g_first[at + i] * joint_v[at + j] + joint_shift[at + i] * g_right[at + j]
            at += k
        _factor_back(theta, starts[block], k, factors[block], g_factor, g_theta)
    return value, g_theta, g_w


@njit(cache=True, nogil=True)
def _spread(factors, widths, levels, n_joint, p, m):
    """T (m, m), block-diagonal: ones for beta, then every level's factor; and (m,) where in each column its level ends."""
    spread, ends = np.zeros((m, m)), np.zeros(m, dtype=np.int64)
    for i in range(p):
        spread[i, i], ends[i] = 1.0, i + 1
    at = p
    for block in range(n_joint):
        k = widths[block]
        for _ in range(levels[block]):
            spread[at : at + k, at : at + k] = factors[block, :k, :k]
            ends[at : at + k] = at + k
            at += k
    return spread, ends


@njit(cache=True, nogil=True)
def _joint_root(spread, ends, information, p):
    """A T, the lower Cholesky factor C of T' A T + 1 (beta without the 1), and its inverse; A is the information."""
    m = len(spread)
    informed, root, inverse = np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m))
    for i in range(m):
        for j in range(m):
            for a in range(j, ends[j]):
                informed[i, j] += information[i, a] * spread[a, j]
    for i in range(m):
        for j in range(i + 1):
            total = 1.0 if i == j and i >= p else 0.0
            for a in range(i, ends[i]):
                total += spread[a, i] * informed[a, j]
            for k in range(j):
                total -= root[i, k] * root[j, k]
            root[i, j] = math.sqrt(total) if i == j else total / root[j, j]
    for i in range(m):
        inverse[i, i] = 1.0 / root[i, i]
        for k in range(i):  # row i of C^-1 from the rows before
            ratio = root[i, k] * inverse[i, i]
            for j in range(k + 1):
                inverse[i, j] -= ratio * inverse[k, j]
    return informed, root, inverse


@njit(cache=True, nogil=True)
def _joint_root_back(inverse, x, z, g_z, g_right):
    """Adjoint of C C' by v = C^-T (x + z), x = C^-1 r and -sum log diag C, where g_right = C^-T g_z.

    In Murray (2016, eq. 8) the triangle of C' g_C is then made of outer products, so that what stands between C^-T and C^-1 is
    x g' + g x' + 1 and the symmetric matrix with lower triangle z g': its product with C^-1 needs running sums alone.
    """
    m = len(inverse)
    x_right = inverse.T @ x
    product, g_inner = np.zeros((m, m)), np.zeros((m, m))
    before, after = np.zeros(m), np.zeros(m)
    for i in range(m):
        for j in range(m):
            before[j] += g_z[i] * inverse[i, j]
            product[i, j] = inverse[i, j] + z[i] * before[j] + x[i] * g_right[j] + g_z[i] * x_right[j]
    for i in range(m - 1, -1, -1):
        for j in range(m):
            product[i, j] += g_z[i] * after[j]
            after[j] += z[i] * inverse[i, j]
    for i in range(m):
        for a in range(i + 1):
            weight = -0.5 * inverse[i, a]
            for b in range(a + 1):
                g_inner[a, b] += weight * product[i, b]
    for a in range(m):
        for b in range(a):
            g_inner[b, a] = g_inner[a, b]
    return g_inner


@njit(cache=True, nogil=True)
def stretch(x, units):
    """theta, its derivative, the log Jacobian and its gradient, of theta = log(unit softplus(x)) where a unit is given, else theta = x.

    On a log scale a prior with light tails is a wall into which a long step crashes; here the sd itself grows no faster than x.
    """
    theta, slope, jacobian, gradient = x.copy(), np.ones(len(x)), 0.0, np.zeros(len(x))
    for i in range(len(x)):
        if units[i] <= 0:
            continue
        if x[i] < -30.0:  # softplus(x) is exp(x)
            theta[i] = math.log(units[i]) + x[i]
            continue
        soft = math.log1p(math.exp(-abs(x[i]))) + max(x[i], 0.0)
        rise = 1.0 / (1.0 + math.exp(-x[i]))
        theta[i] = math.log(units[i]) + math.log(soft)
        slope[i] = rise / soft
        jacobian += math.log(slope[i])
        gradient[i] = 1.0 - rise - slope[i]
    return theta, slope, jacobian, gradient


@njit(cache=True, nogil=True)
def _factors(theta, widths, starts):
    """(B, k, k) Cholesky factors of the covariances, padded to the widest block."""
    widest = 1
    for k in widths:
        widest = max(widest, k)
    factors = np.zeros((len(widths), widest, widest))
    for block in range(len(widths)):
        k, start = widths[block], starts[block]
        at = start + k
        for i in range(k):
            left = math.exp(theta[start + i])
            for j in range(i):
                factors[block, i, j] = left * math.tanh(theta[at])
                left /= math.cosh(theta[at])
                at += 1
            factors[block, i, i] = left
    return factors


@njit(cache=True, nogil=True)
def _factor_back(theta, start, k, factor, g_factor, g_theta):
    at = start + k
    for i in range(k):
        left = math.exp(theta[start + i])
        for j in range(i + 1):
            g_theta[start + i] += g_factor[i, j] * factor[i, j]
        for j in range(i):
            t = math.tanh(theta[at])
            g_theta[at] += g_factor[i, j] * left * (1.0 - t * t)
            for later in range(j + 1, i + 1):
                g_theta[at] -= t * g_factor[i, later] * factor[i, later]
            left /= math.cosh(theta[at])
            at += 1


@njit(cache=True, nogil=True)
def _inner_root(factor, information, level, k, root):
    """Cholesky factor of I + L' I_j L into ``root``."""
    for i in range(k):
        for j in range(i + 1):
            total = 1.0 if i == j else 0.0
            for a in range(i, k):
                for b in range(j, k):
                    total += factor[a, i] * information[level * k * k + a * k + b] * factor[b, j]
            for m in range(j):
                total -= root[i, m] * root[j, m]
            root[i, j] = math.sqrt(total) if i == j else total / root[j, j]


@njit(cache=True, nogil=True)
def _effects(factor, information, h, z, k, n, u, x0, effects):
    """Fill u, x0 = C^-1 L' h and the effects; returns the block's part of the log posterior."""
    root = np.zeros((k, k))
    value = 0.0
    for level in range(n):
        _inner_root(factor, information, level, k, root)
        base = level * k
        for i in range(k):
            total = 0.0
            for m in range(i, k):
                total += factor[m, i] * h[base + m]
            for m in range(i):
                total -= root[i, m] * x0[base + m]
            x0[base + i] = total / root[i, i]
            value -= math.log(root[i, i])
        for i in range(k - 1, -1, -1):
            total = x0[base + i] + z[base + i]
            for m in range(i + 1, k):
                total -= root[m, i] * u[base + m]
            u[base + i] = total / root[i, i]
            value -= 0.5 * u[base + i] ** 2
        for i in range(k):
            total = 0.0
            for j in range(i + 1):
                total += factor[i, j] * u[base + j]
            effects[base + i] = total
    return value


@njit(cache=True, nogil=True)
def _effects_back(factor, information, h, k, n, u, x0, g_b):
    """Adjoints of h, z and L, given those of the effects."""
    g_h, g_z, g_factor = np.zeros(n * k), np.zeros(n * k), np.zeros((k, k))
    root, g_root, g_inner = np.zeros((k, k)), np.zeros((k, k)), np.zeros((k, k))
    g_x, g_v, moved = np.zeros(k), np.zeros(k), np.zeros((k, k))
    for level in range(n):
        _inner_root(factor, information, level, k, root)
        base = level * k
        for i in range(k):  # g_x = C^-1 (L' g_b - u)
            total = -u[base + i]
            for m in range(i, k):
                total += factor[m, i] * g_b[base + m]
            for m in range(i):
                total -= root[i, m] * g_x[m]
            g_x[i] = total / root[i, i]
        for i in range(k - 1, -1, -1):  # g_v = C^-T g_x, v = L' h
            total = g_x[i]
            for m in range(i + 1, k):
                total -= root[m, i] * g_v[m]
            g_v[i] = total / root[i, i]
        for i in range(k):
            g_z[base + i] = g_x[i]
            total = 0.0
            for j in range(i + 1):
                total += factor[i, j] * g_v[j]
                g_factor[i, j] += g_b[base + i] * u[base + j] + h[base + i] * g_v[j]
                g_root[i, j] = -u[base + i] * g_x[j] - g_v[i] * x0[base + j]
            g_h[base + i] = total
            g_root[i, i] -= 1.0 / root[i, i]
        _cholesky_back(root, g_root, k, moved, g_inner)
        for i in range(k):  # A = I + L' I L
            for j in range(k):
                total = 0.0
                for b in range(k):
                    for c in range(b + 1):
                        total += information[level * k * k + i * k + b] * factor[b, c] * g_inner[c, j]
                if j <= i:
                    g_factor[i, j] += 2.0 * total
    return g_h, g_z, g_factor


@njit(cache=True, nogil=True)
def _cholesky_back(root, g_root, k, moved, g_inner):
    """Adjoint of A for A = C C' (Murray 2016, eq. 8): the symmetric part of C^-T Phi(C' g_C) C^-1."""
    for i in range(k):
        for j in range(k):
            total = 0.0
            if j <= i:
                for m in range(i, k):
                    total += root[m, i] * g_root[m, j]
                if i == j:
                    total *= 0.5
            moved[i, j] = total
    for j in range(k):  # C^-T from the left
        for i in range(k - 1, -1, -1):
            for m in range(i + 1, k):
                moved[i, j] -= root[m, i] * moved[m, j]
            moved[i, j] /= root[i, i]
    for i in range(k):  # C^-1 from the right
        for j in range(k - 1, -1, -1):
            for m in range(j + 1, k):
                moved[i, j] -= moved[i, m] * root[m, j]
            moved[i, j] /= root[j, j]
    for i in range(k):
        for j in range(k):
            g_inner[i, j] = 0.5 * (moved[i, j] + moved[j, i])


@njit(cache=True, nogil=True)
def _log_prior(theta, prior):
    """Log prior of the unconstrained parameters without its constant, and its gradient; see ``parameters.log_prior``."""
    value, gradient = 0.0, np.zeros(len(theta))
    for i in range(len(theta)):
        kind, a, b = int(prior[i, 0]), prior[i, 1], prior[i, 2]
        if kind == CORRELATION:
            size = abs(theta[i])
            value -= 2.0 * a * (size + math.log1p(math.exp(-2.0 * size)))
            gradient[i] -= 2.0 * a * math.tanh(theta[i])
            continue
        inside = -0.5 if prior[i, 3] > 0 else 1.0  # log x = inside * theta
        log_x = inside * theta[i]
        x = math.exp(log_x)
        if kind == HALF_NORMAL:
            part, slope = -0.5 * (x / a) ** 2, -((x / a) ** 2)
        elif kind == HALF_STUDENT_T:
            square = (x / b) ** 2 / a
            part, slope = -0.5 * (a + 1.0) * math.log1p(square), -(a + 1.0) * square / (1.0 + square)
        elif kind == EXPONENTIAL:
            part, slope = -x / a, -x / a
        else:
            part, slope = -0.5 * ((log_x - a) / b) ** 2 - log_x, -(log_x - a) / b**2 - 1.0
        value += part + log_x
        gradient[i] += inside * (slope + 1.0)
    return value, gradient


@njit(PACKED, cache=True, nogil=True)
def packed_log_posterior(x, w, numbers, counts, log_density):
    """``log_posterior`` at stretched parameters, of data packed into one array of floats and one of integers.

    ``x`` (d,) is theta with the sds stretched (see ``stretch``); the value comes as an array without dimensions.

    PyTensor and nutpie compile code for every array that a model holds, so two of them compile in a fraction of the time of twenty.
    """
    n_joint, n_rows, p = np.int64(counts[1]), np.int64(counts[2]), np.int64(counts[3])
    n_blocks, n_values = np.int64(counts[4]), np.int64(counts[5])
    at = 6
    codes = counts[at : at + n_blocks * n_rows].reshape((n_blocks, n_rows))
    at += n_blocks * n_rows
    widths = counts[at : at + n_blocks]
    levels = counts[at + n_blocks : at + 2 * n_blocks]
    starts = counts[at + 2 * n_blocks : at + 3 * n_blocks]
    n_columns, n_shift, n_information, n_mixing, n_pull, n_coarse, m = 0, 0, 0, 0, 0, p, p
    for block in range(n_blocks):
        size = np.int64(widths[block]) * np.int64(levels[block])
        n_columns += widths[block]
        if block < n_joint:
            m += size
            n_coarse += size
            continue
        n_shift += size
        n_information += size * widths[block]
        if block < n_blocks - 1:
            n_mixing += size * size
            n_pull += size * n_coarse
            n_coarse += size
    lengths = np.array([
        4 * len(x), n_rows, n_rows, n_rows, n_rows, 3, 2 * n_values, n_rows * p, n_columns * n_rows, n_coarse, m * m, m, n_information,
        n_mixing, n_pull, n_shift, p, p * p, len(x),
    ])  # fmt: skip
    ends = np.zeros(len(lengths) + 1, dtype=np.int64)
    for i in range(len(lengths)):
        ends[i + 1] = ends[i] + lengths[i]
    theta, slope, jacobian, g_jacobian = stretch(x, numbers[ends[18] : ends[19]])
    value, g_theta, g_w = log_posterior(
        theta,
        w,
        counts[:2],
        numbers[ends[0] : ends[1]].reshape((len(x), 4)),
        numbers[ends[1] : ends[2]],
        numbers[ends[2] : ends[3]],
        numbers[ends[5] : ends[6]],
        numbers[ends[6] : ends[7]].reshape((n_values, 2)),
        numbers[ends[3] : ends[4]],
        numbers[ends[7] : ends[8]].reshape((n_rows, p)),
        numbers[ends[4] : ends[5]],
        codes,
        numbers[ends[8] : ends[9]].reshape((n_columns, n_rows)),
        widths,
        levels,
        starts,
        numbers[ends[9] : ends[10]],
        numbers[ends[10] : ends[11]].reshape((m, m)),
        numbers[ends[11] : ends[12]],
        numbers[ends[12] : ends[13]],
        numbers[ends[13] : ends[14]],
        numbers[ends[14] : ends[15]],
        numbers[ends[15] : ends[16]],
        numbers[ends[16] : ends[17]],
        numbers[ends[17] : ends[18]].reshape((p, p)),
        log_density,
    )
    return np.asarray(value + jacobian), g_theta * slope + g_jacobian, g_w
