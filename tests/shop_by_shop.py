"""Lanes over many simulated shops that can be stopped and resumed."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._reliability_page import provenance

ROOT = Path(__file__).parent.parent


def code_of(sources: Sequence[str]) -> str | None:
    """Of ``sources``, files and folders of the project ("" is all of it), at this commit; None where they have been changed since."""
    # lanes write pages in docs, which are no code
    if _git("status", "--porcelain", "--untracked-files=no", "--", *(source or "." for source in sources), ":!docs"):
        return None
    return hashlib.sha256(_git("rev-parse", *(f"HEAD:{source}" for source in sources)).encode()).hexdigest()[:16]


def shop_by_shop(kept: Path, shops: int, measure: Callable[[int], Any], sources: Sequence[str] = ("",)) -> list[Any]:
    """Results of ``measure(seed)`` for every shop, as JSON returns them; ``kept`` is a file with one line per shop.

    Shops that the same ``sources`` have measured before, whatever else has changed since, are read from the file. A line that was cut off
    by a kill is dropped; results of other code, or of files with changes, are measured again.
    """
    code = code_of(sources)
    commit = provenance()["commit"]
    found: dict[int, Any] = {}
    if kept.exists():
        text = kept.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            kept.write_text(whole, encoding="utf-8")
        if code is not None:
            found = {line["seed"]: line["found"] for line in map(json.loads, whole.splitlines()) if line.get("code") == code}
    for seed in range(shops):
        if seed not in found:
            line = json.dumps({"seed": seed, "commit": commit, "code": code, "found": measure(seed)})
            found[seed] = json.loads(line)["found"]
            with kept.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
    return [found[seed] for seed in range(shops)]


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
