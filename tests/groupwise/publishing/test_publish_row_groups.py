"""A published file is cut so that one group's row is found without reading the rest."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groupwise.publishing.folder.folder_publish import publish
from groupwise.publishing.stage import ROW_GROUP
from multilevel.catalogue.published_tables import TABLES, arrow_schema

N_ROWS = 3 * ROW_GROUP + 10


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``cell_estimates`` of one customer group with many product groups."""
    schema = arrow_schema("cell_estimates")
    ones = pa.array(np.ones(N_ROWS))
    columns = {
        **{name: pa.repeat(pa.scalar(name), N_ROWS) for name in ("study", "run_id", "customer_group")},
        "as_of": pa.repeat(pa.scalar(date(2026, 11, 1)), N_ROWS),
        "engine": pa.repeat(pa.scalar("likelihood"), N_ROWS),
        "pooling": pa.repeat(pa.scalar("partial"), N_ROWS),
        "product_group": pa.array([f"P{at:07d}" for at in range(N_ROWS)]),
        **dict.fromkeys(("estimate", "std_error", "lower", "upper"), ones),
        "n": pa.array(np.ones(N_ROWS, dtype=np.int64)),
        "is_new": pa.repeat(pa.scalar(False), N_ROWS),
        "variance_uncertainty": pa.repeat(pa.scalar("expansion"), N_ROWS),
    }
    tables = {name: pa.Table.from_pylist([], arrow_schema(name)) for name in TABLES}
    tables["cell_estimates"] = pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
    root = tmp_path_factory.mktemp("published")
    made = publish(tables, publish_to=str(root), study="small", as_of=date(2026, 11, 1), run_id="r1", provenance={})
    return made.folder / "cell_estimates.parquet"


@pytest.mark.parametrize("at", [0, ROW_GROUP - 1, ROW_GROUP, N_ROWS - 1])
def test_the_statistics_of_the_row_groups_lead_to_one_of_them(file: Path, at: int):
    metadata = pq.read_metadata(file)
    place = metadata.schema.names.index("product_group")
    statistics = [metadata.row_group(i).column(place).statistics for i in range(metadata.num_row_groups)]
    wanted = f"P{at:07d}"
    assert [i for i, found in enumerate(statistics) if found.min <= wanted <= found.max] == [at // ROW_GROUP]


def test_row_groups_are_small_and_carry_a_page_index(file: Path):
    metadata = pq.read_metadata(file)
    assert max(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)) <= 32_768
    assert metadata.row_group(0).column(0).has_offset_index
    assert metadata.row_group(0).column(0).has_column_index
