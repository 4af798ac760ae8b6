"""The dry run of a two-part (hurdle) study: one plan, with both parts' parameters, cost and priors."""

from __future__ import annotations

from dataclasses import replace

from groupwise.compression.compress import CompressedStudy
from groupwise.planning.planned import Plan, planned, with_asked, with_cost
from groupwise.study.study import Study
from multilevel.cells.statistics import CellStatistics
from multilevel.description.two_part_description import two_part_mathematics, two_part_words
from multilevel.design.model import Design
from multilevel.design.parts import PARTS, Part
from multilevel.families.two_part import TWO_PART
from multilevel.formula.tree import Formula
from multilevel.study.designs import part_designs


def two_part_plan(
    start: Plan, study: Study, formula: Formula, cells: CellStatistics, compressed: CompressedStudy, *, with_priors: bool
) -> Plan:
    """The plan of a study whose family is a hurdle.

    Raises
    ------
    DataError
        Outcomes below zero, none at zero, or none above it. FitError: either part cannot be fitted.
    """
    designs = part_designs(formula, cells)
    family = cells.family
    plans = {part: _of_part(start, study, formula, compressed, part, design, with_priors) for part, design in designs.by_part.items()}
    occurrence, amount = (plans[part] for part in PARTS)
    refusals = tuple(f"{part}: {refusal}" for part in PARTS for refusal in plans[part].refusals)
    numbers = [(plan.n_parameters or 0, plan.n_effects or 0) for plan in (occurrence, amount)]
    made = replace(
        occurrence,
        family=start.family,
        words=tuple(two_part_words(formula, designs.whole, designs.amount)),
        mathematics=two_part_mathematics(formula, TWO_PART[family], designs.whole, designs.amount),
        n_parameters=numbers[0][0] + numbers[1][0],
        n_effects=numbers[0][1] + numbers[1][1],
        warnings=designs.warnings,
        refusals=refusals,
        cost=", and ".join(f"for the {part} {plans[part].cost}" for part in PARTS if plans[part].cost is not None) or None,
        takes_hours=any(plan.takes_hours for plan in plans.values()),
        priors=tuple(f"{part}: {line}" for part in PARTS for line in plans[part].priors),
        prior_predictive=tuple(f"{part}: {line}" for part in PARTS for line in plans[part].prior_predictive),
    )
    return made if refusals else with_asked(made, study, designs.whole)


def _of_part(
    start: Plan, study: Study, formula: Formula, compressed: CompressedStudy, part: Part, design: Design, with_priors: bool
) -> Plan:
    made = planned(replace(start, family=design.cells.family), formula, design, compressed)
    if made.refusals or not design.blocks or not design.population:
        return made
    own = study.model_copy(update={"priors": None if study.priors is None else study.priors.get(part)})
    return with_cost(made, own, design, with_priors)
