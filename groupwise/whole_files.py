"""Small files that are there whole or not at all, so that whoever reads one after a full disk or a kill never finds the first half."""

from __future__ import annotations

from pathlib import Path


def write_whole(path: Path, content: str) -> None:
    """Write a text under another name and rename it; OSError where the disk refuses, and nothing is left then."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(content, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
