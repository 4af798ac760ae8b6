"""What a table says, as one hash: the same for two runs that published the same, whatever their files' bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NO_CONTENT = frozenset({"run_id"})
"""Columns that name the run and say nothing of the line items."""


def content_sha256(table: pa.Table) -> str:
    """Hex sha256 of names, types and values in their order; of no metadata, no layout in memory, and not of the run's id."""
    digest = hashlib.sha256()
    for name in table.column_names:
        if name in NO_CONTENT:
            continue
        column = table.column(name)
        digest.update(f"{name}\t{column.type}\t{len(column)}\n".encode())
        digest.update(np.packbits(np.asarray(pc.is_valid(column))).tobytes())
        for values in _values(column):
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _values(column: Any) -> Iterator[np.ndarray[Any, Any]]:
    """Fixed-width arrays that tell the column's values apart; what stands under a null is one value."""
    if pa.types.is_string(column.type):
        texts = pa.concat_arrays(pc.fill_null(column, "").cast(pa.large_string()).chunks or [pa.array([], pa.large_string())])
        _, ends, data = texts.buffers()
        offsets = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1] if len(texts) else np.zeros(1, np.int64)
        yield np.diff(offsets)
        yield np.frombuffer(b"" if data is None else data, np.uint8)[offsets[0] : offsets[-1]]
    elif pa.types.is_boolean(column.type):
        yield np.asarray(pc.fill_null(column, False))
    elif pa.types.is_date32(column.type):
        yield np.asarray(pc.fill_null(column.cast(pa.int32()), 0))
    else:
        yield np.asarray(pc.fill_null(column, 0))
