"""A study's designs: one, or those of both parts on the same cells; what the study asks of them is checked before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from multilevel.cells.statistics import CellStatistics
from multilevel.design.build import build_design
from multilevel.design.checks import DesignWarning, check_design
from multilevel.design.model import Design
from multilevel.design.nesting import Nesting, nesting
from multilevel.design.parts import Part, amount_design, split_cells
from multilevel.errors import FitError
from multilevel.estimands.cell_pairs import cell_pair
from multilevel.estimands.new_levels import NewLevel, check_named, new_levels
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Formula
from multilevel.study.options import FitOptions


@dataclass(frozen=True)
class PartDesigns:
    """``whole`` has every cell; ``amount`` those with rows above zero; ``amount_everywhere`` every cell, with n the rows above zero."""

    whole: Design
    amount: Design
    amount_everywhere: Design
    warnings: tuple[DesignWarning, ...]

    @property
    def by_part(self) -> dict[Part, Design]:
        """What is fitted."""
        return {"occurrence": self.whole, "amount": self.amount}


def part_designs(formula: Formula, cells: CellStatistics) -> PartDesigns:
    """Both designs of a hurdle study.

    Raises
    ------
    DataError
        Outcomes below zero, none at zero, none above. FitError: either part cannot be fitted.
    """
    parts = split_cells(cells, expression_label(formula.response.expression))
    whole = build_design(formula, parts.occurrence)
    warnings = check_design(formula, whole)
    amount = amount_design(whole, parts.amount, formula)
    try:
        check_design(formula, amount)
    except FitError as error:
        raise FitError(
            f"{error} This is so among the line items with an outcome above zero, which the amounts' part is made from."
        ) from error
    return PartDesigns(whole, amount, replace(whole, cells=parts.amount), warnings)


def asked_of(design: Design, options: FitOptions) -> Nesting:
    """How the grouping factors nest; raises StudyError where ``predict_for`` or ``cells`` name what the model does not have."""
    return check_asked(design, options.predict_for, options.cells_pair)


def check_asked(design: Design, predict_for: Sequence[NewLevel], pair: tuple[str, str] | None) -> Nesting:
    """``asked_of``, without the other options."""
    tree = nesting(design)
    check_named(tree, predict_for)
    for name in tree.factors:
        new_levels(tree, name, predict_for)
    if pair is not None:
        cell_pair(design, tree, pair)
    return tree


def tree_of(design: Design, tree: Nesting) -> Nesting:
    """The study's nesting with the codes of one part's cells."""
    return replace(tree, factors={name: replace(factor, codes=_codes(design, name)) for name, factor in tree.factors.items()})


def _codes(design: Design, name: str) -> np.ndarray:
    return next(block.factor.codes for block in design.blocks if block.factor.name == name)
