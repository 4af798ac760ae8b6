"""``population_coefficients``: the coefficients common to all groups, under complete, no and partial pooling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from multilevel.arrays import Floats
from multilevel.catalogue.table_assembly import Heading, Values, published_table, stack
from multilevel.fit.coefficients import Coefficients
from multilevel.fit.container import Fit


def population_coefficients(heading: Heading, kinds: Sequence[Coefficients], without: Fit | None = None) -> pa.Table:
    """The whole table; ``without`` is the fit without group-level predictors, None where the model has none."""
    return published_table("population_coefficients", heading, stack([_rows(kind, without) for kind in kinds]) | {"part": None})


def _rows(kind: Coefficients, without: Fit | None) -> dict[str, Values]:
    labels = [column.label for column in kind.columns]
    bare = {}
    if kind.pooling == "partial" and without is not None:
        bare = dict(zip([column.label for column in without.design.population], without.joint.mean, strict=False))
    usable = np.isfinite(kind.summary.estimate) & np.isfinite(kind.summary.std_error)
    return {
        "pooling": np.full(len(labels), kind.pooling, dtype=object),
        "term": np.array(labels, dtype=object),
        "kind": np.array([column.kind for column in kind.columns], dtype=object),
        "grouping_factor": np.array([column.constant_within for column in kind.columns], dtype=object),
        **{name: np.where(usable, getattr(kind.summary, name), np.nan) for name in ("estimate", "std_error", "lower", "upper")},
        "degrees_of_freedom": _finite(kind.degrees_of_freedom),
        "estimate_without_group_predictors": np.array([bare.get(label, np.nan) for label in labels]),
        "ess_bulk": _finite(kind.ess_bulk),
        "ess_tail": _finite(kind.ess_tail),
        "r_hat": _finite(kind.r_hat),
    }


def _finite(values: Floats | None) -> Floats | None:
    """Infinite degrees of freedom belong to a normal interval: not applicable."""
    return None if values is None else np.where(np.isfinite(values), values, np.nan)
