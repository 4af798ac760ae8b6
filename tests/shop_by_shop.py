"""Lanes over many simulated shops that can be stopped and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._reliability_page import provenance


def shop_by_shop(kept: Path, shops: int, measure: Callable[[int], Any]) -> list[Any]:
    """Results of ``measure(seed)`` for every shop, as JSON returns them; ``kept`` is a file with one line per shop.

    Shops that the same commit has measured before are read from the file. A line that was cut off by a kill is dropped; results of other
    commits, or of a tree with changes, are measured again.
    """
    commit = provenance()["commit"]
    found: dict[int, Any] = {}
    if kept.exists():
        text = kept.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            kept.write_text(whole, encoding="utf-8")
        if not commit.endswith("changes"):
            found = {line["seed"]: line["found"] for line in map(json.loads, whole.splitlines()) if line["commit"] == commit}
    for seed in range(shops):
        if seed not in found:
            line = json.dumps({"seed": seed, "commit": commit, "found": measure(seed)})
            found[seed] = json.loads(line)["found"]
            with kept.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
    return [found[seed] for seed in range(shops)]
