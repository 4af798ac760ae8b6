"""Errors of income groups without pooling, against a bootstrap over households. Writes its table into docs/calibration.md.

Households are drawn with replacement within their income group; one that is drawn twice counts as two. Every sample is solved again
at the variance parameters of the fit, as the published errors are given them.

Run: ``python -m benchmarks household_errors [samples]``; ``groupwise load-shop`` comes before. Takes some seconds a sample.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._calibration_page import PAGE, markdown
from benchmarks._reliability_page import provenance, provenance_line, replace_block
from groupwise.pipeline.line_items import cells_of
from groupwise.pipeline.run_start import begin
from groupwise.run_folder import RunFolder
from groupwise.source.describe import extract
from groupwise.validation.validate import validate
from multilevel.arrays import Floats
from multilevel.cells.files import read_cells
from multilevel.cells.statistics import CellStatistics, Labels, restrict_cells
from multilevel.design.model import Design
from multilevel.design.nesting import Nesting, nesting
from multilevel.design.reduction import reduce_design
from multilevel.design.unit_free import unit_free
from multilevel.estimands.fitted_part import FittedPart, expected_outcome
from multilevel.estimands.level_variance import LevelVariance, level_variance
from multilevel.estimands.population import n_sampled, population, units_of
from multilevel.estimands.unpooled import free_outcome
from multilevel.fit.container import Fit, UnitFreeFit
from multilevel.fit.residuals import expected_residual_ss
from multilevel.formula.parse import parse_formula
from multilevel.formula.tree import Formula
from multilevel.linear.assemble import linear_system
from multilevel.linear.joint_normal import NormalJoint, square_root
from multilevel.linear.linear_engine import fit_linear
from multilevel.linear.mapped_joint import mapped_joint
from multilevel.pooling.free_intercepts import free_intercepts
from multilevel.study.designs import study_parts

STUDY, FACTOR, UNIT = "studies/household_spend.yaml", "income_group", "customer_id"
SAMPLES, SEED, FEWEST = 200, 20_261_129, 30


def main(samples: int = SAMPLES) -> None:
    """Fit once, solve every bootstrap sample, write the table."""
    formula, cells = study_statistics()
    design = study_parts(formula, cells)[0].design
    fit = fit_linear(design)
    variance = level_variance(design.cells.n, expected_residual_ss(design, fit.joint), dict(nesting(design).factors))
    estimates, errors = _without_pooling(fit, variance)
    tree = nesting(design)
    levels, households = tree.factors[FACTOR].levels, n_sampled(tree, FACTOR, _units(tree))
    rng, drawn = np.random.default_rng(SEED), []
    began = time.monotonic()
    for sample in range(samples):
        own = _held(fit, study_parts(formula, _resampled(cells, rng))[0].design)
        drawn.append(_without_pooling(own, _same(variance, own.design))[0])
        print(f"{sample + 1} of {samples}, {time.monotonic() - began:,.0f} s", file=sys.stderr, flush=True)
    spread = np.std(drawn, axis=0, ddof=1)
    rows = [
        (str(level), f"{n:,}", f"{value:.4g}", f"{error:.3g}", f"{own:.3g}", f"{error / own:.2f}")
        for level, n, value, error, own in zip(levels, households, estimates, errors, spread, strict=True)
        if n >= FEWEST
    ]
    columns = (
        "income group",
        "households",
        "population_no_pooling_estimate",
        "its std_error",
        f"sd of {samples} bootstrap samples",
        "ratio",
    )
    block = f"{markdown(columns, rows)}\n{provenance_line([provenance()])}"
    print(block)
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), "household-errors", block), encoding="utf-8")


def study_statistics() -> tuple[Formula, CellStatistics]:
    """The study's cells."""
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        run = RunFolder(Path(begin(STUDY, engine=None, publish_to=folder, settings=[], run_id=f"bench-{datetime.now(UTC):%H%M%S}")))
        study = run.study()
        extract(study, None, run.path, today=datetime.now(UTC).date())
        validate(study, run.relation(), run.path)
        cells_of(study, run.relation(), run.read_json("validation")["study_sql"], run.path, with_units=True)
        return parse_formula(study.formula), read_cells(run.path / "cells.parquet", run.path / "cells.json")


def _without_pooling(fit: Fit, variance: LevelVariance) -> tuple[Floats, Floats]:
    """(L,) ``population_no_pooling_estimate`` of the income groups and its standard error, as ``group_estimates`` has them."""
    free = free_intercepts(fit, FACTOR)
    assert free is not None
    outcome = expected_outcome([FittedPart(None, fit, fit.design, variance)])
    tree = nesting(fit.design)
    found = population(free_outcome(outcome, [free]), tree, FACTOR, variance, (UNIT,), _units(tree)).respond()
    return found.estimate, found.std_error


def _same(variance: LevelVariance, design: Design) -> LevelVariance:
    """The log-variances of the fit for the households of a sample, whose own no estimate of an income group uses."""
    tree = nesting(design)
    nothing = {_units(tree): np.zeros(tree.factors[_units(tree)].n_levels)}
    return replace(variance, effects=variance.effects | nothing, std_errors=variance.std_errors | nothing)


def _units(tree: Nesting) -> str:
    found = units_of(tree, FACTOR, (UNIT,))
    assert found is not None
    return found


def _held(fit: Fit, design: Design) -> Fit:
    """The fit of other data with the same variance parameters."""
    assert fit.sigma is not None
    form = unit_free(design)
    inverses = [np.linalg.inv(own) for own in form.maps.blocks]
    inner = tuple(inverse @ own @ inverse.T for inverse, own in zip(inverses, fit.covariances, strict=True))
    lambdas = tuple(square_root(own / fit.sigma**2) for own in inner)
    joint = NormalJoint(linear_system(reduce_design(form.design)).factorise(lambdas), fit.sigma)
    plain = UnitFreeFit(form, inner, joint=joint, lambdas=lambdas)
    return replace(fit, design=design, joint=mapped_joint(joint, form.maps), unit_free=plain, theta=None)


def _resampled(cells: CellStatistics, rng: np.random.Generator) -> CellStatistics:
    """Draw households with replacement within their groups; every copy counts as a separate household."""
    codes = cells.groups[UNIT].codes
    order = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=int(codes.max()) + 1))])
    group = cells.groups[FACTOR].codes[order[starts[:-1]]]
    picked = np.concatenate([rng.choice(np.flatnonzero(group == own), np.sum(group == own)) for own in np.unique(group)])
    places = np.concatenate([order[starts[unit] : starts[unit + 1]] for unit in picked])
    copies = np.repeat(np.arange(len(picked), dtype=np.int32), np.diff(starts)[picked])
    found = restrict_cells(cells, places)
    names: Any = np.array([f"{place:05d}" for place in range(len(picked))], dtype=object)
    return replace(found, groups={**found.groups, UNIT: Labels(copies, names)}, key=None)
