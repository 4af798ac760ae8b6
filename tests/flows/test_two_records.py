"""A run whose scan and whose record disagree publishes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

type Estimate = Callable[..., tuple[int, str, str]]

STUDY = """
name: spend
formula: amount ~ 1 + (1 | region)
source: {parquet: nan.parquet}
expectations: discount
engine: likelihood
"""


@pytest.mark.operations
def test_a_scan_answered_from_a_files_statistics_is_not_published(
    shop: Path, lines: pd.DataFrame, estimate: Estimate, published: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB is made to trust pyarrow's minimum and maximum again: its scan counts no NaN, Great Expectations counts 250."""
    before = published()
    lines.assign(discount=[float("nan") if i % 8 == 0 else i / 10_000 for i in range(len(lines))]).pipe(_write, shop / "nan.parquet")
    (shop / "expectations").mkdir(exist_ok=True)
    rule = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "discount"}, "severity": "critical"}
    suite = {"expectations": [{**rule, "meta": {"rule_id": "discount_present", "why": "a discount is needed"}}]}
    (shop / "expectations" / "discount.json").write_text(json.dumps(suite))
    (shop / "nan.yaml").write_text(STUDY)
    monkeypatch.setattr("groupwise.source.shards.shard_select.CAN_HAVE_NAN", "can_have_nan = false")
    code, out, err = estimate(study="nan.yaml")
    assert (code, out.strip()) == (1, "")
    assert "rule discount_present" in err
    assert "unexpected=250" in err
    assert published() == before


def _write(frame: pd.DataFrame, file: Path) -> None:
    """Keep NaN as NaN, which ``to_parquet`` would write as null."""
    pq.write_table(pa.table({name: pa.array(frame[name].to_numpy()) for name in frame.columns}), file)
