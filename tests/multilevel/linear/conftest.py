"""The model written out densely, row by row: what the blocked kernel must agree with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.linalg import block_diag

from multilevel.design.reduction import ReducedBlock, ReducedRows


@dataclass(frozen=True)
class Dense:
    """Everything about M(theta) from the full matrices."""

    rows: ReducedRows
    lambdas: tuple[np.ndarray, ...]
    precision: np.ndarray
    location: np.ndarray

    @property
    def spread(self) -> np.ndarray:
        blocks = zip(self.rows.blocks, self.lambdas, strict=True)
        return block_diag(np.zeros((0, 0)), *[np.kron(np.eye(block.n_levels), factor) for block, factor in blocks])

    @property
    def z(self) -> np.ndarray:
        n = len(self.rows.outcome)
        parts = [np.zeros((n, 0))]
        for block in self.rows.blocks:
            k = block.values.shape[1]
            part = np.zeros((n, block.n_levels, k))
            part[np.arange(n), block.codes] = block.values
            parts.append(part.reshape(n, -1))
        return np.hstack(parts)

    @property
    def matrix(self) -> np.ndarray:
        """M in the order (u, beta)."""
        whole = np.hstack([self.z @ self.spread, self.rows.X])
        q = self.z.shape[1]
        return whole.T @ whole + block_diag(np.eye(q), self.precision)

    def solve(self) -> tuple[float, float, float, np.ndarray, np.ndarray]:
        """Both log-determinants, the penalised residual sum of squares, beta and b."""
        q, m = self.z.shape[1], self.matrix
        right = np.concatenate(
            [self.spread.T @ self.z.T @ self.rows.outcome, self.rows.X.T @ self.rows.outcome + self.precision @ self.location]
        )
        solution = np.linalg.solve(m, right)
        total = self.rows.outcome @ self.rows.outcome + self.location @ self.precision @ self.location
        effects = np.linalg.slogdet(m[:q, :q])[1]
        return (
            effects,
            np.linalg.slogdet(m)[1] - effects,
            total - right @ solution + self.rows.residual_ss,
            solution[q:],
            self.spread @ solution[:q],
        )

    def covariance(self) -> np.ndarray:
        """Var(beta, b) / sigma^2."""
        q, p = self.z.shape[1], self.rows.X.shape[1]
        order = np.concatenate([q + np.arange(p), np.arange(q)])
        turn = block_diag(np.eye(p), self.spread)
        return turn @ np.linalg.inv(self.matrix)[np.ix_(order, order)] @ turn.T

    def conditional_variance(self) -> list[np.ndarray]:
        q = self.z.shape[1]
        diagonal = np.diagonal(self.spread @ np.linalg.inv(self.matrix[:q, :q]) @ self.spread.T)
        parts, start = [], 0
        for block in self.rows.blocks:
            size = block.n_levels * block.values.shape[1]
            parts.append(diagonal[start : start + size].reshape(block.n_levels, -1))
            start += size
        return parts


@pytest.fixture(scope="session")
def written_out() -> Callable[..., Dense]:
    def build(
        rows: ReducedRows, lambdas: tuple[np.ndarray, ...], precision: np.ndarray | None = None, location: np.ndarray | None = None
    ) -> Dense:
        p = rows.X.shape[1]
        return Dense(rows, lambdas, np.zeros((p, p)) if precision is None else precision, np.zeros(p) if location is None else location)

    return build


def make_rows(
    levels: tuple[int, ...], widths: tuple[int, ...], *, p: int = 2, n: int = 200, shared: bool = False, ones: bool = False, seed: int = 0
) -> ReducedRows:
    """Random rows, one block for each of ``levels``; ``shared``: the first two lie on one factor; ``ones``: scalar intercepts."""
    rng = np.random.default_rng(seed)
    codes = [np.concatenate([np.arange(count), rng.integers(count, size=n - count)]).astype(np.int32) for count in levels]
    if shared:
        codes[1] = codes[0]
    values = [
        np.hstack([np.ones((n, 1)), rng.standard_normal((n, k - 1))]) if ones or k > 1 else rng.standard_normal((n, 1)) for k in widths
    ]
    X = np.hstack([np.ones((n, 1)), rng.standard_normal((n, p - 1))]) if p else np.zeros((n, 0))
    blocks = tuple(ReducedBlock(c, v, count) for c, v, count in zip(codes, values, levels, strict=True))
    ones_column = np.ones(n)
    return ReducedRows(
        X, blocks, rng.standard_normal(n) + 3.0, ones_column, 0 * ones_column, ones_column, np.arange(n, dtype=np.int32), n + 50, 7.0
    )


def make_lambdas(widths: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(np.tril(rng.uniform(0.3, 1.2, (k, k))) * np.where(np.eye(k) > 0, 1.0, 0.5) for k in widths)


SHAPES = {
    "one intercept": {"levels": (6,), "widths": (1,), "ones": True},
    "one scalar slope": {"levels": (6,), "widths": (1,)},
    "intercept and slope": {"levels": (6,), "widths": (2,)},
    "crossed": {"levels": (20, 7, 4), "widths": (1, 2, 1), "ones": True},
    "the largest in the middle": {"levels": (4, 20, 5), "widths": (2, 2, 1)},
    "two blocks on the largest factor": {"levels": (20, 20, 5), "widths": (2, 1, 1), "shared": True},
    "no population coefficients": {"levels": (20, 5), "widths": (1, 1), "p": 0},
    "no group terms": {"levels": (), "widths": ()},
}


@pytest.fixture(scope="session", params=SHAPES)
def shape(request: pytest.FixtureRequest) -> tuple[ReducedRows, tuple[np.ndarray, ...]]:
    chosen = SHAPES[request.param]
    return make_rows(**chosen), make_lambdas(chosen["widths"])


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., ReducedRows]:
    return make_rows


@pytest.fixture(scope="session")
def lambdas_of() -> Callable[..., tuple[np.ndarray, ...]]:
    return make_lambdas
