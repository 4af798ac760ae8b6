"""The two extremes beside partial pooling: complete pooling (no group terms at all) and no pooling (one factor's terms free in each level).

No pooling of factor f: f's terms as coefficients of their own in every level, without a distribution over them; its parents and the
predictors constant within its levels dropped (the levels take them up), other factors' group terms dropped, the remaining coefficients
common to all levels. Levels are eliminated one by one, so that there may be as many as rows allow.

The rows ``pooling = none`` of ``population_coefficients`` are the common coefficients of the finest factor's no-pooling fit: that of the
factor with most levels, which leaves the least unexplained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from multilevel.arrays import Floats
from multilevel.design.model import Design, DesignColumn, GroupBlock
from multilevel.design.reduction import ReducedRows, outcome_of, reduce_design
from multilevel.design.unit_free import Maps, unit_free
from multilevel.errors import FitError
from multilevel.fit.container import Fit, Joint, UnitFreeFit, VarianceComponent
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.linear.assemble import linear_system
from multilevel.linear.factorise import BlockedFactor
from multilevel.linear.joint_normal import NormalJoint
from multilevel.linear.mapped_joint import mapped_joint
from multilevel.pooling.levels import Flags, common_columns, independent_common, level_basis, level_coefficients, with_kernels
from multilevel.pooling.scoring import fit_levels


@dataclass(frozen=True)
class NoPoolingFit:
    """No pooling of one factor.

    fit : its ``design`` has the common columns and one block, the factor's terms; ``fit.joint`` is over (common, level by level terms),
    so that averages over any rows come from ``fit.joint.respond``. estimate, std_error : (L, k) of the level's terms, NaN where not
    estimable or separated. estimable : (L, k); what the joint says of a level that is not is void.
    """

    fit: Fit
    estimate: Floats
    std_error: Floats
    estimable: Flags

    @property
    def columns(self) -> tuple[DesignColumn, ...]:
        """The k terms that are free in each level."""
        return self.fit.design.blocks[0].columns

    @property
    def common(self) -> tuple[DesignColumn, ...]:
        """The columns whose coefficients are common to all levels."""
        return self.fit.design.population


def fit_complete(design: Design, family: str, interval: float = 0.95) -> Fit:
    """Least squares, or a generalised linear model by maximum likelihood, on the population columns alone.

    Raises FitError where they do not determine finite coefficients (no residual degrees of freedom, separation).
    """
    bare = replace(design, blocks=())
    if not design.cells.has_moments:
        return fit_generalised(bare, family, interval=interval)
    form = unit_free(bare)
    rows = reduce_design(form.design)
    factor = linear_system(rows).factorise([])
    fit = _least_squares(bare, form.maps, rows, factor, len(bare.population), interval)
    return replace(fit, unit_free=UnitFreeFit(form, (), joint=NormalJoint(factor, 1.0 if fit.sigma is None else fit.sigma), lambdas=()))


def fit_no_pooling(design: Design, family: str, block_index: int, interval: float = 0.95) -> NoPoolingFit:
    """No pooling of the factor of ``design.blocks[block_index]``; further blocks on the same factor go with it.

    Raises FitError without residual degrees of freedom (gaussian), or where a common coefficient has no finite estimate.
    """
    unpooled = _unpooled_design(design, block_index)
    kept = independent_common(reduce_design(unit_free(unpooled, free_levels=True).design))
    unpooled = replace(unpooled, population=tuple(column for column, keep in zip(unpooled.population, kept, strict=True) if keep))
    form = unit_free(unpooled, free_levels=True)
    maps, rows = form.maps, reduce_design(form.design)
    if not design.cells.has_moments:
        return _generalised_levels(unpooled, maps, rows, family, interval)
    # what the levels' own terms say of the outcome is taken off first and given back: a large mean would cost the digits of the residuals
    own = level_coefficients(rows.outcome[:, None], rows.blocks[0])[:, :, 0]
    rows = replace(rows, outcome=rows.outcome - np.einsum("rk,rk->r", rows.blocks[0].values, own[rows.blocks[0].codes]))
    system = linear_system(rows)
    solution = level_basis(system.own).solve(system.own)
    rank = len(unpooled.population) + int(solution.rank.sum())
    factor = with_kernels(system, solution.kernels)
    fit = _least_squares(unpooled, maps, rows, factor, rank, interval)
    location = np.concatenate([factor.beta, factor.effects + own.ravel()])
    sigma = 1.0 if fit.sigma is None else fit.sigma
    joint = mapped_joint(NormalJoint(factor, sigma, None, location), maps)
    return _no_pooling(replace(fit, joint=joint), solution.estimable_terms(maps.blocks[0]))


def _unpooled_design(design: Design, block_index: int) -> Design:
    factor = design.blocks[block_index].factor
    same = [block for block in design.blocks if block.factor.name == factor.name]
    terms = tuple({column.label: column for block in same for column in block.columns}.values())
    free = GroupBlock(factor, terms)
    return replace(design, population=common_columns(design.population, free), blocks=(free,))


def _generalised_levels(design: Design, maps: Maps, rows: ReducedRows, family: str, interval: float) -> NoPoolingFit:
    found = fit_levels(rows, outcome_of(design.cells, rows, family))
    location = np.concatenate([found.beta, found.effects.ravel()])
    has_dispersion = found.dispersion is not None
    fit = replace(
        _bare_fit(design, family, interval, mapped_joint(NormalJoint(found.factor, 1.0, None, location), maps)),
        dispersion=found.dispersion,
        log_likelihood=found.log_likelihood,
        n_parameters=len(design.population) + int(found.solution.rank.sum()) + int(has_dispersion),
    )
    return _no_pooling(fit, found.solution.estimable_terms(maps.blocks[0]))


def _no_pooling(fit: Fit, estimable: Flags) -> NoPoolingFit:
    p = len(fit.design.population)
    places = p + np.flatnonzero(estimable.ravel())
    picks = csr_array((np.ones(len(places)), (np.arange(len(places)), places)), shape=(len(places), p + estimable.size))
    summary = fit.joint.combine(picks, fit.interval)
    estimate, std_error = np.full(estimable.size, np.nan), np.full(estimable.size, np.nan)
    estimate[estimable.ravel()], std_error[estimable.ravel()] = summary.estimate, summary.std_error
    return NoPoolingFit(fit, estimate.reshape(estimable.shape), std_error.reshape(estimable.shape), estimable)


def _least_squares(design: Design, maps: Maps, rows: ReducedRows, factor: BlockedFactor, rank: int, interval: float) -> Fit:
    """The fit of a gaussian model without penalties; sigma is unbiased, the log-likelihood is the maximised one."""
    n, known = rows.n_rows, design.cells.known_sigma
    if n <= rank and not known:
        message = f"No residual degrees of freedom: {n} rows for {rank} coefficients; use a coarser factor, or a wider window."
        raise FitError(message)
    rss = max(factor.penalised_rss, 0.0)
    sigma = 1.0 if known else math.sqrt(rss / (n - rank))
    log_weights = float(design.cells.once.get("log_weights", 0.0))
    deviance = n * math.log(2.0 * math.pi) + rss if known else n * (1.0 + math.log(2.0 * math.pi * max(rss, 1e-300) / n))
    residual = VarianceComponent("residual", "sigma", None, "sd", sigma, None, None, None)
    return replace(
        _bare_fit(design, design.cells.family, interval, mapped_joint(NormalJoint(factor, sigma), maps)),
        method="least_squares",
        components=() if known else (residual,),
        sigma=sigma,
        degrees_of_freedom=None if known else np.full(len(design.population), float(n - rank)),
        log_likelihood=-(deviance - log_weights) / 2.0,
        n_parameters=rank + int(not known),
    )


def _bare_fit(design: Design, family: str, interval: float, joint: Joint) -> Fit:
    """A fit without distributions over effects, to be filled in."""
    shapes = [(block.factor.n_levels, len(block.columns)) for block in design.blocks]
    nothing = tuple(np.zeros(shape) for shape in shapes)
    return Fit(
        design=design,
        family=family,
        engine="likelihood",
        method="ml",
        interval=interval,
        joint=joint,
        components=(),
        covariances=tuple(np.zeros((k, k)) for _, k in shapes),
        conditional_variance=nothing,
        shrinkage=nothing,
    )
