"""``variance_components``: standard deviations and correlations, with the variance's shares and how far the effects are pooled."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from multilevel.catalogue.table_assembly import Heading, Values, published_table
from multilevel.fit.container import Fit, VarianceComponent
from multilevel.fit.one_pass import together
from multilevel.interpretation.explained_variance import ExplainedVariance, explained_variance, explained_variance_of_data
from multilevel.interpretation.variance_partition import variance_partition

_SIGMA = "sigma"
_NOTHING = ExplainedVariance(None, None)


def variance_components(fit: Fit, heading: Heading, without: Fit | None = None) -> pa.Table:
    """The whole table; ``without`` is the fit without group-level predictors, None where the model has none."""
    shares = _shares(fit)
    explained = together([partial(_explained, fit, component) for component in fit.components])
    bare = {_key(component): _present(component.estimate) for component in without.components} if without is not None else {}
    columns: dict[str, Values] = {
        "grouping_factor": [component.grouping_factor for component in fit.components],
        "term": [component.term for component in fit.components],
        "other_term": [component.other_term for component in fit.components],
        "quantity": [component.quantity for component in fit.components],
        "estimate": [_present(component.estimate) for component in fit.components],
        "std_error": [_present(component.std_error) for component in fit.components],
        "lower": [_present(component.lower) for component in fit.components],
        "upper": [_present(component.upper) for component in fit.components],
        "variance_share": [shares.get(_key(component)) for component in fit.components],
        "r_squared": [entry.r_squared for entry in explained],
        "pooling_factor": [entry.pooling_factor for entry in explained],
        "estimate_without_group_predictors": [bare.get(_key(component)) for component in fit.components],
        "part": None,
        "interval_method": [component.interval_method for component in fit.components],
    }
    return published_table("variance_components", heading, columns)


def _key(component: VarianceComponent) -> tuple[str, str, str | None]:
    return component.grouping_factor, component.term, component.other_term


def _present(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _shares(fit: Fit) -> dict[tuple[str, str, str | None], float]:
    """Each block's share on the sd of its first term, the residual's on sigma (a latent residual has no row of its own)."""
    partition = variance_partition(fit)
    shares: dict[tuple[str, str, str | None], float] = {}
    for block, share in zip(fit.design.blocks, partition.shares, strict=True):
        shares[block.factor.name, block.columns[0].label, None] = float(share)
    if fit.sigma is not None:
        shares["residual", _SIGMA, None] = partition.residual_share
    return shares


def _explained(fit: Fit, component: VarianceComponent) -> ExplainedVariance:
    if component.quantity != "sd":
        return _NOTHING
    if component.block is None:
        return explained_variance_of_data(fit) if component.term == _SIGMA else _NOTHING
    labels = [column.label for column in fit.design.blocks[component.block].columns]
    return explained_variance(fit, component.block, labels.index(component.term))
