"""The part of a study that says where tables come from: line items, and weights to standardise to."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from groupwise.source.file_kinds import KINDS, SOURCE_FORMS, check_date_format, kind_of
from groupwise.source.source_files import plain_path, plain_pattern


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Part(BaseModel):
    """A part of a study: its fields alone, unchanged once it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and info.field_name not in ("level", "parent_level", "hive"):
            raise ValueError("no field is true or false; write null for what the study does not have")
        return value


type Patterns = Annotated[tuple[str, ...] | None, BeforeValidator(_as_list, json_schema_input_type=str | tuple[str, ...] | None)]


class CsvOptions(Part):
    """How the text of CSV files is read; what is not said here is read from the files."""

    delimiter: str | None = Field(None, min_length=1, max_length=1, description="the character between values; null: as in the files")
    decimal: Literal[".", ","] | None = Field(None, description="the decimal sign of numbers; null: as in the files, where that is certain")
    date_format: str | None = Field(
        None, max_length=40, description="how days or times are written, such as %d/%m/%Y or %d.%m.%Y %H:%M; null: ISO, or as is certain"
    )
    encoding: Literal["utf-8", "latin-1", "utf-16", "windows-1252"] = Field("utf-8", description="of the text")
    nulls: Annotated[tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | tuple[str, ...])] = Field(
        (), max_length=20, description="texts that stand for a missing value, such as NA; empty values always do"
    )

    @field_validator("delimiter")
    @classmethod
    def _one_sign(cls, value: str | None) -> str | None:
        if value is not None and (value in '"\n\r\0' or value.isalnum()):
            raise ValueError('write one sign, such as ";", "," or "\\t"')
        return value

    @field_validator("date_format")
    @classmethod
    def _a_day(cls, value: str | None) -> str | None:
        if value is not None:
            check_date_format(value)
        return value


class Source(Part):
    """Where line items come from: one of a DuckDB file, Parquet, CSV, JSON or Arrow files, and a query on it."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    database: str | None = Field(None, description="path of a DuckDB file; opened read-only")
    parquet: Patterns = Field(None, description="Parquet files or globs, read together")
    csv: Patterns = Field(None, description="CSV files or globs, read together; .csv.gz too")
    json_: Patterns = Field(None, alias="json", description="JSON files or globs, read together: a list of objects, or one object a line")
    arrow: Patterns = Field(None, description="Arrow IPC (Feather) files or globs, read together")
    hive: bool = Field(False, description="with parquet: whether folders such as region=NORTH are columns of the files below them")
    options: CsvOptions | None = Field(None, description="with csv: how the text is read; null: as in the files")
    line_items: str | None = Field(
        None, description="path of an SQL file, one SELECT that gives line items; of files it reads the one relation called source"
    )

    @model_validator(mode="before")
    @classmethod
    def _by_suffix(cls, value: object) -> object:
        """``source: lines.csv`` as the mapping that it stands for."""
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            return value
        kinds = {kind_of(name) for name in names}
        kind = kinds.pop() if len(kinds) == 1 else None
        if kind is None or (kind == "database" and len(names) > 1):
            return value
        return {kind: names[0] if kind == "database" else names}

    @field_validator("database", "line_items")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        return None if value is None else plain_path(value)

    @field_validator("parquet", "csv", "json_", "arrow")
    @classmethod
    def _plain_patterns(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not value:
            raise ValueError("write at least one file or glob")
        return None if value is None else tuple(map(plain_pattern, value))

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [kind for kind in KINDS if self._named(kind) is not None]
        if len(kinds) != 1:
            said = f"{' and '.join(kinds)} are two sources" if kinds else "it names no data"
            raise ValueError(f"{said}; write one of {SOURCE_FORMS}")
        if self.hive and self.kind != "parquet":
            raise ValueError(f"hive belongs to parquet; {self.kind} has no columns in its folders' names")
        if self.options is not None and self.kind != "csv":
            raise ValueError(f"options belongs to csv; leave it out for {self.kind}")
        for name in self.files:
            other = kind_of(name)
            if other not in (None, self.kind):
                raise ValueError(f"{name} is no {KINDS[self.kind]} by its suffix; write {{{other}: {name}}}")
        return self

    def _named(self, kind: str) -> object:
        return self.json_ if kind == "json" else getattr(self, kind)

    @property
    def kind(self) -> str:
        """database, parquet, csv, json or arrow."""
        return next(kind for kind in KINDS if self._named(kind) is not None)

    @property
    def files(self) -> tuple[str, ...]:
        """The files or globs as they are written; none of a database."""
        return self.parquet or self.csv or self.json_ or self.arrow or ()

    @property
    def shown(self) -> str:
        """What the source is, for messages."""
        return self.database or ", ".join(self.files)


class Mix(Part):
    """A table of weights that group estimates are standardised to: columns of the model, and ``weight``."""

    parquet: str | None = Field(None, description="a Parquet file or glob that holds the table")
    database: str | None = Field(None, description="path of a DuckDB file; opened read-only")
    query: str | None = Field(None, description="path of an SQL file, one SELECT on the database that gives the table")

    @field_validator("database", "query")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        return None if value is None else plain_path(value)

    @field_validator("parquet")
    @classmethod
    def _plain_pattern(cls, value: str | None) -> str | None:
        return None if value is None else plain_pattern(value)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        has_query = self.database is not None and self.query is not None
        if (self.parquet is None) != has_query or (self.parquet is not None and (self.database or self.query) is not None):
            raise ValueError("write either {parquet: mix.parquet} or {database: file.duckdb, query: mix.sql}")
        return self
