"""The bayesian engine: choose the form of sampling, run it, and hand back a ``Fit``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

from multilevel.bayesian.collapsed_fit import fit_collapsed
from multilevel.bayesian.laplace_points import fit_laplace_points
from multilevel.bayesian.memory import is_by_points, refuse_too_large
from multilevel.bayesian.nuts_fit import fit_nuts
from multilevel.bayesian.points_fit import fit_points
from multilevel.bayesian.prior_report import describe_priors, prior_sensitivity
from multilevel.bayesian.priors import Priors, read_priors
from multilevel.bayesian.sampling import Sampling, read_sampling
from multilevel.bayesian.unit_free_priors import ModelPriors, model_priors
from multilevel.bayesian.variational_normal import LevelsNotNormalError
from multilevel.design.model import Design
from multilevel.errors import FitError, StudyError
from multilevel.families.registry import family_named
from multilevel.fit.container import Fit
from multilevel.fit.drawn_fit import parameter_draws

SENSITIVITY_DRAWS = 1_000
"""Of coefficients and variances of a posterior that is kept as points, for what the priors do to it."""

FEWEST_FOR_IMPORTANCE = 1000
"""Draws below which a low importance ESS speaks of their number, not of the proposal."""


def fit_bayesian(
    design: Design,
    family: str,
    *,
    priors: Priors | Mapping[str, object] | None = None,
    sampling: Sampling | Mapping[str, object] | None = None,
    seed: int = 0,
    interval: float = 0.95,
    progress: Callable[[str, float], None] | None = None,
) -> Fit:
    """Sample the posterior of a multilevel model from its cell statistics.

    Parameters
    ----------
    design : the model matrix over cells.
    family : any in ``multilevel.families.registry``.
    priors : a study's ``priors:``, read or as written; None for the defaults (``multilevel.bayesian.priors``).
    sampling : a study's ``sampling:``, read or as written; None for 4 chains of 1,000 draws.
    seed : of every random number.
    interval : probability of the equal-tailed intervals.
    progress : called with the current step and the fraction that is complete, 0 to 1.

    Returns
    -------
    Fit
        ``method`` is "collapsed", "nuts" (under ``form: auto`` too, where the collapsed form's proposal fails its gates, or the points of
        a model that is not gaussian), "importance", or "theta_chains" where importance points of a gaussian model failed theirs and Markov
        chains in the variance parameters took their place;
        ``checks`` hold the gates on R-hat, ESS, divergences, Pareto k and importance ESS; ``record``
        the seconds by step and the sampler's figures.

    Raises
    ------
    StudyError
        Priors, sampling or family that the model cannot have.
    FitError
        The posterior cannot be evaluated, or its draws do not fit into memory.
    """
    family_named(family)
    if not design.population:
        raise FitError("The model has no population coefficient; write at least an intercept, as in y ~ 1 + (1 | group).")
    if not design.blocks:
        raise FitError("The model has no group-level terms; the bayesian engine needs at least one, as in (1 | group).")
    how = read_sampling(sampling)
    resolved = model_priors(design, family, priors if isinstance(priors, Priors) else read_priors(priors))
    if how.form == "collapsed" and not design.cells.has_moments:
        raise StudyError(f"sampling: form: collapsed exists for gaussian outcomes only, this one is {family}; write importance or nuts.")
    refuse_too_large(design, how)
    if is_by_points(design, how) and design.cells.has_moments:
        fit = fit_points(design, resolved, how, seed=seed, interval=interval, progress=progress)
    elif is_by_points(design, how):
        fit = _points_or_nuts(design, family, resolved, how, seed=seed, interval=interval, progress=progress)
    elif how.form == "nuts" or not design.cells.has_moments:
        fit = fit_nuts(design, family, resolved, how, seed=seed, interval=interval, progress=progress)
    else:
        fit = fit_collapsed(design, resolved, how, seed=seed, interval=interval)
        missed = [check for check in fit.checks if check.check in ("pareto_k", "importance_ess") and not check.passed]
        if missed and how.form == "auto" and how.draws * how.chains >= FEWEST_FOR_IMPORTANCE:
            failed = {check.check: check.value for check in missed}
            fit = fit_nuts(design, family, resolved, how, seed=seed, interval=interval, progress=progress)
            fit = replace(fit, record=fit.record | {"collapsed_form_failed": failed})
    return replace(fit, record=fit.record | _prior_record(fit, resolved))


def _points_or_nuts(
    design: Design,
    family: str,
    priors: ModelPriors,
    sampling: Sampling,
    *,
    seed: int,
    interval: float,
    progress: Callable[[str, float], None] | None,
) -> Fit:
    """Importance points of a generalised model; under ``form: auto`` NUTS where the points or single levels' shapes fail their gates."""
    try:
        fit = fit_laplace_points(design, priors, sampling, seed=seed, interval=interval, progress=progress)
        failed: object = {check.check: check.value for check in fit.checks if check.gate and not check.passed}
    except LevelsNotNormalError as error:
        if sampling.form != "auto":
            raise
        failed = str(error)
    if sampling.form != "auto" or not failed:
        return fit
    nuts = replace(sampling, form="nuts")
    refuse_too_large(design, nuts)
    found = fit_nuts(design, family, priors, nuts, seed=seed, interval=interval, progress=progress)
    return replace(found, record=found.record | {"importance_points_failed": failed})


def _prior_record(fit: Fit, priors: ModelPriors) -> dict[str, object]:
    """The priors in words, and how much each result depends on them."""
    lines = [asdict(line) for line in describe_priors(fit.design, fit.family, priors.written)]
    drawn = fit if fit.has_draws else parameter_draws(fit, SENSITIVITY_DRAWS)
    return {"priors": lines, "prior_sensitivity": prior_sensitivity(drawn, priors.inner)}
