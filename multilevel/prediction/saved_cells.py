"""The cells of published averages as they are kept: weights and fitted values, keyed by labels, in one Parquet table.

An average is sum over own cells i (members of the level) and mix cells j (the mix common to all levels) of a_i b_j h_ij. Two versions'
cells are matched by their labels; ``change_parts`` then splits what changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from multilevel.arrays import Floats, Integers
from multilevel.errors import DataError

type Level = tuple[str | None, str]
"""The parent level's label (None without one) and the level's."""

type Key = tuple[str, ...]

KEY = ("parent_level", "level")

SCHEMA = pa.schema(
    [
        ("grouping_factor", pa.string()),
        ("of", pa.string()),
        ("side", pa.string()),
        ("parent_level", pa.string()),
        ("level", pa.string()),
        ("columns", pa.list_(pa.string())),
        ("numbers", pa.list_(pa.string())),
        ("left_out", pa.list_(pa.string())),
        ("labels", pa.list_(pa.string())),
        ("weight", pa.float64()),
        ("fitted", pa.float64()),
        ("fitted_by_mix", pa.list_(pa.float64())),
    ]
)
"""One row a cell. side: own or mix. columns: what tells cells apart; numbers: those of them that are numbers; left_out: what would tell
them apart too, were there not too many; labels: one a column. fitted: of an own cell over the mix; of a mix cell its distance from that,
where distances are the same for all own cells (else 0). fitted_by_mix: of an own cell in every mix cell, in their order, where they are
not."""


@dataclass(frozen=True)
class CellSide:
    """Cells of one side. columns : what tells them apart. keys : per cell a label for each column. weight : (n,) as of ``SavedCells``.
    numbers : the columns that are numbers, their labels one significant digit. left_out : columns that would make too many cells."""

    columns: tuple[str, ...]
    keys: tuple[Key, ...]
    weight: Floats
    numbers: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class SavedCells:
    """Cells of one factor's averages, I own ones and J of the mix, with h_ij in units of the outcome.

    of : of the members as they are, or of new ones. levels : (L,). level : (I,) the level of each own cell. own : weights sum to one within
    a level; mix : to one. fitted : (I,) the average of h_ij over the mix. distance : (J,) h_ij less that, where ``joint`` is None. joint :
    (I, J) the h_ij.
    """

    factor: str
    of: Literal["members", "population"]
    levels: tuple[Level, ...]
    level: Integers
    own: CellSide
    mix: CellSide
    fitted: Floats
    distance: Floats
    joint: Floats | None

    def over(self, weight: Floats) -> Floats:
        """(I,) averages of h_ij over mix cells with ``weight`` (J,), which sums to one."""
        return np.asarray(self.fitted + self.distance @ weight if self.joint is None else self.joint @ weight)

    def averages(self) -> Floats:
        """(L,) sum of w h over each level's cells: the published estimates."""
        return np.bincount(self.level, self.own.weight * self.over(self.mix.weight), len(self.levels))


def cells_table(saved: Sequence[SavedCells]) -> pa.Table:
    """All factors' cells as one table of ``SCHEMA``."""
    pieces = [piece for one in saved for piece in (_own_rows(one), _mix_rows(one))]
    return pa.concat_tables(pieces) if pieces else SCHEMA.empty_table()


def _own_rows(one: SavedCells) -> pa.Table:
    parents, labels = ([one.levels[at][place] for at in one.level] for place in (0, 1))
    joint = pa.nulls(len(labels), pa.list_(pa.float64())) if one.joint is None else _lists(one.joint)
    return _rows(one, "own", one.own, pa.array(parents, pa.string()), pa.array(labels, pa.string()), one.fitted, joint)


def _mix_rows(one: SavedCells) -> pa.Table:
    n = len(one.mix.weight)
    nothing = pa.nulls(n, pa.string())
    return _rows(one, "mix", one.mix, nothing, nothing, one.distance, pa.nulls(n, pa.list_(pa.float64())))


def _rows(one: SavedCells, name: str, side: CellSide, parents: Any, labels: Any, fitted: Floats, joint: Any) -> pa.Table:
    n = len(side.weight)
    first = [pa.array([text] * n, pa.string()) for text in (one.factor, one.of, name)]
    named = [pa.array([list(names)] * n, pa.list_(pa.string())) for names in (side.columns, side.numbers, side.left_out)]
    keys = pa.array([list(key) for key in side.keys], pa.list_(pa.string()))
    return pa.Table.from_arrays([*first, parents, labels, *named, keys, pa.array(side.weight), pa.array(fitted), joint], schema=SCHEMA)


def _lists(values: Floats) -> Any:
    """A list of each row (I, J)."""
    offsets = pa.array(np.arange(len(values) + 1) * values.shape[1], pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))


def read_cells_table(table: pa.Table) -> tuple[SavedCells, ...]:
    """What ``cells_table`` wrote; DataError where the table is another."""
    if not table.schema.equals(SCHEMA):
        raise DataError(
            "its kept cells were written by another release of groupwise; publish its day again (groupwise estimate STUDY --as-of DAY)."
        )
    names = table.select(["grouping_factor", "of"]).group_by(["grouping_factor", "of"], use_threads=False).aggregate([])
    return tuple(_restored(table, row["grouping_factor"], row["of"]) for row in names.to_pylist())


def _restored(table: pa.Table, factor: str, of: Literal["members", "population"]) -> SavedCells:
    here = table.filter((pc.field("grouping_factor") == factor) & (pc.field("of") == of))
    own, mix = (here.filter(pc.field("side") == side).combine_chunks() for side in ("own", "mix"))
    each: list[Level] = [(parent, str(level)) for parent, level in zip(*(own[name].to_pylist() for name in KEY), strict=True)]
    levels = tuple(dict.fromkeys(each))
    place = {level: at for at, level in enumerate(levels)}
    joint = None
    if own.num_rows and own["fitted_by_mix"].null_count == 0:
        values: Any = own["fitted_by_mix"].combine_chunks()
        joint = values.flatten().to_numpy().reshape(own.num_rows, mix.num_rows)
    return SavedCells(
        factor,
        of,
        levels,
        np.array([place[level] for level in each], dtype=np.int64),
        _side(own),
        _side(mix),
        own["fitted"].to_numpy(),
        mix["fitted"].to_numpy(),
        joint,
    )


def _side(rows: pa.Table) -> CellSide:
    listed: list[Any] = rows.select(["columns", "numbers", "left_out", "labels"]).to_pylist()
    columns, numbers, left_out = (tuple(listed[0][name]) if listed else () for name in ("columns", "numbers", "left_out"))
    return CellSide(columns, tuple(tuple(row["labels"]) for row in listed), rows["weight"].to_numpy(), numbers, left_out)
