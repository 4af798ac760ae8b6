"""Sources that another program replaces while a run reads them: the run says so, or has the rows that it began with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1_800)]
AFTER = {"extract": "runs/*/relation.json", "validate": "runs/*/validation.json"}
"""A step, and what it leaves when it is over; from compress on nothing reads the source."""


def rewrite(source: Path) -> None:
    """Other values of the same shape, renamed into place as a warehouse does."""
    made = source.with_name(f"made-{source.name}")
    if source.suffix == ".parquet":
        duckdb.sql(f"copy (select * replace (items + 1000 as items) from '{source}') to '{made}' (format parquet)")
    else:
        shutil.copyfile(source, made)
        with duckdb.connect(str(made)) as connection:
            connection.sql("update lines set items = items + 1000")
    made.replace(source)


def mean(place: Path) -> float:
    [(found,)] = duckdb.sql(
        f"select estimate from '{place}/baskets/current/population_coefficients.parquet' where term = 'Intercept' and pooling = 'partial'"
    ).fetchall()
    return float(found)


@pytest.mark.parametrize("kind", ["parquet", "duckdb"])
@pytest.mark.parametrize("step", list(AFTER))
def test_a_source_that_is_replaced_during_a_run_is_never_published_in_part(
    step: str,
    kind: str,
    tmp_path: Path,
    line_items: Path,
    study: Callable[..., Path],
    start: Any,
    prefect_server: dict[str, str],
    figures: Callable[..., None],
) -> None:
    name = "lines.parquet" if kind == "parquet" else "shop.duckdb"
    source = tmp_path / name
    shutil.copyfile(line_items / name, source)
    (tmp_path / "line_items.sql").write_text("select * from lines")
    described = f"parquet: {source}" if kind == "parquet" else f"database: {source}, line_items: {tmp_path}/line_items.sql"
    work = study(tmp_path / "work", source=described)
    mark = f"{os.getpid()}-{kind}-{step}-"
    arguments = ("estimate", "study.yaml", "--force", "--set", "expectations=null")
    good = start(work, f"{mark}good", prefect_server, *arguments).end(None)
    assert good.code == 0, good.err
    known = set((work / ".groupwise" / "runs").iterdir())
    run = start(work, f"{mark}replaced", prefect_server, *arguments)
    assert run.wait_for(lambda: any(not known & set(path.parents) for path in (work / ".groupwise").glob(AFTER[step])))
    rewrite(source)
    ended = run.end(None)
    pointer = json.loads((tmp_path / "published" / "baskets" / "_latest.json").read_text())
    is_first = pointer["run_id"] in good.out
    if ended.code == 0:
        # the rewrite came after the last look at the source
        assert not is_first
    else:
        assert is_first
        assert ended.messages == 1
        assert "Traceback" not in ended.err
        assert name in ended.err
    assert mean(tmp_path / "published") == pytest.approx(10, abs=1), "rows of both sources are mixed"
    following = start(work, f"{mark}after", prefect_server, *arguments).end(None)
    assert following.code == 0, following.err
    assert mean(tmp_path / "published") == pytest.approx(1_010, abs=1)
    figures(f"source-{kind}-{step}", kind=f"{kind} source replaced after {step}", tried=1, failed=int(ended.code != 0), next_runs=1, lost=0)
