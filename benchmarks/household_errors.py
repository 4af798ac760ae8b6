"""Errors of income groups without pooling, against a bootstrap over households. Writes its table into docs/calibration.md.

Households are drawn with replacement within their income group; one that is drawn twice counts as two. Every sample is solved again
at the variance parameters of the fit, and averaged over the common mix of the real shop: the published errors are given both.

Run: ``python -m benchmarks household_errors [samples]``; ``groupwise load-shop`` comes before. Takes some seconds a sample.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

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
from multilevel.design.model import Design, Factor
from multilevel.design.nesting import Nesting, nesting
from multilevel.design.reduction import reduce_design
from multilevel.design.unit_free import unit_free
from multilevel.estimands.fitted_part import FittedPart, expected_outcome
from multilevel.estimands.level_variance import LevelVariance, level_variance
from multilevel.estimands.population import n_sampled, population, units_of
from multilevel.estimands.unpooled import free_outcome
from multilevel.families.link import Link
from multilevel.fit.container import Fit, Joint, Summary, UnitFreeFit
from multilevel.fit.residuals import expected_residual_ss
from multilevel.fit.shared_rows import Rows, as_csr
from multilevel.formula.parse import parse_formula
from multilevel.formula.tree import Formula
from multilevel.linear.assemble import linear_system
from multilevel.linear.joint_normal import NormalJoint, square_root
from multilevel.linear.linear_engine import fit_linear
from multilevel.linear.mapped_joint import mapped_joint
from multilevel.pooling.free_intercepts import FreeIntercepts, free_intercepts
from multilevel.study.designs import study_parts

STUDY, FACTOR, UNIT = "studies/line_spend.yaml", "income_group", "customer_id"
PRICE_LEVELS = " + (1 | customer_id:category_key)"
"""The last term of the study; without it a fit takes a fraction of the time."""

SAMPLES, SEED, FEWEST = 200, 20_261_129, 30


@dataclass(frozen=True)
class KnownEffects:
    """The joint distribution of coefficients (p + q,) that are known."""

    mean: Floats

    def combine(self, rows: Rows, interval: float) -> Summary:
        """Linear combinations, without error."""
        return _without_error(as_csr(rows) @ self.mean)

    def respond(
        self, rows: Rows, weights: csr_array, response: Callable[[Floats], Floats], slope: Callable[[Floats], Floats], interval: float
    ) -> Summary:
        """Averages, without error."""
        return _without_error(weights @ response(as_csr(rows) @ self.mean))

    def spread_about(self, rows: Rows, centre: csr_array) -> Floats:
        """Nothing is spread."""
        return np.zeros(as_csr(rows).shape[0])

    def covariance_about(self, rows: Rows, centre: csr_array) -> Floats:
        """Nothing is spread."""
        size = as_csr(rows).shape[0]
        return np.zeros((size, size))

    def draws(self, size: int, seed: int) -> Floats:
        """The same every time."""
        return np.tile(self.mean, (size, 1))

    def on_response_scale(self, summary: Summary, link: Link, interval: float) -> Summary:
        """As it is."""
        return summary


def _without_error(value: Floats) -> Summary:
    return Summary(value, np.zeros_like(value), value, value)


def main(samples: int = SAMPLES) -> None:
    """Fit once, solve every bootstrap sample, write the table."""
    formula, cells = study_statistics(without=PRICE_LEVELS)
    design = study_parts(formula, cells)[0].design
    fit = fit_linear(design)
    variance = level_variance(design.cells.n, expected_residual_ss(design, fit.joint), dict(nesting(design).factors))
    tree = nesting(design)
    free = free_intercepts(fit, FACTOR)
    assert free is not None
    average = partial(_averages, fit, free, variance)
    published = average(free.fit.joint)
    levels, households = tree.factors[FACTOR].levels, n_sampled(tree, FACTOR, _units(tree))
    rng, drawn = np.random.default_rng(SEED), []
    began = time.monotonic()
    for sample in range(samples):
        solved = free_intercepts(_held(fit, study_parts(formula, _resampled(cells, rng))[0].design), FACTOR)
        assert solved is not None
        drawn.append(average(KnownEffects(_at_their_places(solved.fit, design))).estimate)
        print(f"{sample + 1} of {samples}, {time.monotonic() - began:,.0f} s", file=sys.stderr, flush=True)
    spread = np.std(drawn, axis=0, ddof=1)
    rows = [
        (str(level), f"{n:,}", f"{value:.4g}", f"{error:.3g}", f"{own:.3g}", f"{error / own:.2f}")
        for level, n, value, error, own in zip(levels, households, published.estimate, published.std_error, spread, strict=True)
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


def study_statistics(without: str) -> tuple[Formula, CellStatistics]:
    """The study's formula, less the last term ``without``, and its cells."""
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        run = RunFolder(Path(begin(STUDY, engine=None, publish_to=folder, settings=[], run_id=f"bench-{datetime.now(UTC):%H%M%S}")))
        study = run.study()
        extract(study, None, run.path, today=datetime.now(UTC).date())
        validate(study, run.relation(), run.path)
        cells_of(study, run.relation(), run.read_json("validation")["study_sql"], run.path, with_units=True)
        if not study.formula.endswith(without):
            raise SystemExit(f"{STUDY}: the formula does not end with {without!r}, which this benchmark leaves out")
        return parse_formula(study.formula.removesuffix(without)), read_cells(run.path / "cells.parquet", run.path / "cells.json")


def _averages(fit: Fit, free: FreeIntercepts, variance: LevelVariance, joint: Joint) -> Summary:
    """``population_no_pooling_estimate`` of the income groups in the real shop's mix, at the coefficients of ``joint``."""
    outcome = expected_outcome([FittedPart(None, fit, fit.design, variance)])
    tree, own = nesting(fit.design), replace(free, fit=replace(free.fit, joint=joint))
    return population(free_outcome(outcome, [own]), tree, FACTOR, variance, (UNIT,), _units(tree)).respond()


def _at_their_places(fit: Fit, design: Design) -> Floats:
    """(p + q,) coefficients of a sample's fit as those of the real shop's design; of households, and of levels that no one bought, zero."""
    coefficients, found = fit.joint.mean, np.zeros(len(design.population) + design.n_effects)
    p = len(design.population)
    found[:p] = coefficients[:p]
    for index, (block, own) in enumerate(zip(design.blocks, fit.design.blocks, strict=True)):
        if UNIT in block.factor.columns:
            continue
        width = len(block.columns)
        places = {key: place for place, key in enumerate(_keys(block.factor))}
        here = np.array([places[key] for key in _keys(own.factor)])
        effects = found[p + design.starts[index] :][: block.n_effects].reshape(-1, width)
        effects[here] = coefficients[p + fit.design.starts[index] :][: own.n_effects].reshape(-1, width)
    return found


def _keys(factor: Factor) -> list[tuple[str, str]]:
    parents = factor.levels if factor.parents is None else factor.parents
    return list(zip(map(str, parents), map(str, factor.levels), strict=True))


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
