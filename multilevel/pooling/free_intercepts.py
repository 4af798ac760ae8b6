"""No pooling of one factor: its intercepts free (averages), or one of its terms (coefficients), everything else as it is fitted.

The prior precision of the factor's effects becomes blockdiag(0, Sigma_ss^-1), Sigma_ss the fitted covariance of its slopes; the other
variances, the residual sd and the dispersion are held, and all coefficients are solved again. The difference between an average and the
same average here is therefore pooling alone (Gelman and Hill 2007, section 12.2, with the rest of the model kept).

A free intercept is normal with the variance ``FREE``, about zero or, in a generalised model, about the fitted one. Population columns that
the free intercepts already span (the intercept, predictors that are constant within every level) are held at their fitted coefficients; the
intercepts make up for them.

Another term is freed in the same way: its row and column of Sigma go, the other terms keep their covariance, at the mean of the numeric
predictors, where every fit is made. So an intercept that is pooled beside a free slope is that of an average row, wherever x = 0 may lie.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from multilevel.arrays import Flags, Floats, Integers
from multilevel.design.effect_rows import coefficient_rows, terms_of
from multilevel.design.group_predictors import column_values
from multilevel.design.model import Design, DesignColumn
from multilevel.design.reduction import ReducedBlock, ReducedRows, outcome_of, reduce_design
from multilevel.families.likelihood_parts import likelihood_of
from multilevel.families.link import Link
from multilevel.fit.container import Fit, Summary
from multilevel.fit.shared_rows import Rows, as_csr, averaged, mapped
from multilevel.generalised.pirls import find_mode
from multilevel.generalised.reweighting import reweighting
from multilevel.linear.assemble import system_of
from multilevel.linear.factorise import BlockedSystem
from multilevel.linear.fewer_columns import fewer_columns
from multilevel.linear.joint_normal import NormalJoint, inside_range, square_root, wald
from multilevel.pooling.levels import independent_common, level_basis, level_gram

FREE = 1e10
"""Variance of a free intercept, in residual variances or, under other links, on the link scale. It shrinks what n rows say of the level by
one part in FREE n."""

UNDETERMINED = 1e-6
"""An intercept whose variance given the data is more than this share of ``FREE`` is not determined: no rows, or outcomes all alike."""


@dataclass(frozen=True)
class FreeIntercepts:
    """``fit``: with one factor's intercepts free (of ``free_term`` a term), its joint distribution normal. ``determined``: (L,) whether the
    rows determine them. ``again`` : makes it again where that is quick, and this one, as large as the fit itself, need not be kept."""

    fit: Fit
    determined: Flags
    again: Callable[[], FreeIntercepts] | None = None

    @property
    def kept(self) -> Callable[[], FreeIntercepts]:
        """What to keep until it is needed once more."""
        return self.again or (lambda: self)


@dataclass(frozen=True)
class TermByTerm:
    """estimate, std_error : (L,) coefficients of one term of one factor, that term free; NaN where the level's rows do not determine it."""

    estimate: Floats
    std_error: Floats


@dataclass(frozen=True)
class AroundJoint:
    """Normal distribution of W (E d + c): ``maps`` W leads from unit-free coefficients to written ones, ``kept`` E (p + q, kept) puts the
    coefficients d that were solved for at their places, ``around`` (p + q,) is c. Rows are mapped, never covariances."""

    inner: NormalJoint
    maps: csr_array
    kept: csr_array
    around: Floats

    @cached_property
    def _location(self) -> Floats:
        return np.asarray(self.kept @ self.inner.mean) + self.around

    @cached_property
    def mean(self) -> Floats:
        """(p + q,) estimates and conditional modes."""
        return np.asarray(self.maps @ self._location)

    def variance(self, rows: Rows) -> Floats:
        """(m,) variances of ``rows @ (beta, b)``."""
        return self.inner.variance(self._solved_for(rows))

    def combine(self, rows: Rows, interval: float) -> Summary:
        """Linear combinations ``rows @ (beta, b)`` with Wald intervals."""
        return wald(np.asarray(mapped(rows, self.maps) @ self._location), np.sqrt(self.variance(rows)), interval)

    def respond(
        self,
        rows: Rows,
        weights: csr_array,
        response: Callable[[Floats], Floats],
        slope: Callable[[Floats], Floats],
        interval: float,
    ) -> Summary:
        """As ``NormalJoint.respond``."""
        own = mapped(rows, self.maps)
        predictor = np.asarray(own @ self._location)
        gradient = mapped(averaged(csr_array(weights @ diags_array(slope(predictor))), own), self.kept)
        return wald(np.asarray(weights @ response(predictor)), np.sqrt(self.inner.variance(gradient)), interval)

    def on_response_scale(self, summary: Summary, link: Link, interval: float) -> Summary:
        """As ``NormalJoint.on_response_scale``."""
        return inside_range(summary, link, interval)

    def spread_about(self, rows: Rows, centre: csr_array) -> Floats:
        """As ``NormalJoint.spread_about``."""
        return self.inner.spread_about(self._solved_for(rows), as_csr(self._solved_for(centre)))

    def covariance_about(self, rows: Rows, centre: csr_array) -> Floats:
        """As ``NormalJoint.covariance_about``."""
        return self.inner.covariance_about(self._solved_for(rows), as_csr(self._solved_for(centre)))

    def _solved_for(self, rows: Rows) -> Rows:
        """The rows in the coefficients that were solved for."""
        return mapped(mapped(rows, self.maps), self.kept)

    def draws(self, size: int, seed: int) -> Floats:
        """(size, p + q) draws of the normal approximation."""
        inner = self.kept @ self.inner.draws(size, seed).T + self.around[:, None]
        return np.asarray((self.maps @ inner).T)


