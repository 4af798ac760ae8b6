"""The SELECT that reads a source's Parquet files as one table, and what a reader of the estimates must know about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb

from groupwise.source.parquet_statistics import CAN_HAVE_NAN
from groupwise.source.relation import literal, quote
from groupwise.source.shards import hive
from groupwise.source.shards.footer_schemas import NO_VALUES, Shard, files_without_values, read_shards
from groupwise.source.shards.widen import common_label, common_type, exact_if
from groupwise.source.source_files import exactly
from groupwise.source.source_table import FILE_COLUMN, ColumnUse, SourceTable
from multilevel.errors import SourceError

_NO_FOLDERS = "hive_partitioning = false"


def parquet_table(
    connection: duckdb.DuckDBPyConnection, patterns: Sequence[str], use: ColumnUse, study: str, *, with_folders: bool
) -> SourceTable:
    """One table of all files: columns matched by name, types widened where nothing is lost, null where a file lacks a column.

    ``with_folders`` : whether folders such as ``region=NORTH`` are columns (``hive`` of the study).

    Raises
    ------
    SourceError : a file cannot be read; a column that the study names has types that no type holds exactly, or a folder's name and the
    files' own column differ while the study needs another folder's. Both files and both types are named.
    """
    shards = read_shards(connection, patterns, study)
    if not with_folders:
        table = _without_folders(connection, patterns, shards, use, study)
        own = {name.casefold() for shard in shards for name in shard.columns}
        named = dict.fromkeys(key for shard in shards for key in hive.folder_values(shard.file) if key.casefold() not in own)
        return replace(table, folders=tuple(named))
    if not hive.common_keys(shards):
        raise SourceError(
            f"{study}: source.hive: true, but the files are not all in folders of the same names (region=NORTH): {_odd_folder(shards)}; "
            "leave hive out, or move the files."
        )
    options, notes = _folders(connection, shards, use, study)
    if _are_alike(shards):
        return SourceTable(_read(patterns, (*options, *_file_name(use))), notes)
    folders = _folder_columns(connection, patterns, options, shards)
    types, more = _types(connection, shards, use, study)
    return SourceTable(_union(shards, types, folders, use), (*notes, *more))


def _odd_folder(shards: Sequence[Shard]) -> str:
    keys = {shard.file: ", ".join(hive.folder_values(shard.file)) or "no such folder" for shard in shards}
    first, of_first = next(iter(keys.items()))
    other = next((file for file, of_file in keys.items() if of_file != of_first), None)
    return f"{first} has {of_first}" + (f", {other} has {keys[other]}" if other is not None else "")


def _without_folders(
    connection: duckdb.DuckDBPyConnection, patterns: Sequence[str], shards: Sequence[Shard], use: ColumnUse, study: str
) -> SourceTable:
    if _are_alike(shards):
        return SourceTable(_read(patterns, (_NO_FOLDERS, *_file_name(use))))
    types, notes = _types(connection, shards, use, study)
    return SourceTable(_union(shards, types, {}, use), tuple(notes))


def _file_name(use: ColumnUse) -> tuple[str, ...]:
    return (f"filename = {literal(FILE_COLUMN)}",) if use.by_file else ()


def _are_alike(shards: Sequence[Shard]) -> bool:
    return len({frozenset((name.lower(), kind) for name, kind in shard.columns.items()) for shard in shards}) == 1


def read_alike(files: Sequence[str]) -> str:
    """SELECT of files that have the same columns, whatever their folders are called."""
    return _read(files, (_NO_FOLDERS,))


def _read(files: Sequence[str], options: Sequence[str], columns: str = "*") -> str:
    return f"select {columns} from read_parquet([{', '.join(map(literal, files))}], {', '.join([CAN_HAVE_NAN, *options])})"


def _folders(
    connection: duckdb.DuckDBPyConnection, shards: Sequence[Shard], use: ColumnUse, study: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Options for folder columns where one has the name of a file's own, and a note on it."""
    taken = hive.collisions(shards)
    differing = {key: file for key in taken if (file := hive.file_that_differs(connection, key, shards)) is not None}
    if not differing:
        # the same values: the path may prune files, in the column's own type
        own = {key: str(common_type(kind for shard in shards if (kind := shard.type_of(key)) is not None)) for key in taken}
        return ((_typed_folders(own),) if taken else ()), ()
    key, file = next(iter(differing.items()))
    others = [name for name in hive.folder_values(file) if name not in taken and use.names(name)]
    if others:
        raise SourceError(
            f"{study}: source.parquet: the folders of {file} name {key}, which the file has as a column with other values, and "
            f"{others[0]}, which only the folders have. Rename the folders' {key}, or write {others[0]} into the files."
        )
    return (_NO_FOLDERS,), (f"{key} is taken from the files, not from the folders' names: {file} has other values.",)


def _typed_folders(types: Mapping[str, str]) -> str:
    listed = ", ".join(f"{quote(name)}: {literal(kind)}" for name, kind in types.items())
    return f"hive_partitioning = true, hive_types = {{{listed}}}"


def _folder_columns(
    connection: duckdb.DuckDBPyConnection, patterns: Sequence[str], options: Sequence[str], shards: Sequence[Shard]
) -> dict[str, str]:
    """The columns that DuckDB takes from the folders' names over all files, with their types, so that a part of the files has the same."""
    found = connection.sql(_read(patterns, options))
    keys = {name.lower() for name in hive.common_keys(shards)}
    types = {name: str(kind) for name, kind in zip(found.columns, found.types, strict=True)}
    return {name: kind for name, kind in types.items() if name.lower() in keys and _NO_FOLDERS not in options}


