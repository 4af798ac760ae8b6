"""Which engine fits what: partial pooling with the study's own, the model without group-level predictors with the quickest that will do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, cast

from multilevel.bayesian.priors import Priors, ResolvedPriors, read_priors
from multilevel.bayesian.sampling import Sampling
from multilevel.bayesian.unit_free_priors import model_priors
from multilevel.design.family_checks import check_family
from multilevel.design.group_predictors import has_group_predictors, without_group_predictors
from multilevel.design.model import Design
from multilevel.errors import StudyError
from multilevel.fit.container import Check, Fit
from multilevel.intervals.theta_uncertainty import with_theta
from multilevel.linear.neighbour import Neighbour
from multilevel.study.options import FitOptions

_METHODS = ("reml", "ml", None)


def fit_partial(design: Design, options: FitOptions) -> Fit:
    """Partial pooling with the engine that the study names."""
    family = design.cells.family
    if options.model.method not in _METHODS:
        raise StudyError(f"method: {options.model.method!r} does not exist; write reml, ml or null.")
    if options.model.engine == "bayesian":
        return _fit_bayesian(design, family, options)
    fit = _with_maximum(_fit_likelihood(design, family, options, _neighbour(design, options)), options)
    return with_theta(_with_intervals(fit, options), quadrature_points=options.model.quadrature_points, seed=options.model.seed)


def fit_without_group_predictors(design: Design, options: FitOptions, beside: Fit) -> Fit | None:
    """The model of ``beside`` less its group-level predictors, None where it has none: by REML or Laplace, since it needs no second
    posterior."""
    if not has_group_predictors(design):
        return None
    bare = without_group_predictors(design)
    return _fit_likelihood(bare, design.cells.family, options, beside)


def resolved_priors(design: Design, options: FitOptions) -> ResolvedPriors:
    """The priors of a bayesian fit as a study would write them, the study's own in place of the defaults."""
    priors = cast(Priors | Mapping[str, object] | None, options.model.priors)
    return model_priors(design, design.cells.family, priors if isinstance(priors, Priors) else read_priors(priors)).written


def _fit_bayesian(design: Design, family: str, options: FitOptions) -> Fit:
    check_family(design, family)
    # PyMC costs seconds to import: only for those who ask for it.
    from multilevel.bayesian.bayesian_engine import fit_bayesian

    return fit_bayesian(
        design,
        family,
        priors=cast(Priors | Mapping[str, object] | None, options.model.priors),
        sampling=cast(Sampling | Mapping[str, object] | None, options.sampling),
        seed=options.model.seed,
        interval=options.model.interval,
        progress=options.progress,
    )


INTERVALS = {
    "wald": "normal, from the curvature at the optimum; coefficients of linear models by Student's t with their degrees of freedom; "
    "variance components by profile likelihood where their standard error on the log scale is above 0.5 or they are zero (interval_method)",
    "profile": "profile likelihood for coefficients and variance components, by chi-square: of coefficients with few levels behind them "
    "narrower than Student's t, which `intervals: wald` has, and covering less; of groups from the joint distribution",
    "bootstrap": "parametric bootstrap's percentiles for coefficients and variance components; of groups from the joint distribution",
}


def _with_intervals(fit: Fit, options: FitOptions) -> Fit:
    """The intervals that the study asks for, and a line in ``diagnostics`` that says which they are."""
    from multilevel.intervals.trust import with_trusted_intervals, without_wild_errors

    if options.model.intervals == "bootstrap":
        from multilevel.intervals.bootstrap import with_bootstrap_intervals

        report = options.progress
        told = None if report is None else lambda done: report("bootstrap", done)
        fit = with_bootstrap_intervals(fit, samples=options.model.bootstrap_samples, seed=options.model.seed, progress=told)
    elif options.model.intervals == "profile" and fit.design.cells.has_moments:
        from multilevel.intervals.linear_profile import with_profile_intervals

        fit = without_wild_errors(with_profile_intervals(fit, seed=options.model.seed))
    elif options.model.intervals == "profile":
        from multilevel.intervals.laplace_profile import with_profile_intervals as with_profile_of_laplace

        fit = without_wild_errors(with_profile_of_laplace(fit))
    else:
        fit = with_trusted_intervals(fit, seed=options.model.seed)
    return replace(fit, checks=(*fit.checks, Check("interval_method", None, None, passed=True, message=INTERVALS[options.model.intervals])))


def _with_maximum(fit: Fit, options: FitOptions) -> Fit:
    """With the maximum of the likelihood itself beside a restricted fit."""
    if fit.method != "reml":
        return fit
    from multilevel.linear.linear_engine import with_maximum

    return with_maximum(fit, options.model.seed)


def _neighbour(design: Design, options: FitOptions) -> Neighbour | None:
    """Of the one part that the options are of."""
    found = next(iter(options.model.near.values()), None)
    return found if found is not None and found.is_of(design) else None


def _fit_likelihood(design: Design, family: str, options: FitOptions, beside: Fit | Neighbour | None = None) -> Fit:
    if design.cells.has_moments:
        from multilevel.linear.linear_engine import fit_linear

        method: Literal["reml", "ml"] = "ml" if options.model.engine == "likelihood" and options.model.method == "ml" else "reml"
        return fit_linear(design, method=method, interval=options.model.interval, seed=options.model.seed, near=beside)
    from multilevel.generalised.laplace_engine import fit_generalised

    if options.model.engine == "likelihood" and options.model.method == "reml":
        raise StudyError(f"method: reml exists for gaussian outcomes only, this one is {family}; write ml or null.")
    return fit_generalised(
        design,
        family,
        quadrature_points=options.model.quadrature_points,
        interval=options.model.interval,
        seed=options.model.seed,
        near=beside if isinstance(beside, Neighbour) else None,
    )
