"""Lanes over many simulated shops that go on where they were stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._reliability_page import provenance


def shop_by_shop(kept: Path, shops: int, measure: Callable[[int], Any]) -> list[Any]:
    """``measure(seed)`` of every shop, as JSON gives it back; a line of ``kept`` a shop.

    Shops that the same commit measured before are read; those of other commits, or of changed files, are measured again.
    """
    commit = provenance()["commit"]
    found: dict[int, Any] = {}
    if kept.exists() and not commit.endswith("changes"):
        lines = map(json.loads, kept.read_text(encoding="utf-8").splitlines())
        found = {line["seed"]: line["found"] for line in lines if line["commit"] == commit}
    for seed in range(shops):
        if seed not in found:
            line = json.dumps({"seed": seed, "commit": commit, "found": measure(seed)})
            found[seed] = json.loads(line)["found"]
            with kept.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
    return [found[seed] for seed in range(shops)]
