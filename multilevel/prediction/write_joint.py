"""Saved models and averages written as the tables of ``multilevel.catalogue.joint_tables``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from multilevel.catalogue.joint_tables import JOINT_TABLES, joint_schema
from multilevel.prediction.joint_rows import (
    average_rows,
    block_rows,
    coefficient_rows,
    contrast_rows,
    core_rows,
    factor_rows,
    level_rows,
    mean_rows,
    model_rows,
    with_mixes,
)
from multilevel.prediction.parquet_rows import write_rows
from multilevel.prediction.saved_averages import AverageRows, SavedAverages
from multilevel.prediction.saved_model import SavedModel

BY_MODEL = {
    "blocks": block_rows,
    "factors": factor_rows,
    "levels": level_rows,
    "level_means": mean_rows,
    "level_rows": contrast_rows,
}


def write_joint(models: Sequence[SavedModel], folder: Path, averages: Sequence[SavedAverages | AverageRows] = ()) -> None:
    """Write every table into ``folder``, which ``SavedFolder`` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    many = [one for one in averages if isinstance(one, AverageRows)]
    tables: dict[str, list[pa.Table]] = {name: [joint_schema(name).empty_table()] for name in JOINT_TABLES}
    mixed = [with_mixes(model, place, many) for place, model in enumerate(models)]
    for place, (model, found) in enumerate(zip(models, mixed, strict=True)):
        tables["models"].append(model_rows(place, model, len(model.mean) + len(found.estimates)))
        tables["coefficients"].append(coefficient_rows(place, model, found.joint, found.estimates))
        tables["core"].append(core_rows(place, found.joint))
        for name, made in BY_MODEL.items():
            tables[name].append(made(place, model))
    rows = {id(one): [found.rows[at] for found in mixed] for at, one in enumerate(many)}
    tables["averages"] += [average_rows(one, rows.get(id(one), ())) for one in averages]
    for name, pieces in tables.items():
        write_rows(pa.concat_tables(pieces), folder / f"{name}.parquet", JOINT_TABLES[name].sort_key)
