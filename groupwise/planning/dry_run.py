"""The dry run: what a study would estimate, from how many cells, and everything that would stop it. Nothing is fitted or published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from groupwise.compression.compress import CompressedStudy
from groupwise.faults import told
from groupwise.pipeline.line_items import cells_of
from groupwise.planning.planned import Plan, planned, with_asked, with_cost
from groupwise.planning.unnamed_units import unnamed_units
from groupwise.source.relation import Relation
from groupwise.study.study import Study
from multilevel.cells.files import read_cells, read_units
from multilevel.checking.dependence_reading import dependence_readings
from multilevel.design.nesting import nesting
from multilevel.design.parts import units_of_part
from multilevel.errors import DataError, FitError, FormulaError
from multilevel.study.designs import StudyPart, built_parts


@told("the plan cannot be made")
def plan(
    study: Study,
    relation: Relation,
    study_sql: str,
    *,
    folder: Path | None = None,
    with_priors: bool = False,
) -> Plan:
    """Compress the study's rows, build the design, check it, and say what would be estimated.

    Parameters
    ----------
    study, relation, study_sql : as for ``compress``.
    folder : where the cells go; None uses a temporary folder that is removed.
    with_priors : bayesian engine only: the priors in words, and what outcomes they expect before any data.
    """
    with TemporaryDirectory() as temporary:
        return _plan(study, relation, study_sql, folder or Path(temporary), with_priors)


def _plan(study: Study, relation: Relation, study_sql: str, folder: Path, with_priors: bool) -> Plan:
    formula, family = study.parsed_formula, study.family
    start = Plan(study=study.name, formula=formula.text, family=family, engine=study.engine)
    try:
        compressed = cells_of(study, relation, study_sql, folder, with_units=True)
        cells = read_cells(compressed.cells_path, compressed.spec_path)
        parts = tuple(built_parts(formula, cells))
    except (DataError, FitError, FormulaError) as error:
        return replace(start, refusals=(str(error),))
    design = parts[0].design
    made = planned(start, formula, parts, compressed)
    made = made if made.refusals else with_asked(made, study, design)
    if not made.refusals:
        made = replace(made, dependence=_dependence(study, relation, study_sql, folder, parts[0], compressed))
    if made.refusals or not design.blocks or not design.population:
        return made
    return with_cost(made, study, parts, with_priors)


def _dependence(
    study: Study, relation: Relation, study_sql: str, folder: Path, part: StudyPart, compressed: CompressedStudy
) -> tuple[str, ...]:
    """What can be said of line items that are alike before anything is fitted: of a two-part study by its first part."""
    named = unnamed_units(study, relation, study_sql, folder)
    if named is not None or not part.design.blocks:
        return () if named is None else (named,)
    tree = nesting(part.design)
    units = read_units(compressed.cells_path, compressed.spec_path)
    own = [sums if part.name is None else units_of_part(sums, part.name) for sums in units]
    return tuple(reading.sentence() for sums in own for reading in dependence_readings(part.design, tree, sums))
