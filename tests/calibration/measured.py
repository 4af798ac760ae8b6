"""When, of which commit and on what machine a lane's figures were measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime


def measured_where() -> dict[str, str]:
    """Date, short commit ("+" where files are changed) and machine, for the tables that the lane writes."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False).stdout.strip()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return {"date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": commit or "unknown", "machine": machine}
