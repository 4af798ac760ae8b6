"""Posterior draws as the one container of both engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from multilevel.arrays import Floats
from multilevel.bayesian.convergence import Convergence, convergence, convergence_checks, joined
from multilevel.bayesian.parameters import Layout
from multilevel.design.model import Design
from multilevel.design.unit_free import UnitFree
from multilevel.families.registry import family_named
from multilevel.fit.container import Check, Fit, Summary, UnitFreeFit, VarianceComponent
from multilevel.fit.joint_draws import DrawsJoint, summarise
from multilevel.linear.system import LinearSystem

VARIANCE_DRAWS = 160
"""Draws over which the conditional variances are averaged: their average varies little, and each costs a factorisation."""


@dataclass(frozen=True)
class Posterior:
    """What either form of sampling leaves, in the coordinates of ``form``, the unit-free ``design``.

    thetas (chains, draws, d) in the order of ``layout``; values (chains * draws, p + q): beta, then effects in the order of ``Design``;
    system: the (weighted) least-squares system whose ``conditional_variance`` is Var(b | y, theta, beta). figures: convergence of values,
    where it is known already. statistics: name -> (chains, draws), what the sampler says of every draw.
    """

    design: Design
    form: UnitFree
    family: str
    layout: Layout
    thetas: Floats
    values: Floats
    system: LinearSystem
    scaled_by_sigma: bool
    figures: Convergence | None = None
    statistics: Mapping[str, Floats] = field(default_factory=dict)


def build_fit(posterior: Posterior, *, method: str, interval: float, checks: tuple[Check, ...], record: dict[str, object]) -> Fit:
    """Summaries, convergence figures and gates of a posterior."""
    design, layout = posterior.design, posterior.layout
    flat, maps = posterior.thetas.reshape(-1, layout.size), posterior.form.maps
    values = posterior.values if maps.is_identity else np.ascontiguousarray((maps.matrix @ posterior.values.T).T)
    joint = DrawsJoint(values, n_chains=len(posterior.thetas))
    components = tuple(_components(posterior, flat, interval))
    shape = posterior.thetas.shape[:2]
    # gates are of what was sampled, so that they do not depend on units either; the published figures are of the published coefficients
    of_values = posterior.figures or convergence(posterior.values.reshape(*shape, -1))
    found = joined(convergence(component_draws(flat, layout).reshape(*shape, -1)), of_values)
    n_theta, p = layout.size, len(design.population)
    coefficients = convergence(values[:, :p].reshape(*shape, -1))
    factors = [layout.factor(flat, block) for block in range(len(design.blocks))]
    inner = tuple(np.einsum("sij,skj->sik", factor, factor) for factor in factors)
    covariances = maps.covariances(inner)
    conditional, shrinkage = _shrinkage(posterior, flat, maps.blocks)
    pooled = shrinkage if maps.is_identity else _shrinkage(posterior, flat, [np.eye(k) for k in layout.widths])[1]
    scale = layout.scale(flat) if layout.with_scale else None
    has_sigma = family_named(posterior.family).has_sigma
    sigma = scale if has_sigma and scale is not None else (np.ones(len(flat)) if has_sigma else None)
    return Fit(
        design=design,
        family=posterior.family,
        engine="bayesian",
        method=method,
        interval=interval,
        joint=joint,
        components=components,
        covariances=tuple(draws.mean(axis=0) for draws in covariances),
        conditional_variance=conditional,
        shrinkage=shrinkage,
        sigma=None if sigma is None else float(sigma.mean()),
        dispersion=None if has_sigma or scale is None else float(scale.mean()),
        covariance_draws=covariances,
        sigma_draws=sigma,
        dispersion_draws=None if has_sigma else scale,
        ess_bulk=coefficients.ess_bulk,
        ess_tail=coefficients.ess_tail,
        r_hat=coefficients.r_hat,
        n_parameters=p + n_theta,
        checks=(*convergence_checks(parameter_names(design, posterior.family, with_scale=layout.with_scale), found), *checks),
        record=record,
        sampler_statistics=posterior.statistics,
        unit_free=UnitFreeFit(posterior.form, tuple(draws.mean(axis=0) for draws in inner), covariance_draws=inner, shrinkage=pooled),
    )


def component_draws(flat: Floats, layout: Layout, maps: Sequence[Floats] | None = None) -> Floats:
    """(S, d) sds and correlations of each block (lower triangle, row by row), then sigma, phi or shape; of A b, A per block in ``maps``."""
    columns: list[Floats] = []
    for block, k in enumerate(layout.widths):
        factor = layout.factor(flat, block) if maps is None else maps[block] @ layout.factor(flat, block)
        sds = layout.sds(flat, block) if maps is None else np.sqrt(np.sum(factor**2, axis=2))
        columns.extend(sds.T)
        covariance = np.einsum("sij,skj->sik", factor, factor)
        columns += [np.clip(covariance[:, i, j] / (sds[:, i] * sds[:, j]), -1.0, 1.0) for i in range(k) for j in range(i)]
    if layout.with_scale:
        columns.append(layout.scale(flat))
    return np.stack(columns, axis=1) if columns else np.empty((len(flat), 0))


def parameter_names(design: Design, family: str, *, with_scale: bool) -> list[str]:
    """Names of all parameters, variance components first, as messages write them."""
    names = [_component_name(factor, term, other) for factor, term, other, _ in _component_terms(design, family, with_scale)]
    names += [column.label for column in design.population]
    for block in design.blocks:
        levels = (
            block.factor.levels
            if block.factor.parents is None
            else [f"{a}:{b}" for a, b in zip(block.factor.parents, block.factor.levels, strict=True)]
        )
        names += [f"{block.factor.name}[{level}, {column.label}]" for level in levels for column in block.columns]
    return names


def scale_name(family: str) -> str:
    """How the tables call the last parameter: the residual's sd, ``phi`` or ``shape``."""
    return str(family_named(family).scale)


