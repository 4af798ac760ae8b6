"""A posterior as a netCDF file that ``arviz.from_netcdf`` reads: chains and draws as sampled, coordinates named by level."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multilevel.arrays import Floats
from multilevel.checking.row_loo import cell_log_likelihood
from multilevel.design.factors import full_labels
from multilevel.errors import FitError
from multilevel.fit.container import Check, Fit
from multilevel.fit.drawn_fit import drawn_fit
from multilevel.fit.joint_draws import DrawsJoint, component_values, posterior_of

if TYPE_CHECKING:
    import xarray as xr


def unwritable() -> Check | None:
    """A row for ``diagnostics`` where the file cannot be written, since h5netcdf has no HDF5 library to work with; else None."""
    if find_spec("h5py") is not None:
        return None
    message = "The posterior is not kept for ArviZ (posterior.nc): h5py is not installed. Install h5py and run the study again."
    return Check("posterior_kept", None, None, False, message)


MOST_IN_FILE, MOST_IN_MEMORY = 4_000_000, 40_000_000
"""Draws times cells up to which log-likelihoods are kept: 32 MB in a file, 320 MB in memory."""
_OBSERVED = "A cell is all rows alike in the formula's groups and predictors. total: their summed outcome; n: how many they are."
_LIKELIHOOD = "Of all rows of a cell together, at every draw: leaving one out leaves out its cell."


def write_posterior(fit: Fit, path: Path, attributes: Mapping[str, str]) -> None:
    """Write ``posterior_tree`` with h5netcdf, which needs h5py; see ``unwritable``."""
    posterior_tree(fit, attributes, most_values=MOST_IN_FILE).to_netcdf(path, engine="h5netcdf")


def posterior_tree(fit: Fit, attributes: Mapping[str, str], *, most_values: int = MOST_IN_MEMORY) -> xr.DataTree:
    """The draws of a bayesian fit as ArviZ keeps them.

    Parameters
    ----------
    fit : a fit whose joint distribution is a posterior; one that is kept without draws is drawn from.
    attributes : what the file says of itself (study, as_of, run_id, ...). most_values : draws times cells of log-likelihoods.

    Returns
    -------
    DataTree
        Group ``posterior``, every variable (chain, draw, ...): ``beta`` by ``term``; per grouping factor f ``effects_f`` (deviations from
        the population) by ``f_level`` and ``f_term``, ``sd_f`` by ``f_term`` and, where effects are correlated, ``correlation_f`` by
        ``f_term`` and ``f_other_term``; ``sigma``, ``phi`` or ``shape``. A nested level is written ``parent:level``.
        Group ``observed_data``: per ``cell``, which are the observations that a fit has, ``total``, ``n`` and ``size`` (trials, exposure,
        else rows), with their grouping levels as coordinates. Group ``log_likelihood``: ``outcome`` by chain, draw and cell, of discrete
        families whose rows' outcomes the cells keep. Group ``sample_stats``: what NUTS says of every draw; none of independent draws.

    Raises
    ------
    FitError : the fit has no draws.
    """
    import xarray as xr

    if fit.is_posterior:
        fit = drawn_fit(fit)
    joint = posterior_of(fit)
    if joint is None:
        raise FitError("This fit has no posterior draws to keep.")
    p = len(fit.design.population)
    shape = (joint.n_chains, joint.n_draws // joint.n_chains)
    variables: dict[str, Any] = {"beta": (("chain", "draw", "term"), joint.chains(slice(0, p)))}
    coordinates: dict[str, Any] = {
        "chain": np.arange(shape[0]),
        "draw": np.arange(shape[1]),
        "term": [column.label for column in fit.design.population],
    }
    for name in dict.fromkeys(block.factor.name for block in fit.design.blocks):
        more, places = _factor(fit, joint, name)
        variables |= more
        coordinates |= places
    for component in fit.components:
        if component.block is None:
            variables[component.term] = (("chain", "draw"), component_values(fit, component).reshape(shape))
    posterior = xr.Dataset(variables, coordinates, attrs=dict(attributes))
    groups = {"posterior": posterior, "observed_data": _observed(fit)}
    if fit.sampler_statistics:
        sampled = {name: (("chain", "draw"), values) for name, values in fit.sampler_statistics.items()}
        groups["sample_stats"] = xr.Dataset(sampled, {name: coordinates[name] for name in ("chain", "draw")})
    likelihood = cell_log_likelihood(fit) if joint.n_draws * fit.design.cells.n_cells <= most_values else None
    if likelihood is not None:
        places = {name: coordinates[name] for name in ("chain", "draw")} | _cells(fit)
        values = {"outcome": (("chain", "draw", "cell"), likelihood.reshape(*shape, -1))}
        groups["log_likelihood"] = xr.Dataset(values, places, attrs={"cells": _LIKELIHOOD})
    return xr.DataTree.from_dict(groups)


def _observed(fit: Fit) -> xr.Dataset:
    import xarray as xr

    cells = fit.design.cells
    variables = {"outcome": ("cell", cells.total / cells.size), "total": ("cell", cells.total), "n": ("cell", cells.n)}
    return xr.Dataset({**variables, "size": ("cell", cells.size)}, _cells(fit), attrs={"cells": _OBSERVED})


def _cells(fit: Fit) -> dict[str, Any]:
    """The coordinate ``cell``, and along it the levels of every grouping column."""
    cells = fit.design.cells
    named = {f"{name}_of_cell": ("cell", labels.values[labels.codes].astype(str)) for name, labels in cells.groups.items()}
    return {"cell": np.arange(cells.n_cells), **named}


def _factor(fit: Fit, joint: DrawsJoint, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and coordinates of one grouping factor, all its blocks side by side."""
    design, shape = fit.design, (joint.n_chains, joint.n_draws // joint.n_chains)
    blocks = [at for at, block in enumerate(design.blocks) if block.factor.name == name]
    factor = design.blocks[blocks[0]].factor
    terms = [column.label for at in blocks for column in design.blocks[at].columns]
    effects = [_effects(fit, joint, at) for at in blocks]
    variables: dict[str, Any] = {f"effects_{name}": (("chain", "draw", f"{name}_level", f"{name}_term"), np.concatenate(effects, axis=-1))}
    covariance = _covariance(fit, blocks)
    sds = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    variables[f"sd_{name}"] = (("chain", "draw", f"{name}_term"), sds.reshape(*shape, -1))
    coordinates: dict[str, Any] = {f"{name}_level": [str(label) for label in full_labels(factor)], f"{name}_term": terms}
    if any(len(design.blocks[at].columns) > 1 for at in blocks):
        correlation = covariance / (sds[:, :, None] * sds[:, None, :])
        dimensions = ("chain", "draw", f"{name}_term", f"{name}_other_term")
        variables[f"correlation_{name}"] = (dimensions, correlation.reshape(*shape, *correlation.shape[1:]))
        coordinates[f"{name}_other_term"] = terms
    return variables, coordinates


def _effects(fit: Fit, joint: DrawsJoint, at: int) -> Floats:
    """(chains, draws, L, k) deviations of one block."""
    block = fit.design.blocks[at]
    start = len(fit.design.population) + fit.design.starts[at]
    values = joint.chains(slice(start, start + block.n_effects))
    return values.reshape(*values.shape[:2], block.factor.n_levels, len(block.columns))


def _covariance(fit: Fit, blocks: list[int]) -> Floats:
    """(S, K, K) covariance of all effects of a factor: blocks are independent of one another."""
    assert fit.covariance_draws is not None
    pieces = [fit.covariance_draws[at] for at in blocks]
    width = sum(piece.shape[1] for piece in pieces)
    whole = np.zeros((len(pieces[0]), width, width))
    start = 0
    for piece in pieces:
        stop = start + piece.shape[1]
        whole[:, start:stop, start:stop] = piece
        start = stop
    return whole
