"""Data that a caller hands over, as Arrow: pandas, Polars, Arrow, DuckDB relations, mappings of columns; one column at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from groupwise.source.relation import first_line, quote
from multilevel.errors import DataError, SourceError
from multilevel.text import shorten

BATCH_ROWS = 500_000
"""Rows of a pandas frame that are converted at once: a frame of any length costs no second copy."""
KINDS = "a pandas, Polars or Arrow table, a DuckDB relation, or the path of a Parquet, CSV or JSON file"

type Stream = pa.Table | pa.RecordBatchReader


@dataclass(frozen=True)
class Tabular:
    """Columns by name, as often as they occur, and how to read some of them.

    Attributes
    ----------
    names : the columns. read : a stream of the columns named, rows in their order.
    categories : column -> its categories in their order, of columns whose type has one.
    """

    names: tuple[str, ...]
    read: Callable[[Sequence[str]], Stream]
    categories: Callable[[str], Sequence[object]]

    def require_single(self, names: Sequence[str]) -> None:
        """SourceError where a column that is needed occurs twice: DuckDB's names know no upper and lower case."""
        known: dict[str, str] = {}
        for name in (each for each in self.names if each in names):
            other = known.get(name.casefold())
            known[name.casefold()] = name
            if other == name:
                raise SourceError(f"data: the column {name!r} occurs twice; rename or drop one of them.")
            if other is not None:
                raise SourceError(f"data: the columns {other!r} and {name!r} differ in upper and lower case alone; rename one of them.")


def tabular(data: object) -> Tabular:
    """What is known of ``data``; SourceError for what is no table."""
    home = type(data).__module__.partition(".")[0]
    if isinstance(data, duckdb.DuckDBPyRelation):
        return _relation(data)
    if home in ("pandas", "polars") and hasattr(type(data), "columns"):
        return _pandas(data) if home == "pandas" else _polars(data)
    if hasattr(data, "to_frame"):
        raise SourceError(f"data: a {type(data).__name__} is one column; hand over the data frame that it is of.")
    if isinstance(data, Mapping):
        return _arrow(_table_of(data))
    if isinstance(data, pa.Table):
        return _arrow(data)
    if hasattr(data, "__arrow_c_stream__"):
        return _stream(pa.RecordBatchReader.from_stream(data))
    if hasattr(data, "scanner") and hasattr(data, "schema"):
        # an Arrow data set reads no more columns than it is asked for
        dataset: Any = data
        return Tabular(tuple(dataset.schema.names), lambda names: dataset.scanner(columns=list(names)).to_reader(), lambda name: ())
    hint = ""
    if home == "numpy" or isinstance(data, list | tuple):
        hint = " Name its columns: pandas.DataFrame(data, columns=[...])."
    elif hasattr(data, "toArrow"):
        hint = " Write data.toArrow()."
    raise SourceError(f"data: {type(data).__module__}.{type(data).__qualname__} cannot be read; hand over {KINDS}.{hint}")


def _table_of(data: Mapping[Any, Any]) -> pa.Table:
    try:
        return pa.table({str(name): values for name, values in data.items()})
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SourceError(f"data: the mapping is no table of columns of one length ({first_line(error)}).") from error


def _arrow(table: pa.Table) -> Tabular:
    def categories(name: str) -> Sequence[object]:
        kind = table.schema.field(name).type
        if not (pa.types.is_dictionary(kind) and kind.ordered) or table.num_rows == 0:
            return ()
        first: Any = table.column(name).unify_dictionaries().chunk(0)
        return list(first.dictionary.to_pylist())

    return Tabular(tuple(table.column_names), table.select, categories)


def _stream(reader: pa.RecordBatchReader) -> Tabular:
    def read(names: Sequence[str]) -> Stream:
        schema = pa.schema([reader.schema.field(name) for name in names])
        return pa.RecordBatchReader.from_batches(schema, (batch.select(list(names)) for batch in reader))

    return Tabular(tuple(reader.schema.names), read, lambda name: ())


