"""Two models of the same rows: likelihood-ratio test, AIC, BIC. Both by maximum likelihood, never by REML, whose criteria differ in X."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy.special import chdtrc

from multilevel.design.model import Design
from multilevel.errors import FitError, StudyError
from multilevel.fit.container import Fit
from multilevel.formula.columns import formula_columns
from multilevel.formula.tree import Formula, GroupTerm
from multilevel.generalised.laplace_engine import fit_generalised
from multilevel.linear.linear_engine import fit_linear
from multilevel.pooling.extremes import fit_complete


@dataclass(frozen=True)
class Criteria:
    """A model's maximised log-likelihood on the scale of the rows, its parameters, AIC and BIC (n is the number of rows, as in lme4)."""

    formula: str
    n_parameters: int
    log_likelihood: float
    aic: float
    bic: float


@dataclass(frozen=True)
class LikelihoodRatio:
    """Twice the gain in log-likelihood, against chi-square with ``df``.

    ``n_variances``: how many variances and correlations the reduced model lacks. Above 0 the hypothesis lies on the boundary of the
    parameter space and ``p`` is too large (Self and Liang 1987; Stram and Lee 1994); for one variance alone, half of it is right.
    """

    chi2: float
    df: int
    p: float
    n_variances: int


@dataclass(frozen=True)
class Comparison:
    """Criteria of both, and the test where the models are nested and differ in parameters (else None)."""

    full: Criteria
    reduced: Criteria
    test: LikelihoodRatio | None


def check_comparable(full: Formula, reduced: Formula) -> None:
    """Raise StudyError unless both formulas speak of the same rows and the same outcome."""
    if reduced.response != full.response or reduced.offsets != full.offsets:
        raise StudyError(
            f"--reduced {reduced.text!r}: the outcome, its weights and its offset must be those of the study ({full.text!r}); likelihoods "
            "of different outcomes cannot be compared."
        )
    extra = sorted(set(formula_columns(reduced)) - set(formula_columns(full)))
    if extra:
        raise StudyError(
            f"--reduced {reduced.text!r} names {', '.join(extra)}, which the study's formula does not: rows with missing values there "
            "would differ between the two. Put the column into the study's formula, and leave it out of the reduced one."
        )


def union(full: Formula, reduced: Formula) -> Formula:
    """A formula whose cells serve both."""
    known = {term.label for term in full.population}
    population = (*full.population, *(term for term in reduced.population if term.label not in known))
    return replace(full, population=population, groups=(*full.groups, *(group for group in reduced.groups if group not in full.groups)))


def is_nested(full: Formula, reduced: Formula) -> bool:
    """Whether every term of ``reduced`` is one of ``full``: its groups' terms within one group term of the same factor."""
    labels = {term.label for term in full.population}
    return {term.label for term in reduced.population} <= labels and all(
        any(group.columns == other.columns and _terms(group) <= _terms(other) for other in full.groups) for group in reduced.groups
    )


def fit_by_likelihood(design: Design, seed: int = 0, near: Fit | None = None) -> Fit:
    """Maximum likelihood (gaussian) or Laplace's approximation; without group terms, of the population coefficients alone.

    ``near`` : a fit with the same group terms to much the same rows, from which the search of a gaussian model starts.
    Raises FitError where the optimiser did not converge.
    """
    family = design.cells.family
    if not design.blocks:
        fit = fit_complete(design, family)
        # the estimate of complete pooling is unbiased, that of maximum likelihood divides by n
        n = design.cells.n_rows
        shrink = math.sqrt(max(n - len(design.population), 0) / n)
        return fit if fit.sigma is None or design.cells.known_sigma else replace(fit, sigma=fit.sigma * shrink)
    is_linear = design.cells.has_moments
    fit = fit_linear(design, method="ml", seed=seed, near=near) if is_linear else fit_generalised(design, family, seed=seed)
    failed = [check for check in fit.checks if check.gate and not check.passed]
    if failed:
        raise FitError(f"{failed[0].check}: {failed[0].message}. Nothing can be compared; simplify the group terms.")
    return fit


def compare(full: Formula, reduced: Formula, fits: tuple[Sequence[Fit], Sequence[Fit]]) -> Comparison:
    """Criteria of two models on the same rows, the larger one's first, and the test between them.

    Parameters
    ----------
    fits : each model's, of every part of its outcome (one; two of a hurdle, that of all rows first).

    Raises
    ------
    FitError
        The larger model's likelihood is the smaller one: its optimiser has missed the optimum.
    """
    larger, smaller = criteria(full.text, fits[0]), criteria(reduced.text, fits[1])
    df = larger.n_parameters - smaller.n_parameters
    if df <= 0 or not is_nested(full, reduced):
        return Comparison(larger, smaller, None)
    statistic = 2.0 * (larger.log_likelihood - smaller.log_likelihood)
    if statistic < -1e-4 * (1.0 + abs(larger.log_likelihood) * 1e-4):
        raise FitError(f"The larger model's log-likelihood is the smaller by {-statistic / 2:.3g}: its optimum was not found; set a seed.")
    statistic = max(statistic, 0.0)
    population = sum(len(a.design.population) - len(b.design.population) for a, b in zip(*fits, strict=True))
    return Comparison(larger, smaller, LikelihoodRatio(statistic, df, float(chdtrc(df, statistic)), df - population))


def criteria(text: str, fits: Sequence[Fit]) -> Criteria:
    """AIC and BIC of a model fitted by maximum likelihood; parts share no parameter, so that their log-likelihoods add.

    Of one part the scale is that of the formula's response, as in lme4; of a hurdle it is y, also where amounts are modelled as log y.

    Raises FitError for a fit without a log-likelihood, or by REML.
    """
    value = 0.0
    for fit in fits:
        if fit.log_likelihood is None or fit.method == "reml":
            raise FitError(f"{text}: a {fit.method} fit has no likelihood that other models' can be compared with.")
        value += fit.log_likelihood + (fit.design.cells.once.get("log_jacobian", 0.0) if len(fits) > 1 else 0.0)
    k, n_rows = sum(fit.n_parameters for fit in fits), fits[0].design.cells.n_rows
    return Criteria(text, k, value, 2.0 * k - 2.0 * value, k * math.log(n_rows) - 2.0 * value)


def _terms(group: GroupTerm) -> set[str]:
    return {term.label for term in group.terms}
