"""Flow runs of a study that keeps statistics: the partitions are a mapped task, on threads or on a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.operations

type Estimate = Callable[..., tuple[int, str, str]]


def tables(out: str) -> dict[str, list[dict[str, object]]]:
    folder = Path(out.splitlines()[-1])
    return {path.name: pq.read_table(path).drop_columns(["run_id", "study"]).to_pylist() for path in sorted(folder.glob("*.parquet"))}


def assert_alike(kept: dict[str, list[dict[str, object]]], whole: dict[str, list[dict[str, object]]]) -> None:
    """To 1e-9, since sums are of the same numbers in another order."""
    assert kept.keys() == whole.keys()
    for name, rows in whole.items():
        for own, other in zip(kept[name], rows, strict=True):
            assert own == {
                key: pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value for key, value in other.items()
            }


@pytest.mark.parametrize("workers", ["threads", "dask"])
def test_a_flow_run_has_the_tables_of_a_run_that_reads_everything(
    shop: Path, estimate: Estimate, estimate_flow: Estimate, workers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = (shop / "spend.yaml").read_text().replace("name: spend", f"name: kept-{workers}")
    (shop / f"kept-{workers}.yaml").write_text(study + f"\nstatistics: {{partition: month, column: day, keep: statistics-{workers}}}\n")
    code, whole, err = estimate()
    assert code == 0, err
    if workers == "threads":
        code, kept, err = estimate_flow(study=f"kept-{workers}.yaml")
    else:
        from distributed import LocalCluster

        with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
            monkeypatch.setenv("GROUPWISE_DASK", cluster.scheduler_address)
            code, kept, err = estimate_flow(study=f"kept-{workers}.yaml")
    assert code == 0, err
    assert list((shop / f"statistics-{workers}").rglob("cells-*.parquet"))
    assert_alike(tables(kept), tables(whole))
