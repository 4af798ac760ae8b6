"""The project's own suites: each rule says what it is for, and both executors can check all of them on the relation it is written for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import expectations
from expectations import read_suite
from groupwise.validation.scan_sql import check_expressible
from groupwise.validation.suite import ROW_RULES, fitting_rules, read_rules

SUITES = sorted(path.stem for path in Path(expectations.__file__).parent.glob("*.json"))

COLUMNS = {
    "line_items": {
        "ts": "TIMESTAMP",
        "customer_id": "INTEGER",
        "basket_id": "BIGINT",
        "product_id": "INTEGER",
        "quantity": "INTEGER",
        "amount": "DECIMAL(18,2)",
        "discount_depth": "DOUBLE",
        "is_fuel": "BOOLEAN",
        "category_key": "VARCHAR",
        "income_group": "VARCHAR",
    },
    "baskets": {
        "ts": "TIMESTAMP",
        "basket_id": "BIGINT",
        "customer_id": "INTEGER",
        "items": "BIGINT",
        "products": "BIGINT",
        "weekday": "VARCHAR",
        "income_group": "VARCHAR",
    },
    "department_months": {
        "ts": "DATE",
        "customer_id": "BIGINT",
        "department": "VARCHAR",
        "spend": "DECIMAL(18,2)",
        "income_group": "VARCHAR",
    },
}


def test_there_is_a_suite_for_each_grain() -> None:
    assert sorted(COLUMNS) == SUITES


@pytest.mark.parametrize("name", SUITES)
def test_both_executors_can_check_every_rule(name: str) -> None:
    rules = fitting_rules(read_rules(name), COLUMNS[name])
    check_expressible(rules, COLUMNS[name])
    assert {rule.severity for rule in rules} == {"critical", "warning", "info"}


@pytest.mark.parametrize("name", SUITES)
def test_every_rule_has_no_id_and_says_why(name: str) -> None:
    for entry in json.loads(read_suite(name))["expectations"]:
        assert set(entry) == {"type", "kwargs", "severity", "meta"}, "an id would change with every save"
        assert entry["type"] in ROW_RULES
        assert set(entry["meta"]) == {"rule_id", "why"}
        assert re.fullmatch(r"[a-z][a-z_]*", entry["meta"]["rule_id"])
        assert len(entry["meta"]["why"]) > 20


@pytest.mark.parametrize("name", SUITES)
def test_a_bound_that_was_chosen_carries_its_date(name: str) -> None:
    """Zero and one follow from what a column means; any other bound was set on some day's data."""
    for entry in json.loads(read_suite(name))["expectations"]:
        bounds = [entry["kwargs"].get(key) for key in ("min_value", "max_value")]
        if any(bound not in (None, 0, 1) for bound in bounds):
            assert re.search(r"\(bound set \d{4}-\d{2}\)", entry["meta"]["why"])