@dataclass(frozen=True)
class Prepared:
    """What every factor's no pooling starts from: the reduced rows of a fit, and of a linear model the cross-products."""

    rows: ReducedRows
    system: BlockedSystem | None

    @classmethod
    def of(cls, fit: Fit) -> Prepared:
        """Made from the fit's design."""
        assert fit.unit_free is not None
        design = fit.unit_free.form.design
        rows = reduce_design(design)
        return cls(rows, system_of(fit) if design.cells.has_moments else None)


def free_intercepts(fit: Fit, name: str, prepared: Prepared | None = None) -> FreeIntercepts | None:
    """The fit with the intercepts of factor ``name`` free; None where the factor has no intercept.

    Indicators of a categorical predictor that sum to one in every cell count as the intercept. ``prepared`` : that of the fit, for callers
    that ask several times.

    Raises
    ------
    FitError : no finite mode is reached.
    """
    parts = _intercepts(fit.design, name)
    return _freed(fit, parts, prepared or Prepared.of(fit)) if parts else None


def free_term(fit: Fit, name: str, term: str, prepared: Prepared | None = None) -> FreeIntercepts:
    """The fit with the effects of one ``term`` of factor ``name`` free and its other terms pooled as they are.

    A level's rows determine the term where its column differs, in them, from what the terms make that are part of it (a slope: from a
    constant; an intercept: always where there are rows), and where the outcomes are not all alike.

    Raises
    ------
    FitError : no finite mode is reached. KeyError : the factor has no such term.
    """
    index, place = terms_of(fit.design, name)[term]
    prepared = prepared or Prepared.of(fit)
    found = _freed(fit, {index: [place]}, prepared)
    return replace(found, determined=found.determined & _varies_beside_its_margin(fit.design, prepared.rows, name, index, place))


def coefficients_of_term(free: FreeIntercepts, fit: Fit, term: str, lineage: Mapping[str, Integers]) -> TermByTerm:
    """Coefficients of a free term: the population's, those of the ancestors in ``lineage`` and the level's own, added up."""
    found = free.fit.joint.combine(coefficient_rows(fit.design, lineage, term), fit.interval)
    usable = free.determined & np.isfinite(found.estimate) & np.isfinite(found.std_error)
    return TermByTerm(np.where(usable, found.estimate, np.nan), np.where(usable, found.std_error, np.nan))


def _freed(fit: Fit, parts: dict[int, list[int]], prepared: Prepared) -> FreeIntercepts:
    """With the columns ``parts`` (by block of one factor) free."""
    assert fit.unit_free is not None
    form = fit.unit_free.form
    design, rows = form.design, prepared.rows
    first = next(iter(parts))
    free = ReducedBlock(
        rows.blocks[first].codes,
        np.ascontiguousarray(np.hstack([rows.blocks[index].values[:, places] for index, places in parts.items()])),
        rows.blocks[first].n_levels,
    )
    kept = independent_common(replace(rows, blocks=(free,)))
    embed = _embedding(design, kept)
    sigma = _scale(fit)
    lambdas = [_root(fit.unit_free.covariances[index] / sigma**2, parts.get(index, [])) for index in range(len(design.blocks))]
    around = _around(fit, design, {} if prepared.system is not None else parts, kept)

    def finished(joint: NormalJoint, again: Callable[[], FreeIntercepts] | None = None) -> FreeIntercepts:
        conditional = joint.factor.conditional_variance()
        left = np.max([conditional[index][:, places].max(axis=1) for index, places in parts.items()], axis=0)
        around_joint = AroundJoint(joint, form.maps.matrix, embed, around)
        free_fit = replace(fit, joint=around_joint, covariance_draws=None, sigma_draws=None, dispersion_draws=None, theta=None)
        return FreeIntercepts(free_fit, np.asarray(left < UNDETERMINED * FREE), again)

    system = prepared.system
    if system is None:
        return finished(_at_the_mode(fit, design, rows, kept, around, parts, lambdas))

    def solved() -> FreeIntercepts:
        return finished(NormalJoint(fewer_columns(system, kept, around[: len(kept)]).factorise(lambdas), sigma), solved)

    return solved()


