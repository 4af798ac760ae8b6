"""Combinations never seen under an ``a:b`` factor, of a two-part outcome: both parts' effects are N(0, Sigma), independently.

The estimate integrates them; the interval is of the combination's own mean, with everything else drawn jointly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.estimands.expected_outcome import Chunk, PartRows, UnknownVariance
from multilevel.estimands.two_responses import TwoResponses
from multilevel.fit.container import Summary
from multilevel.fit.joint_draws import summary_about
from multilevel.fit.theta_spread import turns

_DRAWS = 1_000
_AVERAGED_DRAWS = 100


def product_of_unseen(
    both: TwoResponses, chunks: Callable[[], Iterator[Chunk]], variances: Sequence[UnknownVariance], error: Floats, seed: int
) -> Summary:
    """(M,) expected outcomes; ``variances``: per part the mean of z'Sigma z. ``error``: (M,) sd of each combination's sigma^2 / 2."""
    rng = np.random.default_rng(seed)
    drawn = both.draws(_DRAWS, seed)
    found: list[Summary] = []
    at = 0
    for rows, weights in chunks():
        here = slice(at, at + weights.shape[0])
        found.append(_unknown(both, rows, weights, variances, drawn, error[here], rng))
        at = here.stop
    return Summary.joined(found)


def _unknown(
    both: TwoResponses,
    rows: PartRows,
    weights: csr_array,
    variances: Sequence[UnknownVariance],
    drawn: tuple[Floats, Floats],
    error: Floats,
    rng: np.random.Generator,
) -> Summary:
    n_pairs, n_rows = weights.shape
    member = np.zeros(n_rows, dtype=np.int64)
    member[weights.indices] = np.repeat(np.arange(n_pairs), np.diff(weights.indptr))
    size = len(drawn[0])
    predictors = [np.asarray(own @ draws.T) for own, draws in zip(rows, drawn, strict=True)]
    which = [turns(size, each.weights) for each in variances]
    moved = [
        eta + np.sqrt(each.points[turn]) * rng.standard_normal((n_pairs, size))[member]
        for eta, each, turn in zip(predictors, variances, which, strict=True)
    ]
    values = weights @ both.product(moved[0], moved[1]) * np.exp(error[:, None] * rng.standard_normal((n_pairs, size)))
    if both.has_draws:
        centres = [eta[:, :: max(1, size // _AVERAGED_DRAWS)] for eta in predictors]
    else:
        centres = [eta[:, None] for eta in both.means(rows)]
    means = [
        part.response.average(centre, np.full((n_rows, 1), each.estimate))
        for part, centre, each in zip(both.parts, centres, variances, strict=True)
    ]
    return summary_about(np.mean(weights @ (means[0] * means[1]), axis=1), values, both.interval)
