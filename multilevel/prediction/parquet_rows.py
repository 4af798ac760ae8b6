"""Rows of a Parquet file by their numbers: only the row groups that have them are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multilevel.arrays import Integers
from multilevel.errors import DataError

type Table = Any
"""A table of Arrow, of which the stubs know less than it can do."""

ROW_GROUP = 16_384

UNCOMPRESSED = ("weights", "values", "directions", "draws", "spread", "covariance")
"""Lists of doubles, which no codec makes much smaller, and which are read the quicker without."""


def write_rows(table: pa.Table, file: Path, keys: Sequence[str]) -> None:
    """Write a table sorted by ``keys``."""
    nested = {field.name: f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name for field in table.schema}
    texts = [nested[field.name] for field in table.schema if pa.string() in (field.type, getattr(field.type, "value_type", None))]
    write: Any = pq.write_table
    write(
        table,
        file,
        row_group_size=ROW_GROUP,
        compression={path: "none" if name in UNCOMPRESSED else "zstd" for name, path in nested.items()},
        use_dictionary=[*texts, *(nested[name] for name in ("given", "values") if name in nested)],
        version="2.6",
        sorting_columns=pq.SortingColumn.from_ordering(table.schema, [(key, "ascending") for key in keys]),
    )


def read_all(file: Path, columns: Sequence[str] | None = None) -> Table:
    """The whole table; DataError where it cannot be read."""
    return _read(file, lambda opened: opened.read(None if columns is None else list(columns)))


def read_at(file: Path, rows: Integers, columns: Sequence[str] | None = None) -> Table:
    """The rows numbered ``rows`` (n,), in that order."""

    def chosen(opened: pq.ParquetFile) -> Table:
        starts = _starts(opened)
        groups = np.searchsorted(starts, rows, side="right") - 1
        wanted = np.unique(groups)
        table = opened.read_row_groups(wanted.tolist(), None if columns is None else list(columns))
        before = np.concatenate([[0], np.cumsum(np.diff(starts)[wanted])])
        return table.take(before[np.searchsorted(wanted, groups)] + rows - starts[groups])

    return _read(file, chosen)


def read_between(file: Path, first: int, stop: int, column: str, texts: Sequence[str], columns: Sequence[str]) -> Table:
    """Of the rows ``first`` to ``stop``, which are sorted by ``column``, at least those where it is one of ``texts``: ``columns``, and
    ``row``, each row's number in the file."""

    def chosen(opened: pq.ParquetFile) -> Table:
        starts, place = _starts(opened), opened.schema_arrow.get_field_index(column)
        groups = []
        for at in range(opened.metadata.num_row_groups):
            if starts[at + 1] <= first or starts[at] >= stop:
                continue
            known: Any = opened.metadata.row_group(at).column(place).statistics
            if known is None or not known.has_min_max or any(known.min <= text <= known.max for text in texts):
                groups.append(at)
        tables = [_numbered(opened.read_row_group(at, list(columns)), int(starts[at]), first, stop) for at in groups]
        return pa.concat_tables(tables) if tables else _numbered(opened.schema_arrow.empty_table().select(list(columns)), 0, 0, 0)

    return _read(file, chosen)


def flat(column: Any) -> Any:
    """All entries of a column of lists, one after the other."""
    return column.combine_chunks().flatten().to_numpy()


def list_starts(column: Any) -> Integers:
    """(n + 1,) where each row's list begins among them; null is empty."""
    lengths = column.combine_chunks().value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _numbered(table: Table, start: int, first: int, stop: int) -> Table:
    """Of the rows from number ``start`` on, those from ``first`` to ``stop``, with their numbers."""
    numbered = table.append_column("row", pa.array(np.arange(start, start + table.num_rows)))
    low, high = max(first - start, 0), min(stop - start, table.num_rows)
    return numbered.slice(low, max(high - low, 0))


def _starts(opened: pq.ParquetFile) -> Integers:
    return np.cumsum([0, *(opened.metadata.row_group(at).num_rows for at in range(opened.metadata.num_row_groups))])


def _read(file: Path, work: Callable[[Any], Table]) -> Table:
    try:
        with pq.ParquetFile(file, memory_map=True) as opened:
            return work(opened)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DataError(f"{file}: cannot be read as part of a saved model ({error}); run groupwise estimate again.") from error
