"""A study's designs: one, or those of both parts on the same cells; what the study asks of them is checked before anything is fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from multilevel.families.registry import has_two_parts
from multilevel.formula.labels import expression_label
from multilevel.formula.tree import Formula
from multilevel.study.options import FitOptions


@dataclass(frozen=True)
class StudyPart:
    """One part of a study's model.

    name : "occurrence" or "amount"; None where the model has one part. design : what is fitted, over the cells that the part has rows in.
    everywhere : the same columns over every cell, n the rows of the part. warnings : of ``check_design``.
    """

    name: Part | None
    design: Design
    everywhere: Design
    warnings: tuple[DesignWarning, ...] = ()

    def told(self, message: str) -> str:
        """A message with the part in front, where there are two."""
        return message if self.name is None else f"{self.name}: {message}"


def study_parts(formula: Formula, cells: CellStatistics) -> tuple[StudyPart, ...]:
    """The parts of a study's model, one or two, checked.

    Raises
    ------
    DataError
        Of a two-part family: outcomes below zero, none at zero, none above. FitError: a part cannot be fitted.
    """
    return tuple(replace(part, warnings=check_part(formula, part)) for part in built_parts(formula, cells))


def built_parts(formula: Formula, cells: CellStatistics) -> Iterator[StudyPart]:
    """As ``study_parts``, the designs not checked: one after the other, so that what is wrong with the first is found first."""
    if not has_two_parts(cells.family):
        design = build_design(formula, cells)
        yield StudyPart(None, design, design)
        return
    split = split_cells(cells, expression_label(formula.response.expression))
    whole = build_design(formula, split.occurrence)
    yield StudyPart("occurrence", whole, whole)
    yield StudyPart("amount", amount_design(whole, split.amount, formula), replace(whole, cells=split.amount))


def check_part(formula: Formula, part: StudyPart) -> tuple[DesignWarning, ...]:
    """``check_design``; what is refused says so where it is of the line items above zero only."""
    try:
        return check_design(formula, part.design)
    except FitError as error:
        if part.name != "amount":
            raise
        raise FitError(
            f"{error} This is so among the line items with an outcome above zero, which the amounts' part is made from."
        ) from error


def asked_of(design: Design, options: FitOptions) -> Nesting:
    """How the grouping factors nest; raises StudyError where ``predict_for`` or ``cells`` name what the model does not have."""
    return check_asked(design, options.publishing.predict_for, options.publishing.cells_pair)


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
