"""A study's data contract in the Open Data Contract Standard (ODCS v3.1.0), generated from the catalogue."""

from __future__ import annotations

from collections.abc import Collection

from multilevel.catalogue.column import Column, ColumnType, Ordering, TableSpec
from multilevel.catalogue.published_tables import CATALOGUE_VERSION, EVERY_TABLE, TABLES

_LOGICAL: dict[ColumnType, str] = {"float64": "number", "int64": "integer", "string": "string", "bool": "boolean", "date": "date"}
_PHYSICAL: dict[ColumnType, str] = {"float64": "DOUBLE", "int64": "INT64", "string": "STRING", "bool": "BOOLEAN", "date": "DATE"}


def open_data_contract(
    study: str,
    *,
    tables: Collection[str] = tuple(TABLES),
    title: str | None = None,
    unit: str | None = None,
    currency: str | None = None,
    schedule: str | None = None,
) -> dict[str, object]:
    """The contract of one study's tables as a JSON-able dict, ready to be written as YAML.

    Parameters
    ----------
    study : the study's name, which becomes the contract's id.
    tables : names of what the study publishes.
    title : the question in words. unit, currency : unit of the outcome. schedule : how often the study is published, in words or cron.
    """
    outcome = " ".join(part for part in (unit, f"({currency})" if currency else None) if part) or None
    contract: dict[str, object] = {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": f"urn:groupwise:study:{study}",
        "name": study,
        "version": CATALOGUE_VERSION,
        "status": "active",
        "domain": "multilevel estimates",
        "description": {
            "purpose": title or f"Multilevel estimates of the study {study}.",
            "usage": "Follow _latest.json or the link `current`; versions are immutable.",
            "limitations": "Estimates are model-based; intervals are equal-tailed at the study's level. Not applicable is null.",
        },
        "servers": [
            {"server": "published", "type": "local", "path": f"{study}/current/{{table}}.parquet", "format": "parquet"},
        ],
        "schema": [_table(spec, outcome) for spec in EVERY_TABLE.values() if spec.name in tables],
    }
    if schedule is not None:
        contract["slaProperties"] = [{"property": "frequency", "value": schedule}]
    return contract


def _table(spec: TableSpec, outcome: str | None) -> dict[str, object]:
    key = {name: place for place, name in enumerate(spec.unique_key, start=1)}
    return {
        "name": spec.name,
        "physicalName": f"{spec.name}.parquet",
        "logicalType": "object",
        "physicalType": "parquet",
        "description": spec.description,
        "dataGranularityDescription": f"one row per {spec.grain}",
        "properties": [_property(column, key.get(column.name), outcome) for column in spec.columns],
        "quality": [
            {
                "type": "library",
                "metric": "duplicateValues",
                "mustBe": 0,
                "arguments": {"properties": list(spec.unique_key)},
                "description": f"one row per {spec.grain}",
            },
            *[rule for ordering in spec.orderings for rule in _ordering_rules(ordering)],
        ],
    }


def _property(column: Column, key_position: int | None, outcome: str | None) -> dict[str, object]:
    unit = outcome if column.unit == "outcome" and outcome else column.unit
    entry: dict[str, object] = {
        "name": column.name,
        "logicalType": _LOGICAL[column.type],
        "physicalType": _PHYSICAL[column.type],
        "required": not column.nullable,
        "description": column.description,
        "customProperties": [{"property": "unit", "value": unit}, {"property": "nullRule", "value": column.null_text}],
    }
    # A key column that may be null (the row of new levels) is unique in the table's quality rule, but no primary key in ODCS's sense.
    if key_position is not None and not column.nullable:
        entry["primaryKey"] = True
        entry["primaryKeyPosition"] = key_position
    options: dict[str, object] = {}
    if column.minimum is not None:
        options["minimum"] = column.minimum
    if column.maximum is not None:
        options["maximum"] = column.maximum
    if options:
        entry["logicalTypeOptions"] = options
    quality = _column_rules(column)
    if quality:
        entry["quality"] = quality
    return entry


def _column_rules(column: Column) -> list[dict[str, object]]:
    rules: list[dict[str, object]] = []
    if not column.nullable:
        rules.append({"type": "library", "metric": "nullValues", "mustBe": 0})
    if column.allowed is not None:
        rules.append({"type": "library", "metric": "invalidValues", "arguments": {"validValues": list(column.allowed)}, "mustBe": 0})
    return rules


def _ordering_rules(ordering: Ordering) -> list[dict[str, object]]:
    query = f"select count(*) from {{object}} where {ordering.lower} > {ordering.upper}"
    return [{"type": "sql", "query": query, "mustBe": 0, "description": f"{ordering.lower} is not above {ordering.upper}"}]
