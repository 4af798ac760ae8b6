"""The models of shops with very many households, with the priors that they were drawn from."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from multilevel.bayesian.distributions import Prior
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.design.reduction import ReducedBlock, ReducedRows
from multilevel.families.outcome import Outcome
from multilevel.families.registry import family_named
from tests.many_level_shops import BETA_SD, SD_SCALE, VARIATION_SCALE, ManyLevelShop

FACTORS = ("region", "region:household", "category")


def model_of(shop: ManyLevelShop, family: str) -> tuple[ReducedRows, Outcome, ResolvedPriors]:
    """What the sampler needs of a shop, with the priors that it was drawn from."""
    n, one = len(shop.outcome), np.ones(len(shop.outcome))
    codes = zip(FACTORS, (shop.region, shop.household, shop.category), shop.effects, strict=True)
    blocks = tuple(ReducedBlock(own.astype(np.int32), one[:, None], len(effects), name) for name, own, effects in codes)
    X = np.column_stack([one, shop.on_sale])
    rows = ReducedRows(X, blocks, shop.outcome, one, np.zeros(n), one, np.arange(n, dtype=np.int32), n, 0.0)
    logs = float(np.log(shop.outcome).sum()) if family == "gamma" else 0.0
    once = {"log_binomial": 0.0, "log_factorial": float(gammaln(shop.outcome + 1.0).sum()), "sum_log_outcome": logs}
    histogram = np.column_stack(np.unique(shop.outcome, return_counts=True)).astype(float)
    outcome = Outcome(family_named(family), shop.outcome, one, one, n, 0.0, once, histogram)
    half, normal = Prior("half_normal", (SD_SCALE,)), Prior("normal", (0.0, BETA_SD))
    of_scale = None if shop.scale is None else Prior("half_normal", (VARIATION_SCALE,))
    priors = ResolvedPriors(np.zeros(2), np.eye(2) / BETA_SD**2, (normal, normal), ((half,),) * 3, (2.0,) * 3, None, of_scale)
    return rows, outcome, priors
