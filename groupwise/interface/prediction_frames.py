"""Predictions at the rows of whatever table the caller has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from groupwise.interface.kept_rows import local_paths
from groupwise.interface.tabular import tabular
from groupwise.kept_models import SavedModels
from groupwise.predictions import MADE, interval_of, predict_rows
from groupwise.source.other_rows import read_rows
from groupwise.study.study import Study
from multilevel.errors import SourceError

if TYPE_CHECKING:
    import pandas as pd


def predicted(study: Study, saved: SavedModels, data: object, interval: str | float | None) -> pd.DataFrame:
    """The rows of ``data`` and the columns of a prediction; parameters and errors as of ``Estimates.predict``."""
    is_frame = type(data).__module__.startswith("pandas")
    paths = local_paths(data)
    table = tabular(read_rows(study, paths, "data") if paths else data)
    taken = [name for name in MADE if name in table.names]
    if taken:
        raise SourceError(f"data: the prediction writes the columns {', '.join(MADE)}; rename the table's own {', '.join(taken)}.")
    table.require_single(table.names)
    read = table.read(_needed(saved, table.names, interval) if is_frame else table.names)
    rows = read if isinstance(read, pa.Table) else read.read_all()
    if not rows.num_rows:
        raise SourceError("data: the table has no rows.")
    frame: Any = data if is_frame else rows.to_pandas()
    made: pd.DataFrame = frame.assign(**dict(zip(MADE, predict_rows(study, saved, rows, "data", interval=interval), strict=True)))
    return made


def _needed(saved: SavedModels, given: Sequence[str], interval: str | float | None) -> list[str]:
    """Columns that the formula takes: a frame may hold others that no Arrow table can."""
    from multilevel.prediction.prediction_rows import needs

    wanted = needs(saved.source.bare()[0], given, of_next=interval_of(interval)[1])
    return [name for name in given if name in {*wanted.texts, *wanted.numbers}] or list(given)[:1]