def _component_terms(design: Design, family: str, with_scale: bool) -> Iterator[tuple[str, str, str | None, int | None]]:
    for at, block in enumerate(design.blocks):
        labels = [column.label for column in block.columns]
        yield from ((block.factor.name, label, None, at) for label in labels)
        yield from ((block.factor.name, labels[j], labels[i], at) for i in range(len(labels)) for j in range(i))
    if with_scale:
        yield "residual", scale_name(family), None, None


def _component_name(factor: str, term: str, other: str | None) -> str:
    if factor == "residual":
        return term
    return f"sd({factor}, {term})" if other is None else f"correlation({factor}, {term}, {other})"


def _components(posterior: Posterior, flat: Floats, interval: float) -> Iterator[VarianceComponent]:
    maps = posterior.form.maps
    draws = component_draws(flat, posterior.layout, None if maps.is_identity else maps.blocks)
    if draws.shape[1]:
        yield from posterior_components(posterior.design, posterior.family, posterior.layout, summarise(draws.T, interval))


def posterior_components(design: Design, family: str, layout: Layout, summary: Summary) -> Iterator[VarianceComponent]:
    """The variance components whose posterior is ``summary`` (d,), in the order of ``component_draws``."""
    for at, (factor, term, other, block) in enumerate(_component_terms(design, family, layout.with_scale)):
        yield VarianceComponent(
            factor,
            term,
            other,
            "sd" if other is None else "correlation",
            float(summary.estimate[at]),
            float(summary.std_error[at]),
            float(summary.lower[at]),
            float(summary.upper[at]),
            block,
            "posterior",
        )


def _shrinkage(posterior: Posterior, flat: Floats, maps: Sequence[Floats]) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    """Per block (L, k): Var(A b | y, theta, beta) and its share of tau^2, averaged over evenly spaced draws; A (k, k) from ``maps``."""
    design, layout = posterior.design, posterior.layout
    if not design.blocks:
        return (), ()
    shapes = [(block.factor.n_levels, len(block.columns)) for block in design.blocks]
    variance = [np.zeros(shape) for shape in shapes]
    share = [np.zeros(shape) for shape in shapes]
    kept = flat[:: max(1, len(flat) // VARIANCE_DRAWS)]
    for theta in kept:
        sigma = float(layout.scale(theta)) if posterior.scaled_by_sigma else 1.0
        factors = [layout.factor(theta, block) for block in range(len(shapes))]
        found = posterior.system.factorise([factor / sigma for factor in factors]).conditional_variance(maps)
        for block, relative in enumerate(found):
            variance[block] += sigma**2 * relative / len(kept)
            share[block] += sigma**2 * relative / np.sum((maps[block] @ factors[block]) ** 2, axis=1) / len(kept)
    return tuple(variance), tuple(np.clip(s, 0.0, 1.0) for s in share)
