"""The pipeline's own cost: the compressing query against a bare aggregate, and a whole run against an empty Prefect flow.

Run: ``python -m benchmarks pipeline [line items]``. A simulated shop is made in a temporary folder.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from tasks.compress import compress
from tasks.extract import extract
from tasks.relation import connect
from tasks.simulate import simulate_shop
from tasks.study import Study, load_study
from tasks.validate import validate

REPEATS = 3
EMPTY_FLOW = "from prefect import flow\n@flow\ndef empty(): return 1\nempty()\n"
BARE = """
copy (
    select {keys}, count(*) as n, sum(discount) as sx, sum(log_amount) as sy, sum(discount * discount) as sxx,
        sum(discount * log_amount) as sxy, sum(log_amount * log_amount) as syy
    from ({rows}) group by {keys}
) to '{target}' (format parquet)
"""


def main(line_items: int = 10_000_000) -> None:
    """Print both comparisons."""
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        database = Path(folder) / "shop.duckdb"
        simulate_shop(database, line_items)
        study = load_study("studies/simulated_spend.yaml", {"source.database": str(database), "publish_to": json.dumps(f"{folder}/out")})
        query_ratio(study, Path(folder))
        whole_run(study, database, Path(folder))


def query_ratio(study: Study, folder: Path) -> None:
    """The compressing query (moments of three columns, levels as text, one sample of rows) over a bare group by of the same keys."""
    relation = extract(study, None, folder, today=date(2026, 1, 1))
    rows = validate(study, relation, folder).study_sql
    ours, bare = [], []
    for _ in range(REPEATS):
        start = time.perf_counter()
        cells = compress(relation, rows, study.parsed_formula, study.family, folder, sample_rows=1)
        ours.append(time.perf_counter() - start)
        connection = connect(relation, folder)
        start = time.perf_counter()
        connection.execute(
            BARE.format(keys="region, department, category, channel, region_income", rows=rows, target=folder / "bare.parquet")
        )
        bare.append(time.perf_counter() - start)
        connection.close()
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    print(
        f"compress {relation.rows:,} rows to {cells.n_cells:,} cells: {min(ours):.2f} s; bare group by {min(bare):.2f} s; ratio {ratio:.2f}"
    )


def whole_run(study: Study, database: Path, folder: Path) -> None:
    """``groupwise estimate`` as a process, against a process that runs an empty Prefect flow."""
    empty = min(_seconds([sys.executable, "-c", EMPTY_FLOW]) for _ in range(2))
    command = [sys.executable, "-m", "flows", "estimate", "studies/simulated_spend.yaml"]
    settings = ["--set", f"source.database={database}", "--publish-to", f"{folder}/out", "--engine", study.engine]
    run = min(_seconds([*command, *settings]) for _ in range(2))
    newest = max(Path(".groupwise/runs").iterdir(), key=lambda path: path.stat().st_mtime)
    steps = json.loads((newest / "report.json").read_text(encoding="utf-8"))["seconds"]
    fitting = steps["partial pooling"]
    print(f"whole run {run:.1f} s; empty Prefect flow {empty:.1f} s; partial pooling {fitting:.1f} s; steps {steps}")


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - start