@dataclass(frozen=True)
class _Column:
    """A column of the table: the type it is read as, and file -> the type that it has there."""

    target: str
    kinds: Mapping[str, str]


def _types(
    connection: duckdb.DuckDBPyConnection, shards: Sequence[Shard], use: ColumnUse, study: str
) -> tuple[dict[str, _Column], list[str]]:
    """The columns by name, and notes on what differs; SourceError where a column that the study names has no type."""
    found: dict[str, _Column] = {}
    notes: list[str] = []
    for name in _names(shards):
        kinds = {shard.file: kind for shard in shards if (kind := shard.type_of(name)) is not None}
        is_used = use.names(name)
        if is_used and len(set(kinds.values())) > 1:
            kinds |= dict.fromkeys(files_without_values(connection, name, shards), NO_VALUES)
        target = _target(connection, name, kinds, use)
        if target is None and is_used:
            raise SourceError(f"{study}: {_refusal(name, kinds, use)}")
        if target is None:
            notes.append(f"{name} is left out: {_two_types(kinds)}, and the study does not use it.")
            continue
        found[name] = _Column(target, kinds)
        notes += _notes(name, found[name], shards) if is_used else []
    return found, notes


def _names(shards: Sequence[Shard]) -> list[str]:
    """Every column once, spelled as the first file that has it."""
    spelled: dict[str, str] = {}
    for shard in shards:
        for name in shard.columns:
            spelled.setdefault(name.lower(), name)
    return list(spelled.values())


def _target(connection: duckdb.DuckDBPyConnection, name: str, kinds: Mapping[str, str], use: ColumnUse) -> str | None:
    is_cast = name in use.cast
    target = (common_label if name in use.labels and not is_cast else common_type)(kinds.values())
    if target is not None and _is_inexact(connection, name, kinds, target, is_used=use.names(name)):
        target = None
    # text holds anything; the study's own cast is checked value by value
    return "VARCHAR" if target is None and is_cast else target


def _is_inexact(connection: duckdb.DuckDBPyConnection, name: str, kinds: Mapping[str, str], target: str, *, is_used: bool) -> bool:
    """Whether a value is lost by the cast, where the types do not say: looked up in the files concerned."""
    by_condition: dict[str, list[str]] = defaultdict(list)
    for file, kind in kinds.items():
        condition = exact_if(kind, target, quote(name))
        if condition is not None:
            by_condition[condition].append(exactly(file))
    if not is_used:
        return bool(by_condition)
    counts = [f"{_read(files, (_NO_FOLDERS,), 'count(*)')} where not ({condition})" for condition, files in by_condition.items()]
    return any(connection.execute(count).fetchall()[0][0] for count in counts)


def _two_types(kinds: Mapping[str, str]) -> str:
    first: dict[str, str] = {}
    for file, kind in kinds.items():
        if kind != NO_VALUES:
            first.setdefault(kind, file)
    (kind_a, a), (kind_b, b), *_ = first.items()
    return f"it is {kind_a} in {a} and {kind_b} in {b}"


def _refusal(name: str, kinds: Mapping[str, str], use: ColumnUse) -> str:
    is_label = name in use.labels
    reason = "it names levels, and one level would be written in two ways" if is_label else "no type holds all values exactly"
    wanted = ("VARCHAR" if common_type(kinds.values()) is None else "BIGINT") if is_label else "DOUBLE"
    return (
        f"source.parquet: the files do not agree on {name}: {_two_types(kinds)}; {reason}. Write the files with one type, or say which in "
        f"the study, such as types: {{{name}: {wanted}}}; a value that this would change is refused."
    )


def _notes(name: str, column: _Column, shards: Sequence[Shard]) -> list[str]:
    lacking = [shard.file for shard in shards if shard.file not in column.kinds]
    found = []
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        found.append(f"{name} is null in the rows of {lacking[0]}{more}: {len(lacking)} of {len(shards)} files have no such column.")
    if len(set(column.kinds.values()) - {NO_VALUES}) > 1:
        found.append(f"{name} is read as {column.target}: {_two_types(column.kinds)}.")
    return found


def _union(shards: Sequence[Shard], columns: Mapping[str, _Column], folders: Mapping[str, str], use: ColumnUse) -> str:
    """One SELECT for each set of files that are alike, joined by name."""
    alike: dict[tuple[str | None, ...], list[Shard]] = defaultdict(list)
    for shard in shards:
        alike[tuple(column.kinds.get(shard.file) for column in columns.values())].append(shard)
    options = ((_typed_folders(folders),) if folders else (_NO_FOLDERS,)) + _file_name(use)
    added = [quote(name) for name in (*folders, *((FILE_COLUMN,) if use.by_file else ())) if name not in columns]
    parts = []
    for group in alike.values():
        picks = [_pick(name, column, group[0]) for name, column in columns.items()]
        parts.append(_read([exactly(shard.file) for shard in group], options, ", ".join([*picks, *added])))
    return "\nunion all by name\n".join(parts)


def _pick(name: str, column: _Column, shard: Shard) -> str:
    kind = column.kinds.get(shard.file)
    if column.target == NO_VALUES:
        return f"null as {quote(name)}"
    if kind is None or kind == NO_VALUES:
        return f"cast(null as {column.target}) as {quote(name)}"
    return quote(name) if kind == column.target else f"cast({quote(name)} as {column.target}) as {quote(name)}"
