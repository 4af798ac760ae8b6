"""A shop whose line items come and go, and runs of a study up to its cells, with statistics kept and without."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from groupwise.pipeline.order import asking
from groupwise.pipeline.own_process import InTurn
from groupwise.pipeline.steps import CONDENSE, COUNT, compress, extract, validate
from groupwise.run_folder import RunFolder
from groupwise.statistics.gather import gather_cells, gather_facts
from groupwise.study.study import Study
from multilevel.cells.files import read_cells, read_cells_spec, read_units
from multilevel.cells.statistics import CellStatistics

TODAY = date(2026, 1, 1)
LINES = """
select
    i as id,
    timestamp '2024-01-01' + interval (i * 7 % 100) day + interval (i) minute as day,
    'C' || (i % 4) as category,
    'R' || (i * i % 3) as region,
    i % 11 as customer,
    2 + sin(i) + (i % 4) as amount,
    (i * 13 % 5)::integer as items,
    3 + (i % 3) as tries,
    i % 3 as hits,
    cos(i * i) as x,
    (i % 6)::decimal(10, 2) as price,
    i % 3 = 0 as is_sold
from range({first}, {last}) as r(i)
"""


@dataclass(frozen=True)
class Compressed:
    """What a run knows of its line items once they are cells."""

    cells: pd.DataFrame
    units: list[pd.DataFrame]
    counts: dict[str, Any]
    relation: tuple[int, str]
    once: dict[str, float]
    plan: dict[str, Any]
    noted: dict[str, Any]


class Shop:
    """A database with line items, or Parquet files of them, in the working directory."""

    def __init__(self) -> None:
        self._numbers = count()
        self.write(f"create table lines as {LINES.format(first=0, last=600)}")

    def write(self, *statements: str) -> None:
        """Change the line items."""
        with duckdb.connect("shop.duckdb") as connection:
            for statement in statements:
                connection.execute(statement)

    def run(self, *, keeps: bool = True, as_of: date | None = None, **fields: Any) -> Compressed:
        """Extract, validate and compress."""
        run = RunFolder(Path.cwd() / "runs" / f"r{next(self._numbers)}")
        run.path.mkdir(parents=True)
        study = study_of(**fields | ({} if keeps else {"statistics": None}))
        run.write_study(study, "")
        # so that a published version ends no run
        run.write_json("start", {"force": True})
        extract(str(run.path), as_of, TODAY)
        turn = InTurn()
        gather_facts(run, asking(turn, COUNT))
        validate(str(run.path))
        gather_cells(run, asking(turn, CONDENSE))
        compress(str(run.path))
        return compressed(run)


def study_of(**fields: Any) -> Study:
    plain: dict[str, Any] = {
        "name": "small",
        "formula": "amount ~ 1 + price + x + (1 + x | category) + (1 | region)",
        "source": {"database": "shop.duckdb"},
        "window": {"column": "day", "days": 70},
        "engine": "likelihood",
        "sampled": ["customer"],
        "statistics": {"partition": "month", "keep": "kept"},
        "resources": {"threads": 1},
    }
    return Study.model_validate({name: value for name, value in (plain | fields).items() if value is not None})


def compressed(run: RunFolder) -> Compressed:
    files = run.path / "cells.parquet", run.path / "cells.json"
    spec, cells = read_cells_spec(files[1]), read_cells(*files)
    frame = cells_frame(cells)
    keys = [name for name in frame.columns if name.startswith(("g.", "c.", "x.")) or name == "offset"]
    if cells.outcomes is not None:
        told = pd.DataFrame(
            {"cell": cells.outcomes.cell, "told": cells.outcomes.n * np.cos(cells.outcomes.value + 10 * cells.outcomes.size)}
        )
        frame["outcomes"] = told.groupby("cell")["told"].sum().reindex(range(len(frame))).to_numpy()
    units = [
        pd.DataFrame({"key": u.key, "unit": u.unit, "n": u.n, "weight": u.weight, "size": u.size, "total": u.total, "outcome": u.outcome})
        .assign(**{f"mean.{i}": u.mean[:, i] for i in range(u.mean.shape[1])})
        .sort_values(["key", "unit"], ignore_index=True)
        for u in read_units(*files)
    ]
    validation, relation = run.read_json("validation"), run.relation()
    counts = {
        name: value
        for name, value in validation.items()
        if name in ("rows", "quarantined", "excluded_where", "excluded_missing", "left", "rules")
    }
    return Compressed(
        frame.sort_values(keys, ignore_index=True),
        units,
        counts,
        (relation.rows, relation.checksum),
        dict(cells.once),
        {"features": spec.features, "numbers": spec.numbers, "labels": spec.labels, "units": spec.units, "histogram": spec.histogram},
        run.read_json("segments"),
    )


def cells_frame(cells: CellStatistics) -> pd.DataFrame:
    """What is kept of every cell, but for single rows' outcomes."""
    columns: dict[str, Any] = {f"g.{name}": own.values[own.codes] for name, own in cells.groups.items()}
    columns |= {f"c.{name}": own.values[own.codes] for name, own in cells.labels.items()}
    columns |= {f"x.{name}": values for name, values in cells.numbers.items()}
    columns |= {name: getattr(cells, name) for name in ("n", "weight", "size", "total", "offset")}
    m = cells.mean.shape[1]
    columns |= {f"mean.{i}": cells.mean[:, i] for i in range(m)} | {
        f"cross.{i}.{j}": cells.cross[:, i, j] for i in range(m) for j in range(m)
    }
    if cells.observed is not None:
        columns |= {f"observed.{field.name}": getattr(cells.observed, field.name) for field in fields(cells.observed)}
    if cells.log_total is not None:
        columns["log_total"] = cells.log_total
    return pd.DataFrame(columns if cells.key is None else columns | {"cell_key": cells.key})


def assert_same(kept: Compressed, whole: Compressed) -> None:
    """To 1e-9: sums of the same numbers in another order."""
    assert kept.relation == whole.relation
    assert kept.counts == whole.counts
    assert kept.plan == whole.plan
    pd.testing.assert_frame_equal(kept.cells[sorted(kept.cells)], whole.cells[sorted(whole.cells)], rtol=1e-9, atol=1e-9, check_dtype=False)
    assert len(kept.units) == len(whole.units)
    for own, other in zip(kept.units, whole.units, strict=True):
        pd.testing.assert_frame_equal(own, other, rtol=1e-9, atol=1e-9, check_dtype=False)
    assert kept.once == pytest.approx(whole.once, rel=1e-9)
