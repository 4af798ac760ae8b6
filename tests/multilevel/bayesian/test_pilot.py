"""The pilot reaches its mode whatever the size of the counts."""

import numpy as np
import pandas as pd
import pytest

from multilevel.bayesian.nuts_fit import starting_covariances, starting_dispersion
from multilevel.bayesian.pilot import fit_pilot
from multilevel.bayesian.priors import read_priors, resolve_priors
from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.reduction import coefficient_matrix, outcome_of, reduce_design
from multilevel.formula.parse import parse_formula


@pytest.mark.parametrize("family", ["poisson", "negative_binomial", "gamma"])
@pytest.mark.parametrize("largest", [3.0, 300.0, 3e6])
def test_the_gradient_vanishes_at_the_mode(family: str, largest: float) -> None:
    rng = np.random.default_rng(6)
    n = 300
    g, h, x = rng.integers(4, size=n), rng.integers(12, size=n), rng.integers(2, size=n)
    eta = rng.normal(0, 1.5, 4)[g] + rng.normal(0, 1, 12)[h] + rng.normal(1, 1, 12)[h] * x
    mean = largest * np.exp(eta - eta.max())
    y = rng.gamma(2.0, mean / 2.0) + 1e-9 if family == "gamma" else rng.poisson(mean)
    rows_in = pd.DataFrame({"y": y, "x": x, "g": [f"g{i}" for i in g], "h": [f"h{i}" for i in h]})
    formula = parse_formula("y ~ 1 + x + (1 | g) + (1 + x | h)")
    design = build_design(formula, cells_from_frame(formula, rows_in, family))
    rows, priors = reduce_design(design), resolve_priors(design, family, read_priors(None))
    outcome = outcome_of(design.cells, rows, family)
    pilot = fit_pilot(rows, outcome, priors, starting_covariances(priors), starting_dispersion(priors))
    beta = pilot.coarse[:2]
    values = np.concatenate([beta, *[effects.ravel() for effects in pilot.effects]])
    _, score = outcome.working(rows.offset + coefficient_matrix(rows) @ values, pilot.dispersion)
    gradient = coefficient_matrix(rows).T @ score
    gradient[:2] -= priors.beta_precision @ (beta - priors.beta_location)
    at = 2
    for effects, covariance in zip(pilot.effects, pilot.covariances, strict=True):
        gradient[at : at + effects.size] -= np.linalg.solve(covariance, effects.T).T.ravel()
        at += effects.size
    assert np.abs(gradient).max() < 1e-3 * max(np.abs(score).sum(), 1.0)
