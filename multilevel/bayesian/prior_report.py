"""What the priors say, before and after the data: in words, as outcomes that they allow, and by how much they move the posterior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multilevel.arrays import Floats
from multilevel.bayesian.parameters import Layout, sample_prior
from multilevel.bayesian.priors import ResolvedPriors
from multilevel.bayesian.results import parameter_names, scale_name
from multilevel.design.model import Design
from multilevel.design.reduction import coefficient_matrix, reduce_design
from multilevel.families.registry import family_named
from multilevel.fit.container import Fit
from multilevel.fit.joint_draws import posterior_of

LARGEST = 700.0
"""Of a linear predictor under a log link: beyond it the mean is no finite number."""


@dataclass(frozen=True)
class PriorLine:
    """One prior: the parameter, its distribution as a study would write it, and what it speaks of."""

    parameter: str
    prior: str
    meaning: str


def describe_priors(design: Design, family: str, priors: ResolvedPriors) -> tuple[PriorLine, ...]:
    """Every prior of a model, in words."""
    scale = "the outcome's scale" if family_named(family).link.is_linear else "the link scale"
    lines = []
    for column, prior in zip(design.population, priors.terms, strict=True):
        place = "the outcome at the mean of the other columns" if column.label == "Intercept" else "change for one unit of the column"
        lines.append(PriorLine(column.label, str(prior), f"{place}, on {scale}"))
    for block, sds, eta in zip(design.blocks, priors.sds, priors.correlations, strict=True):
        name = block.factor.name
        for column, prior in zip(block.columns, sds, strict=True):
            lines.append(PriorLine(f"sd({name}, {column.label})", str(prior), f"how far levels of {name} differ, on {scale}"))
        if len(block.columns) > 1:
            lines.append(PriorLine(f"correlation({name})", f"lkj({eta:.4g})", "1 is uniform over correlation matrices, more favours none"))
    if priors.sigma is not None:
        lines.append(PriorLine("sigma", str(priors.sigma), "residual sd of a line item; exponential takes its mean"))
    if priors.dispersion is not None:
        lines.append(PriorLine(scale_name(family), str(priors.dispersion), "prior on 1 / sqrt of it, a coefficient of variation"))
    return tuple(lines)


@dataclass(frozen=True)
class PriorPredictive:
    """Expected outcomes of cells on the response scale under the prior alone: quantiles over draws and cells, beside the observed mean."""

    probabilities: tuple[float, ...]
    quantiles: tuple[float, ...]
    observed_mean: float


def prior_predictive(
    design: Design, family: str, priors: ResolvedPriors, *, seed: int = 0, size: int = 400, cells: int = 500
) -> PriorPredictive:
    """What the priors allow before any data: a line so wide that it is absurd, or so narrow that it misses the data, shows here."""
    rng = np.random.default_rng(seed)
    layout = Layout(tuple(len(block.columns) for block in design.blocks), priors.sigma is not None or priors.dispersion is not None)
    thetas = sample_prior(size, layout, priors, rng)
    root = np.linalg.cholesky(np.linalg.inv(priors.beta_precision))
    pieces = [priors.beta_location + rng.normal(size=(size, len(root))) @ root.T]
    for block in range(len(design.blocks)):
        levels, k = design.blocks[block].factor.n_levels, layout.widths[block]
        effects = np.einsum("sij,slj->sli", layout.factor(thetas, block), rng.normal(size=(size, levels, k)))
        pieces.append(effects.reshape(size, levels * k))
    rows = reduce_design(design)
    chosen = rng.choice(len(rows.outcome), size=min(cells, len(rows.outcome)), replace=False)
    weight = np.maximum(np.abs(rows.X).max(axis=1), 1e-12)[chosen] if design.cells.has_moments else np.ones(len(chosen))
    eta = np.asarray(coefficient_matrix(rows)[chosen] @ np.concatenate(pieces, axis=1).T) / weight[:, None] + rows.offset[chosen, None]
    mean = family_named(family).link.mean(np.minimum(eta, LARGEST) if family_named(family).link.is_multiplicative else eta)
    probabilities = (0.025, 0.25, 0.5, 0.75, 0.975)
    return PriorPredictive(probabilities, tuple(float(q) for q in np.quantile(mean, probabilities)), _observed_mean(design))


def prior_sensitivity(fit: Fit, priors: ResolvedPriors) -> dict[str, float]:
    """Power-scaling sensitivity of each coefficient and variance component to the priors (Kallioinen et al. 2024).

    Above 0.05 the prior is informative: raising it to a power near one moves the posterior. ``priors`` are those of the unit-free design.
    """
    import arviz as az

    p = len(fit.design.population)
    own = posterior_of(fit)
    draws, chains = (fit.joint.draws(1000, 0), 1) if own is None else (own.values, own.n_chains)
    beta, components = draws[:, :p], component_values(fit)
    names = parameter_names(fit.design, fit.family, with_scale=priors.sigma is not None or priors.dispersion is not None)
    columns = np.concatenate([components, beta], axis=1)
    posterior = {name: columns[:, at].reshape(chains, -1) for at, name in enumerate(names[: columns.shape[1]])}
    assert fit.unit_free is not None
    inner = beta @ np.linalg.inv(fit.unit_free.form.maps.population).T
    log_prior = {"all": _log_density(fit, inner, fit.unit_free.covariance_draws or (), priors).reshape(chains, -1)}
    found = az.psense(az.from_dict({"posterior": posterior, "log_prior": log_prior}))
    return {name: float(found[name]) for name in posterior}


def _log_density(fit: Fit, beta: Floats, covariances: tuple[Floats, ...], priors: ResolvedPriors) -> Floats:
    """Log prior density of what the study writes priors for: coefficients, sds, correlations, sigma, 1 / sqrt(phi)."""
    off = beta - priors.beta_location
    total = -0.5 * np.einsum("si,ij,sj->s", off, priors.beta_precision, off)
    for covariance, sd_priors, eta in zip(covariances, priors.sds, priors.correlations, strict=True):
        sds = np.sqrt(np.einsum("sii->si", covariance))
        total = total + sum(prior.log_density(sds[:, at]) for at, prior in enumerate(sd_priors))
        total = total + (eta - 1.0) * np.linalg.slogdet(covariance / (sds[:, :, None] * sds[:, None, :]))[1]
    if priors.sigma is not None:
        total = total + priors.sigma.log_density(fit.sigma_draws)
    if priors.dispersion is not None and fit.dispersion_draws is not None:
        total = total + priors.dispersion.log_density(fit.dispersion_draws**-0.5)
    return np.asarray(total)


def component_values(fit: Fit) -> Floats:
    """(S, d) draws of the sds, correlations and the residual's sd or dispersion, in the order of ``Fit.components``."""
    columns: list[Floats] = []
    for covariance in fit.covariance_draws or ():
        k = covariance.shape[1]
        sds = np.sqrt(np.einsum("sii->si", covariance))
        columns.extend(sds.T)
        columns += [np.clip(covariance[:, i, j] / (sds[:, i] * sds[:, j]), -1.0, 1.0) for i in range(k) for j in range(i)]
    scale = fit.dispersion_draws if fit.sigma_draws is None or fit.design.cells.known_sigma else fit.sigma_draws
    return np.stack([*columns, scale] if scale is not None else columns, axis=1)


def _observed_mean(design: Design) -> float:
    cells = design.cells
    if cells.has_moments:
        return float(np.average(cells.mean[:, -1], weights=cells.weight))
    return float(cells.total.sum() / cells.size.sum())
