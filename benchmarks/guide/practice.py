"""The made-up coffee bars of the tutorial and the how-to pages: warehouse, query and study as the tutorial leaves them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.guide.shop_versions import ROOT

SCRIPT = ROOT / "docs" / "guide" / "assets" / "make_coffee.py"
TUTORIAL = ROOT / "docs" / "guide" / "your-own-warehouse.md"


def coffee_script() -> str:
    """The script that makes the warehouse, copied into the present folder; gives its text."""
    shutil.copy(SCRIPT, SCRIPT.name)
    return SCRIPT.read_text(encoding="utf-8")


def coffee(*, is_estimated: bool = False) -> None:
    """The present folder as the tutorial leaves it: warehouse, ``lines.sql``, ``coffee.yaml``; with a published version if asked."""
    coffee_script()
    run([sys.executable, SCRIPT.name])
    write("lines.sql")
    write("coffee.yaml")
    if is_estimated:
        run([sys.executable, "-m", "groupwise", "estimate", "coffee.yaml"])


def write(name: str) -> None:
    """Write a file of the tutorial."""
    found = re.findall(rf"^```\w+ file={re.escape(name)}\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    Path(name).write_text(found[-1], encoding="utf-8")


def run(command: list[str]) -> None:
    """Run it. Raises CalledProcessError where it fails."""
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
