"""Statistics that are kept in a bucket."""

from __future__ import annotations

from typing import Any

from tests.changing_shop import Shop, assert_same

FIELDS = {"window": None, "statistics": {"partition": "month", "column": "day", "keep": "s3://warehouse/statistics"}}


def test_a_bucket_keeps_statistics_as_a_folder_does(bucket: Any) -> None:
    shop = Shop()
    shop.run(**FIELDS)
    names = bucket.names()
    assert all(name.startswith("statistics/small/") and name.endswith(".parquet") for name in names)
    shop.write("delete from lines where id = (select min(id) from lines where month(day) = 2)")
    again = shop.run(**FIELDS)
    assert again.noted["fresh"] == ["2024-02"]
    assert_same(again, shop.run(keeps=False, **FIELDS))
    n_before, n_now = (sum("/2024-02/" in name for name in found) for found in (names, bucket.names()))
    assert n_before == n_now
