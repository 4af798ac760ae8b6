"""The catalogue is the one source of truth: schema, checks, documentation and contract all follow it."""

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multilevel.catalogue.data_contract import open_data_contract
from multilevel.catalogue.documentation import tables_page
from multilevel.catalogue.output_suite import output_suite
from multilevel.catalogue.published_tables import TABLES, arrow_schema, check_table

COMMON = {"study": "spend", "as_of": datetime.date(2026, 11, 1), "run_id": "r1", "engine": "likelihood", "pooling": "partial"}
CELL = {
    **COMMON,
    "customer_group": "a",
    "product_group": "b",
    "estimate": 1.0,
    "std_error": 0.5,
    "lower": 0.0,
    "upper": 2.0,
    "n": 3,
    "is_new": False,
    "variance_uncertainty": "expansion",
}

PUBLISHED = {
    "population_coefficients": "term kind grouping_factor estimate std_error lower upper degrees_of_freedom "
    "estimate_without_group_predictors ess_bulk ess_tail r_hat part",
    "variance_components": "grouping_factor term other_term quantity estimate std_error lower upper variance_share r_squared "
    "pooling_factor estimate_without_group_predictors part interval_method",
    "group_coefficients": "grouping_factor level parent_level term estimate std_error lower upper deviation deviation_std_error "
    "deviation_lower deviation_upper conditional_sd fitted_value n shrinkage probability_above_average is_new part no_pooling_estimate "
    "no_pooling_std_error variance_uncertainty",
    "group_estimates": "grouping_factor level parent_level estimate std_error lower upper no_pooling_estimate "
    "no_pooling_std_error complete_pooling_estimate n rank_lower rank_upper is_new observed_mean observed_std_error "
    "population_estimate population_std_error population_lower population_upper population_no_pooling_estimate "
    "population_no_pooling_std_error headline n_sampled "
    "probability_above_average rank_in_parent rank_in_parent_lower rank_in_parent_upper variance_uncertainty",
    "cell_estimates": "customer_group product_group estimate std_error lower upper n is_new variance_uncertainty",
    "diagnostics": "check value threshold passed message",
}


def cells(**changes: object) -> pa.Table:
    return pa.Table.from_pylist([{**CELL, **changes}], schema=arrow_schema("cell_estimates"))


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_every_table_has_exactly_the_columns_of_the_contract(name: str) -> None:
    assert arrow_schema(name).names == ["study", "as_of", "run_id", "engine", "pooling", *PUBLISHED[name].split()]
    assert set(TABLES) == set(PUBLISHED)


def test_every_field_carries_description_unit_and_null_rule_through_parquet(tmp_path: Path) -> None:
    path = tmp_path / "cell_estimates.parquet"
    pq.write_table(cells(), path)
    read = pq.read_table(path)
    for field in read.schema:
        assert set(field.metadata) >= {b"description", b"unit", b"null_rule"}
        assert field.metadata[b"description"]
    assert read.schema.metadata[b"groupwise.grain"] == b"one row per customer group x product group"
    assert check_table("cell_estimates", read) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"estimate": float("nan")}, "NaN"),
        ({"std_error": float("inf")}, "NaN or infinite"),
        ({"std_error": -1.0}, "below 0"),
        ({"lower": 3.0}, "above upper"),
        ({"estimate": 5.0}, "estimate is above upper"),
        ({"estimate": -5.0}, "estimate is below lower"),
        ({"engine": "magic"}, "is not one of"),
    ],
)
def test_a_broken_row_is_named(change: dict[str, object], complaint: str) -> None:
    [message, *_] = check_table("cell_estimates", cells(**change))
    assert complaint in message
    assert message.startswith("cell_estimates: ")


def test_a_null_where_none_may_be_is_named() -> None:
    table = cells().set_column(7, arrow_schema("cell_estimates").field("estimate"), pa.array([None], pa.float64()))
    assert check_table("cell_estimates", table) == ["cell_estimates: estimate is null in 1 rows, it never may be"]


def test_a_posterior_mean_may_leave_its_interval_on_the_response_scale_only_under_draws() -> None:
    assert check_table("cell_estimates", cells(estimate=5.0, engine="bayesian")) == []


def test_a_repeated_key_is_named() -> None:
    twice = pa.concat_tables([cells(), cells()])
    assert check_table("cell_estimates", twice) == ["cell_estimates: 1 rows repeat the key (customer_group, product_group)"]


def test_a_wrong_type_a_lost_column_and_lost_metadata_are_named() -> None:
    as_text = cells().set_column(11, "n", pa.array(["3"]))
    assert "should be int64" in check_table("cell_estimates", as_text)[0]
    assert "the columns are" in check_table("cell_estimates", cells().drop(["n"]))[0]
    assert "metadata" in check_table("cell_estimates", cells().replace_schema_metadata(None))[0]


def test_two_new_levels_without_a_name_repeat_the_key_only_within_one_parent() -> None:
    row = {
        **COMMON, "grouping_factor": "a:b", "level": None, "term": "Intercept", "estimate": 1.0, "std_error": 1.0, "lower": 0.0,
        "upper": 2.0,         "deviation": 0.0, "deviation_std_error": 1.0, "deviation_lower": -1.0,
        "deviation_upper": 1.0, "n": 0, "is_new": True,
    }  # fmt: skip
    schema = arrow_schema("group_coefficients")
    two_parents = pa.Table.from_pylist([{**row, "parent_level": "x"}, {**row, "parent_level": "y"}], schema=schema)
    one_parent = pa.Table.from_pylist([{**row, "parent_level": "x"}, {**row, "parent_level": "x"}], schema=schema)
    assert check_table("group_coefficients", two_parents) == []
    assert "repeat the key" in check_table("group_coefficients", one_parent)[0]


def test_the_documentation_agrees_with_the_catalogue() -> None:
    page = Path(__file__).parents[3] / "docs" / "tables.md"
    assert page.read_text(encoding="utf-8") == tables_page(), "run: python -m multilevel.catalogue.documentation"


def test_the_data_contract_lists_every_column_with_its_type_and_whether_it_is_required() -> None:
    contract = open_data_contract("line_spend", unit="spend per line item", currency="USD")
    assert (contract["apiVersion"], contract["kind"], contract["status"]) == ("v3.1.0", "DataContract", "active")
    tables = {entry["name"]: entry for entry in contract["schema"]}  # type: ignore[attr-defined]
    assert set(tables) == set(TABLES)
    for name, entry in tables.items():
        fields = {field.name: field for field in arrow_schema(name)}
        assert [p["name"] for p in entry["properties"]] == list(fields)
        for prop in entry["properties"]:
            assert prop["required"] is not fields[prop["name"]].nullable
    estimate = next(p for p in tables["group_estimates"]["properties"] if p["name"] == "estimate")
    assert {"property": "unit", "value": "spend per line item (USD)"} in estimate["customProperties"]


def test_the_output_suite_has_a_rule_for_every_column_that_may_not_be_null() -> None:
    for name, spec in TABLES.items():
        required = {e["kwargs"]["column"] for e in output_suite(name) if e["type"] == "expect_column_values_to_not_be_null"}  # type: ignore[index]
        assert required == {column.name for column in spec.columns if not column.nullable}
