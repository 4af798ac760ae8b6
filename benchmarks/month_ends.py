"""``groupwise backfill`` of month ends, whole command: 36 of a simulated shop of three years. Writes its table into docs/scaling.md.

Run: ``python -m benchmarks month_ends [N]``, on a quiet machine; without a number for ten million line items. With FULL=1 in the
environment also twelve of line_spend, of which every date takes as long as one run of it. LAKES in the environment names a folder in which
simulated line items are kept and found again.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks._calibration_page import markdown
from benchmarks._line_item_lake import write_lake
from benchmarks._reliability_page import provenance, provenance_line, replace_block
from benchmarks.line_item_scaling import KEPT, STUDY

PAGE = Path("docs") / "scaling.md"
SHOP = Path("data") / "shop.duckdb"
LINE_ITEMS = 10_000_000
ASKED = 180


def main(n: int = LINE_ITEMS) -> None:
    """Time the command, and write the table."""
    page, load, here = PAGE.absolute(), os.getloadavg()[0], Path.cwd()
    rows = []
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as folder:
        lake = Path(os.environ.get("LAKES") or folder) / str(n)
        write_lake(lake, n)
        (Path(folder) / "lake").symlink_to(lake)
        fields = {name: value for name, value in STUDY.items() if name != "as_of"} | KEPT
        fields |= {"engine": "likelihood", "window": {"column": "ts", "days": 365}, "as_of": "scheduled"}
        Path(folder, "study.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
        name = f"36 of a simulated shop, {n:,} line items of three years, statistics kept by day"
        rows.append([name, *_measured(folder, "study.yaml", "2023-01-31", "2025-12-31")])
        if os.environ.get("FULL"):
            for part in ("data", "sql", "expectations", "studies"):
                Path(folder, part).symlink_to(here / part)
            rows.append(["12 of line_spend", *_measured(folder, "studies/line_spend.yaml", "2017-01-31", "2017-12-31")])
    heads = ["month ends, likelihood engine", "seconds", "processor seconds", "asked for"]
    block = f"{markdown(heads, rows)}\n{provenance_line([provenance()])}Load of the machine before: {load:.1f} on {os.cpu_count()} cores.\n"
    page.write_text(replace_block(page.read_text(encoding="utf-8"), "month-ends", block), encoding="utf-8")
    print(block)


def _measured(folder: str, study: str, first: str, last: str) -> list[str]:
    """Seconds of the command, by the clock and of processors."""
    command = [sys.executable, "-m", "groupwise", "backfill", study, "--from", first, "--to", last, "--every", "month-end"]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    environment.pop("PREFECT_API_URL", None)
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, "--publish-to", str(Path(folder, "published"))], cwd=folder, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [f"{time.perf_counter() - start:.0f}", f"{cpu:.0f}", f"{ASKED}"]
