"""Variances and correlations of group terms that no rows of this kind could tell: refused in words, since a fit would return its start."""

from __future__ import annotations

import numpy as np

from multilevel.design.model import Design, DesignColumn, GroupBlock
from multilevel.design.reduction import reduce_design
from multilevel.design.sketch import Dependence, Spanned, find_unidentified
from multilevel.design.unit_free import unit_free
from multilevel.errors import FitError

NAMED = 5
"""Columns that a message names."""

TAKES_PART = 1e-6
"""Part of the largest weighted coefficient below which a population column takes no part in a group term's."""


def check_identified(design: Design) -> None:
    """Refuse a design whose likelihood does not depend on some of its variance parameters.

    Raises
    ------
    FitError
        Begins with ``identified[factor]``, names the terms that determine the factor's columns and what to leave out.
    """
    if not design.blocks:
        return
    found = find_unidentified(design)
    if isinstance(found, Spanned):
        raise FitError(_spanned_message(design, found))
    if isinstance(found, Dependence):
        raise FitError(_dependence_message(design, found))


def written(columns: tuple[DesignColumn, ...], factor: str) -> str:
    """A group term as lme4 writes it: ``(1 + x | g)``."""
    labels = [column.label for column in columns if column.label != "Intercept"]
    first = "1" if len(labels) < len(columns) else "0"
    return f"({' + '.join([first, *labels] if first == '1' or labels else [first])} | {factor})"


def _spanned_message(design: Design, found: Spanned) -> str:
    block = design.blocks[found.block]
    name = block.factor.name
    if not found.columns:
        terms = written(block.columns, name)
        return (
            f"identified[{name}]: the variances of {terms} are not identified, because a sum of its terms is the same as the others or as "
            f"what the terms outside the brackets already determine in every level of {name}. Leave one of the terms out of the brackets."
        )
    spanned = [block.columns[place] for place in found.columns]
    by = _explaining(design, found)
    if not by:
        labels = _listed([column.label for column in spanned])
        return f"identified[{name}]: {labels} is 0 in every row, so nothing can vary by {name} with it. Leave it out of the brackets."
    what = " and ".join(_effects_of(column) for column in spanned)
    left = tuple(column for place, column in enumerate(block.columns) if place not in found.columns)
    instead = f"Write {written(left, name)} instead of {written(block.columns, name)}" if left else f"Drop {written(block.columns, name)}"
    return (
        f"identified[{name}]: how far {what} differ between levels of {name} is not identified. The population-level "
        f"terms ({_listed(by)}) already determine them for all {len(np.unique(block.factor.codes))} levels, so nothing is left "
        f"to learn a variance from. {instead}, or leave those terms out."
    )


def _effects_of(column: DesignColumn) -> str:
    return "the intercepts" if column.label == "Intercept" else f"the slopes of {column.label}"


def _explaining(design: Design, found: Spanned) -> list[str]:
    """Labels of the population columns whose sum gives the block's columns."""
    rows = reduce_design(unit_free(design).design)
    length = np.sqrt(np.sum(rows.X**2, axis=0))
    block = rows.blocks[found.block]
    effects = np.random.default_rng(0).standard_normal(block.n_levels)[block.codes]
    wanted = block.values[:, list(found.columns)] * effects[:, None]
    weights = np.abs(np.linalg.lstsq(rows.X / length, wanted)[0]).max(axis=1)
    labels = [column.label for column, weight in zip(design.population, weights, strict=True) if weight > TAKES_PART * weights.max()]
    return [label for label in labels if label != "Intercept"] or labels


def _dependence_message(design: Design, found: Dependence) -> str:
    blocks = [design.blocks[place] for place in found.blocks]
    names = [written(block.columns, block.factor.name) for block in blocks]
    factor = _finest(blocks).factor.name
    start = f"identified[{factor}]: "
    if len(blocks) == 1 and not found.residual:
        labels = [column.label for column in blocks[0].columns if column.label != "Intercept"]
        return (
            f"{start}the standard deviations and correlations of {names[0]} are not identified: {_listed(labels)} takes too few different "
            f"values, or its values never meet in one level of {factor}, so that different ones describe the rows equally well. Leave "
            f"{labels[-1]} out of the brackets."
        )
    if found.residual:
        others = "" if len(names) == 1 else f" and {_listed(names[1:])} together"
        return (
            f"{start}{names[0]}{others} cannot be told from the residual: both add the same variance to every row, because the levels of "
            f"{factor} have one row each, or what the population-level terms leave of them. Use a coarser factor, or drop {names[0]}."
        )
    return (
        f"{start}the variances of {_listed(names)} cannot be told apart: after the population-level terms, what one of them adds to the "
        f"variances and covariances of the rows the others add too. Drop one of them."
    )


def _finest(blocks: list[GroupBlock]) -> GroupBlock:
    return max(blocks, key=lambda block: block.factor.n_levels)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
