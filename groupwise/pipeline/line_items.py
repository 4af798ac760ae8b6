"""From a study to its cells: described, checked, compressed. A run, a plan and a comparison all go this way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from groupwise.compression.column_scan import ValueCounts
from groupwise.compression.compress import CompressedStudy, ScannedCells, compress
from groupwise.source.describe import extract
from groupwise.source.relation import Relation
from groupwise.source.time_zones import local_day
from groupwise.study.study import Study
from groupwise.validation.missing_values import level_orders
from groupwise.validation.validate import Validated, validate
from multilevel.cells.cell_plan import MOST_OUTCOMES
from multilevel.formula.columns import not_grouped_by
from multilevel.formula.tree import Formula


@dataclass(frozen=True)
class LineItems:
    """A study's line items as of a day, and what its rules left of them."""

    relation: Relation
    validated: Validated


def read_line_items(study: Study, as_of: date | None, folder: Path, tell: Callable[[str], None]) -> LineItems:
    """Describe and check the line items for a command that publishes nothing: quarantined rows are counted and not kept.

    Parameters
    ----------
    folder : for the files in between. tell : told what is done.

    Raises
    ------
    SourceError, DataError : as a run would.
    """
    tell("reading line items")
    relation = extract(study, as_of, folder, today=local_day(datetime.now(UTC), study.zone))
    tell("checking line items")
    return LineItems(relation, validate(study, relation, folder, stays=False))


def cells_of(
    study: Study,
    relation: Relation,
    study_sql: str,
    folder: Path,
    *,
    formula: Formula | None = None,
    most_outcomes: int = MOST_OUTCOMES,
    with_units: bool = False,
    known: ValueCounts | None = None,
    scanned: ScannedCells | None = None,
) -> CompressedStudy:
    """Cells of the study's rows, by its formula or another one; parameters and errors as of ``compress``.

    ``with_units`` : keep sums by cell and unit of the sampled columns that the formula leaves out.
    ``known``, ``scanned`` : as of ``compress``.
    """
    used = study.parsed_formula if formula is None else formula
    return compress(
        relation,
        study_sql,
        used,
        study.family,
        folder,
        max_cells=study.max_cells,
        most_outcomes=most_outcomes,
        orders=level_orders(study),
        units=not_grouped_by(used, study.sampled) if with_units else (),
        known=known,
        scanned=scanned,
    )
