"""The output suite as data: the catalogue's rules as an expectation suite (type, kwargs, severity, meta)."""

from __future__ import annotations

from multilevel.catalogue.published_tables import EVERY_TABLE

type Expectation = dict[str, object]


def output_suite(name: str) -> list[Expectation]:
    """The expectations of a published table; ``check_table`` executes the same rules. KeyError for a name that is not published."""
    spec = EVERY_TABLE[name]
    suite = [
        _expectation(
            "expect_table_columns_to_match_ordered_list", {"column_list": [c.name for c in spec.columns]}, "schema", "the contract"
        )
    ]
    for column in spec.columns:
        rule = f"{name}.{column.name}"
        if not column.nullable:
            suite.append(
                _expectation("expect_column_values_to_not_be_null", {"column": column.name}, f"{rule}.not_null", column.description)
            )
        if column.minimum is not None or column.maximum is not None:
            bounds: dict[str, object] = {"column": column.name, "min_value": column.minimum, "max_value": column.maximum}
            suite.append(_expectation("expect_column_values_to_be_between", bounds, f"{rule}.range", column.description))
        if column.allowed is not None:
            allowed: dict[str, object] = {"column": column.name, "value_set": list(column.allowed)}
            suite.append(_expectation("expect_column_values_to_be_in_set", allowed, f"{rule}.allowed", column.description))
    key: dict[str, object] = {"column_list": list(spec.unique_key), "ignore_row_if": "never"}
    suite.append(_expectation("expect_compound_columns_to_be_unique", key, f"{name}.key", f"one row per {spec.grain}"))
    return suite


def _expectation(kind: str, kwargs: dict[str, object], rule: str, why: str) -> Expectation:
    return {"type": kind, "kwargs": kwargs, "severity": "critical", "meta": {"rule_id": rule, "why": why}}
