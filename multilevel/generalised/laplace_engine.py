"""The likelihood engine for generalised linear mixed models: a Laplace (or quadrature) fit as the one container."""

from __future__ import annotations

import numpy as np

from multilevel.arrays import Floats
from multilevel.design.family_checks import check_family
from multilevel.design.model import Design
from multilevel.design.reduction import reduce_design
from multilevel.design.unit_free import Maps, unit_free
from multilevel.errors import StudyError
from multilevel.families.registry import family_named
from multilevel.fit.container import Check, Fit, UnitFreeFit, VarianceComponent, VarianceParameters
from multilevel.generalised.joint_laplace import laplace_joint
from multilevel.generalised.laplace import UNBOUNDED, LaplaceFit, fit_laplace
from multilevel.generalised.laplace_optimise import DISTANCE
from multilevel.linear.footprint import refuse_beyond_memory
from multilevel.linear.mapped_joint import mapped_joint
from multilevel.linear.neighbour import Neighbour
from multilevel.linear.theta import Theta, mapped_lambdas, written_lambdas
from multilevel.linear.uncertainty import components, log_component

MOST_POINTS = 100


def fit_generalised(
    design: Design, family: str, *, quadrature_points: int = 1, interval: float = 0.95, seed: int = 0, near: Neighbour | None = None
) -> Fit:
    """Fit a generalised linear mixed model by maximum likelihood.

    Parameters
    ----------
    design : p population columns, blocks with q effects in all; without blocks it is a generalised linear model.
    family : any in the registry whose cells keep sums, not moments. quadrature_points : 1 for Laplace's approximation; more, for
        adaptive Gauss-Hermite, need one scalar factor. interval : probability of the Wald intervals. seed : of further starts, used only
        where a variance vanishes. near : what another day's search with the same group terms found; this one starts there.

    Returns
    -------
    Fit with ``method`` "laplace", "quadrature" or, without group terms, "ml"; ``log_likelihood`` on the scale of the line items.

    Raises
    ------
    DataError : outcomes outside the family's range. FitError : separation by a predictor, modes or optimum not found.
    StudyError : an unknown family, or quadrature_points below 1.

    Source: Bates et al. (2015), J. Stat. Softw. 67(1); Kristensen et al. (2016), J. Stat. Softw. 70(5).
    """
    if design.cells.has_moments:
        raise StudyError(f"family: {family} has no generalised linear mixed model here: it is fitted as a linear one.")
    if not 1 <= quadrature_points <= MOST_POINTS:
        raise StudyError(f"quadrature_points: {quadrature_points} must be between 1 (Laplace) and {MOST_POINTS}; 9 is usual.")
    check_family(design, family)
    refuse_beyond_memory(design)
    form = unit_free(design)
    maps = form.maps
    found = fit_laplace(form.design, reduce_design(form.design), family, quadrature_points=quadrature_points, seed=seed, near=near)
    own = found.factor.conditional_variance()
    conditional = own if maps.is_identity else found.factor.conditional_variance(maps.blocks)
    covariances = maps.covariances(found.covariances)
    joint = laplace_joint(found)
    return Fit(
        design=design,
        family=family,
        engine="likelihood",
        method="ml" if not design.blocks else "laplace" if quadrature_points == 1 else "quadrature",
        interval=interval,
        joint=mapped_joint(joint, maps),
        components=variance_components(design, family, found, interval, maps),
        covariances=covariances,
        conditional_variance=conditional,
        shrinkage=tuple(_shrinkage(part, covariance) for part, covariance in zip(conditional, covariances, strict=True)),
        dispersion=found.dispersion,
        log_likelihood=found.log_likelihood,
        n_parameters=len(found.parameters),
        singular=found.singular,
        checks=_checks(found),
        record=_record(found, quadrature_points, maps),
        unit_free=UnitFreeFit(
            form,
            found.covariances,
            joint=joint,
            lambdas=found.lambdas,
            shrinkage=tuple(_shrinkage(part, covariance) for part, covariance in zip(own, found.covariances, strict=True)),
            parameters=_of_variances(found),
        ),
    )


def _of_variances(found: LaplaceFit) -> VarianceParameters:
    """theta and the log dispersion, without the coefficients."""
    own = np.r_[: len(found.theta), len(found.theta) + len(found.beta) : len(found.parameters)]
    return VarianceParameters(found.parameters[own], found.parameter_covariance[np.ix_(own, own)], found.flat[own], np.ones(len(own)))


def variance_components(design: Design, family: str, found: LaplaceFit, interval: float, maps: Maps) -> tuple[VarianceComponent, ...]:
    """Standard deviations and correlations with Wald intervals on the log and Fisher z scales; phi or shape on the log scale."""
    layout = Theta(tuple(len(block.columns) for block in design.blocks))
    # unit-free effects are on the link's own scale, and so is theta
    parameters = VarianceParameters(found.parameters, found.parameter_covariance, found.flat, np.ones(len(found.parameters)))
    groups = components(
        design, lambda values: mapped_lambdas(layout.lambdas(values[: layout.n]), maps), lambda _: 1.0, parameters, interval
    )
    if found.dispersion is None:
        return groups
    name = str(family_named(family).scale)
    if found.flat[-1] > 0.01:
        return (*groups, VarianceComponent("residual", name, None, "sd", found.dispersion, None, None, None))
    log_error = float(np.sqrt(max(found.parameter_covariance[-1, -1], 0.0)))
    return (*groups, log_component(name, found.dispersion, log_error, interval))


def _shrinkage(conditional: Floats, covariance: Floats) -> Floats:
    """(L, k) Var(b | y, theta, beta) / tau^2; 1 where tau is zero."""
    variance = np.diagonal(covariance)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, np.clip(conditional / variance, 0.0, 1.0), 1.0)


def _checks(found: LaplaceFit) -> tuple[Check, ...]:
    message = "a variance is estimated as zero or a correlation as one: the data ask for a simpler model" if found.singular else ""
    near = "distance to the optimum, in standard errors of the parameters"
    return (
        Check("converged", found.distance, DISTANCE, found.converged, near, gate=True),
        Check("singular", float(found.singular), 0.0, not found.singular, message),
        *_largest(found),
    )


def _largest(found: LaplaceFit) -> tuple[Check, ...]:
    """Said only where it is so: a sd of this size on a logit or log scale means outcomes nearly all alike within levels."""
    if found.largest_sd <= UNBOUNDED:
        return ()
    message = (
        "the largest standard deviation of group-level effects on the link scale: levels with few line items and outcomes nearly all alike "
        "make Laplace's approximation run off; use a coarser factor or engine: bayesian"
    )
    return (Check("largest_group_sd", found.largest_sd, UNBOUNDED, False, message),)


def _record(found: LaplaceFit, quadrature_points: int, maps: Maps) -> dict[str, object]:
    return {
        "optimiser": "BFGS with beta profiled, then Newton over theta and beta jointly; analytic gradient, unconstrained",
        "quadrature_points": quadrature_points,
        "evaluations": found.evaluations,
        "starts": found.starts,
        "distance": found.distance,
        "distance_tolerance": DISTANCE,
        "theta": [float(value) for value in Theta(tuple(map(len, found.lambdas))).flat(written_lambdas(found.lambdas, maps))],
        "seconds": {"fit": found.seconds},
    }
