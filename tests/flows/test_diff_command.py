"""``groupwise diff`` of two days of a pizza shop: one product leaves, another gets dearer."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from groupwise.pipeline.release import release
from groupwise.run_folder import RunFolder
from tests.flows.in_process import run_command

STUDY = """
name: pizza
formula: amount ~ 1 + weekend + (1 | segment/customer_id) + (1 | category/product)
source: {parquet: lines.parquet}
sampled: [customer_id]
engine: likelihood
diff: {moved: 3 %}
"""
PRICES = {
    "classic": {"margherita": 9.0, "hawaiian": 12.0, "pepperoni": 13.0},
    "veggie": {"spinach": 12.0, "garden": 10.0, "greek": 14.0},
    "drinks": {"cola": 3.0, "water": 2.0, "beer": 5.0},
}
DAYS = {"r1": date(2026, 1, 1), "r2": date(2026, 1, 2)}

type Run = Callable[..., tuple[int, str, str]]


def lines(seed: int, n: int = 2_000) -> pd.DataFrame:
    world, rng = np.random.default_rng(7), np.random.default_rng(seed)
    products = pd.DataFrame(
        [(c, p, price) for c, own in PRICES.items() for p, price in own.items()], columns=["category", "product", "price"]
    )
    segment, effect = world.integers(0, 3, 40), world.normal(0.0, 0.3, 40)
    frame = products.iloc[rng.integers(0, len(products), n)].reset_index(drop=True)
    customer = rng.integers(0, 40, n)
    frame["customer_id"], frame["segment"] = [f"c{i}" for i in customer], [f"s{i}" for i in segment[customer]]
    frame["weekend"] = rng.random(n) < 0.3
    frame["amount"] = frame.price + effect[customer] + 0.2 * frame.weekend + rng.normal(0.0, 0.3, n)
    return frame.drop(columns="price")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, run_until_fitted: Callable[..., RunFolder]) -> Path:
    """Published twice: after the first day the greek pizza leaves, and the hawaiian is 10 % dearer."""
    place = tmp_path_factory.mktemp("pizza")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Path("pizza.yaml").write_text(STUDY)
        for run_id, seed in (("r1", 1), ("r2", 2)):
            frame = lines(seed)
            if run_id == "r2":
                frame = frame[frame["product"] != "greek"]
                frame.loc[frame["product"] == "hawaiian", "amount"] += 1.2
            frame.to_parquet("lines.parquet")
            release(run_until_fitted("pizza.yaml", run_id, today=DAYS[run_id]))
    return place


@pytest.fixture
def groupwise(shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    monkeypatch.chdir(shop)

    def run(*arguments: str) -> tuple[int, str, str]:
        return run_command(monkeypatch, capfd, *arguments)

    return run


def test_the_first_sentence_names_the_price_that_rose_and_the_table_why_others_moved(groupwise: Run) -> None:
    code, out, err = groupwise("diff", "pizza.yaml")
    assert (code, err) == (0, "")
    first, *_ = out.splitlines()
    assert first.startswith("hawaiian +") and first.endswith("%, all of it behaviour.")
    assert "moved by more than 3 % of the earlier estimate" in out and "posterior" not in out
    assert "Groups that are gone (1): category:product: greek" in out


def test_json_and_csv_have_every_level_with_parts_that_add_up(groupwise: Run) -> None:
    code, out, err = groupwise("diff", "pizza.yaml", "--format", "json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    compared = [row for row in rows if row["status"] in {"moved", "same"}]
    assert [row["level"] for row in rows if row["status"] == "gone"] == ["greek"]
    assert len(compared) == 3 + 40 + 3 + 8
    for row in compared:
        assert row["range"] + row["mix"] + row["behaviour"] == pytest.approx(row["change"], abs=1e-9)
        assert row["change"] == row["after"] - row["before"]
        assert row["of"] == ("population" if row["grouping_factor"] == "segment" else "members")
        assert row["is_sampled"] is (row["grouping_factor"] == "segment:customer_id")
    by_level = {(row["grouping_factor"], row["level"]): row for row in compared}
    hawaiian, veggie = by_level["category:product", "hawaiian"], by_level["category", "veggie"]
    assert hawaiian["behaviour"] == pytest.approx(1.2, abs=0.15) and hawaiian["range"] == pytest.approx(0.0, abs=1e-9)
    # a third of its line items were the greek, at 14 beside 12 and 10
    assert veggie["range"] == pytest.approx(11.0 - 12.0, abs=0.2) and abs(veggie["behaviour"]) < 0.2
    # what was a ninth of every segment's mix has left, and what remains of the mix costs less
    for segment in ("s0", "s1", "s2"):
        assert by_level["segment", segment]["range"] == pytest.approx(66.0 / 8.0 - 80.0 / 9.0, abs=0.2)
    code, out, _ = groupwise("diff", "pizza.yaml", "--format", "csv", "--rows", "2")
    assert [row["level"] for row in csv.DictReader(io.StringIO(out))] == [row["level"] for row in rows[:2]]
    assert rows[0]["level"] == "hawaiian"


def test_a_threshold_in_dollars_counts_dollars(groupwise: Run) -> None:
    study = Path("dollars.yaml")
    study.write_text(STUDY.replace("3 %", "0.9"))
    _, out, _ = groupwise("diff", str(study))
    assert "moved by more than 0.9:" in out


@pytest.mark.parametrize(
    ("arguments", "message"), [(("--format", "yaml"), "--format yaml: write table, json or csv."), (("--from", "r9"), "r9")]
)
def test_what_is_not_there_is_refused(groupwise: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = groupwise("diff", "pizza.yaml", *arguments)
    assert (code, out) == (1, "") and message in err


def test_the_report_tells_it_too(shop: Path) -> None:
    page = (shop / "published/pizza/reports/2026-01-02/r2.html").read_text(encoding="utf-8").replace("<wbr>", "")
    assert "A change is the sum of three parts" in page and "all of it behaviour." in page
