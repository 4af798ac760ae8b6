"""The page, the Parquet files, the output suite and the data contract say of every column what the catalogue says."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multilevel.catalogue import published_tables
from multilevel.catalogue.column import Column
from multilevel.catalogue.data_contract import open_data_contract
from multilevel.catalogue.documentation import tables_page
from multilevel.catalogue.output_suite import output_suite
from multilevel.catalogue.published_tables import CATALOGUE_VERSION, COMMON, EVERY_TABLE, arrow_schema

PAGE = Path(__file__).parents[3] / "docs" / "tables.md"
ARROW_NAMES = {"double": "float64", "int64": "int64", "string": "string", "bool": "bool", "date32[day]": "date"}
LOGICAL_NAMES = {"number": "float64", "integer": "int64", "string": "string", "boolean": "bool", "date": "date"}


@dataclass(frozen=True)
class Told:
    """What one of the four says of a column; None where it does not speak of it."""

    type: str | None
    unit: str | None
    null: str | None
    is_required: bool
    description: str | None
    allowed: tuple[str, ...] | None
    bounds: tuple[float | None, float | None] | None


def by_catalogue(column: Column) -> Told:
    bounds = (column.minimum, column.maximum)
    return Told(column.type, column.unit, column.null_text, not column.nullable, column.description, column.allowed, bounds)


def by_page(page: str, table: str) -> dict[str, Told]:
    sections = dict(re.findall(r"^## `?([^`\n]+)`?\n(.*?)(?=^## |\Z)", page, flags=re.M | re.S))
    told = {}
    for line in (sections["Columns of every table"] + sections[table]).splitlines():
        if not line.startswith("| `"):
            continue
        name, kind, unit, null, text = line.removeprefix("| ").removesuffix(" |").split(" | ", 4)
        limits = re.search(r" \((?:(`[^)]*`, `[^)]*`)|at least (\S+)|at most (\S+)|(\S+) to (\S+))\)$", text)
        allowed, bounds = None, (None, None)
        if limits is not None:
            text = text[: limits.start()]
            values, least, most, low, high = limits.groups()
            allowed = tuple(value.strip("`") for value in values.split(", ")) if values else None
            bounds = (_number(least or low), _number(most or high))
        told[name.strip("`")] = Told(kind, unit, null, null == "never null", text, allowed, bounds)  # type: ignore[arg-type]
    return told


def by_parquet(schema: pa.Schema) -> dict[str, Told]:
    told = {}
    for field in schema:
        meta = {key.decode(): value.decode() for key, value in field.metadata.items()}
        told[field.name] = Told(
            ARROW_NAMES[str(field.type)], meta["unit"], meta["null_rule"], not field.nullable, meta["description"], None, None
        )
    return told


def by_contract(contract: dict[str, Any], table: str) -> dict[str, Told]:
    told = {}
    [entry] = [entry for entry in contract["schema"] if entry["name"] == table]
    for column in entry["properties"]:
        more = {item["property"]: item["value"] for item in column["customProperties"]}
        rules = {rule["metric"]: rule for rule in column.get("quality", [])}
        assert ("nullValues" in rules) is column["required"]
        allowed = rules["invalidValues"]["arguments"]["validValues"] if "invalidValues" in rules else None
        limits = column.get("logicalTypeOptions", {})
        told[column["name"]] = Told(
            LOGICAL_NAMES[column["logicalType"]],
            more["unit"],
            more["nullRule"],
            column["required"],
            column["description"],
            None if allowed is None else tuple(allowed),
            (limits.get("minimum"), limits.get("maximum")),
        )
    return told


def by_suite(table: str) -> dict[str, Told]:
    names = []
    required, allowed, bounds = set(), {}, {}
    for expectation in output_suite(table):
        kwargs: dict[str, Any] = expectation["kwargs"]  # type: ignore[assignment]
        match expectation["type"]:
            case "expect_table_columns_to_match_ordered_list":
                names = kwargs["column_list"]
            case "expect_column_values_to_not_be_null":
                required.add(kwargs["column"])
            case "expect_column_values_to_be_in_set":
                allowed[kwargs["column"]] = tuple(kwargs["value_set"])
            case "expect_column_values_to_be_between":
                bounds[kwargs["column"]] = (kwargs["min_value"], kwargs["max_value"])
    return {n: Told(None, None, None, n in required, None, allowed.get(n), bounds.get(n, (None, None))) for n in names}


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def disagreements(table: str, told: dict[str, Told]) -> list[str]:
    spec = EVERY_TABLE[table]
    wrong = [] if list(told) == [column.name for column in spec.columns] else [f"{table}: the columns are {list(told)}"]
    for column in spec.columns:
        if column.name in told:
            said, truth = told[column.name], by_catalogue(column)
            wrong += [
                f"{table}.{column.name}: {name} is {getattr(said, name)!r}, the catalogue has {getattr(truth, name)!r}"
                for name in Told.__dataclass_fields__
                if getattr(said, name) is not None and getattr(said, name) != getattr(truth, name)
            ]
    return wrong


@pytest.mark.parametrize("table", list(EVERY_TABLE))
def test_the_page_agrees_with_the_catalogue(table: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert disagreements(table, by_page(page, table)) == [], "run: make docs"
    assert f"version {CATALOGUE_VERSION}" in page


@pytest.mark.parametrize("table", list(EVERY_TABLE))
def test_a_parquet_file_agrees_with_the_catalogue(table: str, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([], arrow_schema(table)), tmp_path / "t.parquet")
    schema = pq.read_schema(tmp_path / "t.parquet")
    spec = EVERY_TABLE[table]
    assert disagreements(table, by_parquet(schema)) == []
    told = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    assert told["groupwise.table"] == spec.name
    assert told["groupwise.description"] == spec.description
    assert told["groupwise.grain"] == f"one row per {spec.grain}"
    assert told["groupwise.unique_key"].split(",") == list(spec.unique_key)
    assert told["groupwise.sort_key"].split(",") == list(spec.sort_key)
    assert told["groupwise.catalogue_version"] == CATALOGUE_VERSION


@pytest.mark.parametrize("table", list(EVERY_TABLE))
def test_the_output_suite_agrees_with_the_catalogue(table: str) -> None:
    assert disagreements(table, by_suite(table)) == []
    [key] = [e["kwargs"] for e in output_suite(table) if e["type"] == "expect_compound_columns_to_be_unique"]
    assert key["column_list"] == list(EVERY_TABLE[table].unique_key)  # type: ignore[index]


@pytest.mark.parametrize("table", list(EVERY_TABLE))
def test_the_data_contract_agrees_with_the_catalogue(table: str) -> None:
    contract: dict[str, Any] = open_data_contract("small", tables=EVERY_TABLE)
    assert disagreements(table, by_contract(contract, table)) == []
    [entry] = [entry for entry in contract["schema"] if entry["name"] == table]
    [unique] = [rule for rule in entry["quality"] if rule.get("metric") == "duplicateValues"]
    assert unique["arguments"]["properties"] == list(EVERY_TABLE[table].unique_key)
    assert entry["dataGranularityDescription"] == f"one row per {EVERY_TABLE[table].grain}"


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("estimate", {"unit": "euros"}),
        ("estimate", {"null_rule": "null on Sundays"}),
        ("std_error", {"minimum": 1.0}),
        ("n", {"type": "float64"}),
        ("is_new", {"description": "something else"}),
        ("engine", {"allowed": ("magic",)}),
    ],
)
def test_a_catalogue_that_moves_on_alone_is_noticed(column: str, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    before = {
        "page": by_page(tables_page(), "cell_estimates"),
        "parquet": by_parquet(arrow_schema("cell_estimates")),
        "suite": by_suite("cell_estimates"),
        "contract": by_contract(open_data_contract("small", tables=EVERY_TABLE), "cell_estimates"),
    }
    spec = EVERY_TABLE["cell_estimates"]
    columns = tuple(replace(c, **change) if c.name == column else c for c in spec.columns)
    monkeypatch.setitem(published_tables.EVERY_TABLE, "cell_estimates", replace(spec, columns=columns))
    noticed = {name: disagreements("cell_estimates", told) for name, told in before.items()}
    assert noticed["page"]
    assert noticed["contract"]
    assert noticed["parquet"] or "allowed" in change or "minimum" in change
    assert noticed["suite"] or not {"allowed", "minimum", "null_rule"} & set(change)


def test_every_table_begins_with_the_common_columns() -> None:
    assert all(spec.columns[: len(COMMON)] == COMMON for spec in EVERY_TABLE.values())
