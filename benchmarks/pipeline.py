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

from groupwise.compression.compress import compress
from groupwise.shop.simulate_shop import simulate_shop
from groupwise.source.describe import extract
from groupwise.source.relation import Relation, connect
from groupwise.study.study import Study
from groupwise.study.study_file import load_study
from groupwise.validation.validate import validate

REPEATS = 7
EMPTY_FLOW = "from prefect import flow\n@flow\ndef empty(): return 1\nempty()\n"
COLUMNS = ("discount", "region_income", "log_amount")
KEYS = "region, department, category, channel"
BARE = "copy (select {keys}, count(*) as n, {sums} from ({rows}) group by {keys}) to '{target}' (format parquet)"


def main(line_items: int = 10_000_000) -> None:
    """Print both comparisons."""
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        database = Path(folder) / "shop.duckdb"
        simulate_shop(database, line_items)
        study = load_study("studies/simulated_spend.yaml", {"source.database": str(database), "publish_to": json.dumps(f"{folder}/out")})
        query_ratio(study, Path(folder))
        whole_run(study, database, Path(folder))


def query_ratio(study: Study, folder: Path) -> None:
    """The compressing query over a bare group by of the same keys and the same statistics; and the whole step, with checks and sample."""
    relation = extract(study, None, folder, today=date(2026, 1, 1))
    rows = validate(study, relation, folder).study_sql
    start = time.perf_counter()
    cells = compress(relation, rows, study.parsed_formula, study.family, folder)
    step = time.perf_counter() - start
    pairs = [f"sum({a} * {b}) as s{i}{j}" for i, a in enumerate(COLUMNS) for j, b in enumerate(COLUMNS) if j >= i]
    sums = ", ".join([*(f"sum({a}) as s{i}" for i, a in enumerate(COLUMNS)), *pairs])
    queries = (
        f"copy ({cells.sql}) to '{folder / 'ours.parquet'}' (format parquet)",
        BARE.format(keys=KEYS, sums=sums, rows=rows, target=folder / "bare.parquet"),
    )
    ours, bare = zip(*[[_query_seconds(relation, query) for query in queries] for _ in range(REPEATS)], strict=True)
    ratio = statistics.median(ours) / statistics.median(bare)
    print(f"{relation.rows:,} rows to {cells.n_cells:,} cells: {statistics.median(ours):.2f} s; bare {statistics.median(bare):.2f} s")
    print(f"ratio {ratio:.2f}; the whole step, with schema and checks: {step:.2f} s")


def _query_seconds(relation: Relation, query: str) -> float:
    connection = connect(relation)
    start = time.perf_counter()
    connection.execute(query)
    seconds = time.perf_counter() - start
    connection.close()
    return seconds


def whole_run(study: Study, database: Path, folder: Path) -> None:
    """``groupwise estimate`` as a process, against a process that runs an empty Prefect flow."""
    empty = min(_seconds([sys.executable, "-c", EMPTY_FLOW]) for _ in range(2))
    command = [sys.executable, "-m", "groupwise", "estimate", "studies/simulated_spend.yaml"]
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