def _intercepts(design: Design, name: str) -> dict[int, list[int]]:
    """Per block of the factor, the columns that are its intercept or sum to one."""
    mine = {index: block for index, block in enumerate(design.blocks) if block.factor.name == name}
    found = {index: [at for at, column in enumerate(block.columns) if column.label == "Intercept"] for index, block in mine.items()}
    if any(found.values()):
        return {index: places for index, places in found.items() if places}
    for index, block in mine.items():
        values = {
            at: column_values(design, column)
            for at, column in enumerate(block.columns)
            if column.indicators and not column.numbers and len(column.indicators) == 1
        }
        by_predictor: dict[str, list[int]] = {}
        for at in values:
            by_predictor.setdefault(block.columns[at].indicators[0][0], []).append(at)
        for places in by_predictor.values():
            if np.array_equal(sum(values[at] for at in places), np.ones(design.cells.n_cells)):
                return {index: places}
    return {}


def _varies_beside_its_margin(design: Design, rows: ReducedRows, name: str, index: int, place: int) -> Flags:
    """(L,) whether a term's column lies outside the span, in a level's rows, of the factor's terms that are part of it (Nelder 1977)."""
    own = design.blocks[index].columns[place]
    margin = [
        (at, column)
        for at, block in enumerate(design.blocks)
        if block.factor.name == name
        for column, other in enumerate(block.columns)
        if _is_part(other, own)
    ]
    values = np.column_stack([rows.blocks[at].values[:, column] for at, column in [*margin, (index, place)]])
    gram = level_gram(replace(rows.blocks[index], values=values), np.ones(len(values)))
    solution = level_basis(gram).solve(gram)
    return np.asarray(solution.estimable_terms(np.eye(values.shape[1]))[:, -1])


def _is_part(other: DesignColumn, own: DesignColumn) -> bool:
    """Whether a column is made of some, not all, of the numbers and indicators of another."""
    numbers, indicators = Counter(own.numbers), Counter(own.indicators)
    less = Counter(other.numbers) <= numbers and Counter(other.indicators) <= indicators
    return less and (Counter(other.numbers), Counter(other.indicators)) != (numbers, indicators)


def _around(fit: Fit, design: Design, parts: dict[int, list[int]], kept: Flags) -> Floats:
    """(p + q,) the fitted coefficients of the columns that are not solved for, and of the free intercepts; 0 elsewhere."""
    assert fit.unit_free is not None
    plain, joint = fit.unit_free, fit.unit_free.joint
    fitted = plain.form.maps.inverse @ fit.joint.mean if joint is None else joint.mean
    around = np.zeros(len(fitted))
    p = len(design.population)
    around[:p][~kept] = fitted[:p][~kept]
    for index, places in parts.items():
        _effects_of(around, design, index)[:, places] = _effects_of(fitted, design, index)[:, places]
    return around


def _effects_of(values: Floats, design: Design, index: int) -> Floats:
    """(L, k) view of a block's effects in ``values`` (p + q,)."""
    block = design.blocks[index]
    start = len(design.population) + design.starts[index]
    return values[start : start + block.n_effects].reshape(block.factor.n_levels, len(block.columns))


def _embedding(design: Design, kept: Flags) -> csr_array:
    """(p + q, kept + q) E, which puts the coefficients that are solved for at their places."""
    p, total = len(design.population), len(design.population) + design.n_effects
    places: NDArray[np.int64] = np.concatenate([np.flatnonzero(kept), np.arange(p, total)])
    return csr_array((np.ones(len(places)), (places, np.arange(len(places)))), shape=(total, len(places)))


def _scale(fit: Fit) -> float:
    """What effects' variances are relative to: the residual sd of a linear model, 1 on a link scale."""
    return fit.sigma if fit.design.cells.has_moments and fit.sigma is not None else 1.0


def _root(covariance: Floats, free: Sequence[int]) -> Floats:
    """A root of the relative covariance with ``free`` terms of variance ``FREE``, the others pooled as they are."""
    root = np.zeros_like(covariance)
    others = [at for at in range(len(covariance)) if at not in free]
    root[np.ix_(others, others)] = square_root(covariance[np.ix_(others, others)])
    root[list(free), list(free)] = math.sqrt(FREE)
    return root


def _at_the_mode(
    fit: Fit, design: Design, rows: ReducedRows, kept: Flags, around: Floats, parts: dict[int, list[int]], lambdas: Sequence[Floats]
) -> NormalJoint:
    """The joint distribution of what is solved for of a generalised model, beside what is held and about the fitted free effects."""
    shift = rows.X[:, ~kept] @ around[: len(kept)][~kept]
    for index, places in parts.items():
        effects = _effects_of(around, design, index)
        shift = shift + np.einsum("rk,rk->r", rows.blocks[index].values[:, places], effects[rows.blocks[index].codes][:, places])
    rows = replace(rows, X=rows.X[:, kept], offset=rows.offset + shift)
    layout = reweighting(rows)
    likelihood = likelihood_of(outcome_of(design.cells, rows, design.cells.family))
    log_dispersion = 0.0 if fit.dispersion is None else math.log(fit.dispersion)
    mode = find_mode(layout, likelihood, lambdas, log_dispersion, layout.zero(), with_basis=True)
    modes = [part.ravel() for part in layout.by_block(mode.effects)]
    return NormalJoint(mode.factor, 1.0, None, np.concatenate([layout.beta(mode.effects), *modes]))
