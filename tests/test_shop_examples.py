"""The guide's examples say what the published tables say, each in its place."""

from __future__ import annotations

import dataclasses
import re
from types import SimpleNamespace

import pyarrow as pa
import pytest

from benchmarks import _shop_examples_page as page


def levels(factor: str = "income_group", **own: dict[str, object]) -> pa.Table:
    common = {"grouping_factor": factor, "is_new": False, "n_sampled": 5, "rank_lower": 1.0, "rank_upper": 6.0}
    return pa.Table.from_pylist([common | {"level": level} | columns for level, columns in own.items()])


MADE = {
    "observed_mean": 3.4,
    "no_pooling_estimate": 3.2,
    "estimate": 3.21,
    "lower": 3.15,
    "upper": 3.25,
    "population_estimate": 3.1,
    "population_lower": 2.6,
    "population_upper": 3.6,
    "population_no_pooling_estimate": 3.3,
}


@pytest.fixture
def shop() -> page.Shop:
    check = {"check": "design_effect[income_group, customer_id]", "value": 80.04, "passed": False}
    lines = {
        "group_estimates": levels(**{page.FEW: {**MADE, "rank_upper": 1.0}, page.MIXED: MADE}),
        "diagnostics": pa.Table.from_pylist([check]),
    }
    return page.Shop(lines, {"group_estimates": levels(**{page.FEW: MADE, page.MIXED: MADE})}, SimpleNamespace(), "From two studies.\n")


def test_each_step_is_told_with_what_it_moved(shop: page.Shop) -> None:
    text = page.steps(shop)
    assert f"| {page.MIXED} | $3.40 | $3.20 | $3.21 | −$0.20 | +$0.01 |" in text
    assert f"| {page.MIXED} | $3.40 | $3.20 | $3.30 | $3.10 |" in text


def test_a_first_rank_of_few_households_is_told_with_what_each_interval_speaks_of(shop: page.Shop) -> None:
    text = page.few_households(shop)
    assert "| $3.21 | $3.15 to $3.25 | 1 |" in text
    assert "| $3.10 | $2.60 to $3.60 | 1 to 6 |" in text
    assert "10.0 times as wide as the first" in text and "is 80.0, which fails." in text


def test_a_contrast_is_told_on_both_scales(shop: page.Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    averages = SimpleNamespace(ratio=(0.48, 0.4, 0.5), probability=0.0004)
    link = SimpleNamespace(term="Intercept", ratio=(1.6, 0.7, 3.0), probability_greater=0.895)
    monkeypatch.setattr(page, "contrast_averages", lambda saved, pair: ([averages], [], "members"))
    monkeypatch.setattr(page, "contrast_levels", lambda saved, first, second: [link])
    departments = {"group_estimates": levels("department", **dict.fromkeys(page.PAIR, MADE))}
    rows = page.contrast(dataclasses.replace(shop, lines=departments)).splitlines()
    assert rows[2].endswith("| $3.21 ($3.15 to $3.25) | $3.21 ($3.15 to $3.25) | 0.48 | 0.0 % |")
    assert rows[3].endswith("| 1.60 | 89.5 % |")


def test_every_example_has_its_place_and_names_its_source() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for name in ("example-steps", "example-households", "example-contrast"):
        [block] = re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
        assert "From the tables of `without_households`" in block, f"{name}: python -m benchmarks._shop_examples_page"