def _relation(relation: duckdb.DuckDBPyRelation) -> Tabular:
    def read(names: Sequence[str]) -> Stream:
        chosen: Any = relation.project(", ".join(map(quote, names)))
        reader: pa.RecordBatchReader = chosen.to_arrow_reader(BATCH_ROWS)
        return reader

    def categories(name: str) -> Sequence[object]:
        kind = relation.types[relation.columns.index(name)]
        values: Any = dict(kind.children)["values"] if kind.id == "enum" else ()
        return list(values)

    return Tabular(tuple(relation.columns), read, categories)


def _polars(frame: Any) -> Tabular:
    is_lazy = hasattr(frame, "collect_schema") and hasattr(frame, "sink_parquet")
    schema = frame.collect_schema() if is_lazy else frame.schema

    def read(names: Sequence[str]) -> Stream:
        from polars.exceptions import PolarsError

        chosen = frame.select(list(names))
        try:
            table: pa.Table = (chosen.collect() if is_lazy else chosen).to_arrow()
        except PolarsError as error:
            raise SourceError(f"data: the query of the LazyFrame fails: {shorten(first_line(error), 300)}.") from error
        return table

    def categories(name: str) -> Sequence[object]:
        kind = schema[name]
        return kind.categories.to_list() if type(kind).__name__ == "Enum" else ()

    return Tabular(tuple(schema), read, categories)


def _pandas(frame: Any) -> Tabular:
    """The columns, and the named levels of the index that no column hides."""
    own = [str(name) for name in frame.columns]
    levels = [str(name) for name in frame.index.names if name is not None and str(name) not in own]

    def column(name: str) -> Any:
        if name not in own:
            return frame.index.get_level_values([str(level) for level in frame.index.names].index(name)).to_series()
        return frame.iloc[:, own.index(name)]

    def read(names: Sequence[str]) -> Stream:
        columns = {name: column(name) for name in names}
        schema = pa.schema([(name, _type_of(series, name)) for name, series in columns.items()])
        return pa.RecordBatchReader.from_batches(schema, _batches(columns, schema, len(frame)))

    def categories(name: str) -> Sequence[object]:
        kind = column(name).dtype
        return list(kind.categories) if hasattr(kind, "categories") and hasattr(kind, "ordered") else ()

    return Tabular((*own, *levels), read, categories)


def _type_of(series: Any, name: str) -> pa.DataType:
    """The Arrow type of a pandas column, from all of its values."""
    if hasattr(series.dtype, "categories"):
        found = _array(series.dtype.categories.to_series(), name, None).type
        return pa.string() if pa.types.is_null(found) else found
    if series.dtype == object:
        found = _array(series, name, None).type
        # a column of missing values alone is of no type
        return pa.float64() if pa.types.is_null(found) else found
    return _array(series.iloc[:0], name, None).type


def _batches(columns: Mapping[str, Any], schema: pa.Schema, n_rows: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, n_rows, BATCH_ROWS):
        arrays = [_array(series.iloc[start : start + BATCH_ROWS], name, schema.field(name).type) for name, series in columns.items()]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(series: Any, name: str, kind: pa.DataType | None) -> Any:
    """A pandas column as Arrow, NaN as missing; DataError naming the column where its values are of no one type."""
    try:
        # a categorical's codes are replaced by its values
        found: Any = pa.Array.from_pandas(series, type=None if hasattr(series.dtype, "categories") else kind)
        if isinstance(found, pa.DictionaryArray):
            found = found.dictionary_decode().cast(kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"data: the column {name!r} ({series.dtype}) holds values of different types, or of one that no table has: "
            f"{shorten(first_line(error), 200)}. Convert it first: pandas.to_numeric(data[{name!r}], errors='coerce') for numbers, "
            f"data[{name!r}].astype(str) for names of groups."
        ) from error
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    if isinstance(found, pa.ExtensionArray):
        raise DataError(f"data: the column {name!r} is of type {series.dtype}; convert it first, such as data[{name!r}].astype(str).")
    return found
