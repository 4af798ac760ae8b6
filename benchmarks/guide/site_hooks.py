"""What mkdocs calls when the site is built: the search index as a script, which pages that are opened from a disk can read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def on_post_build(config: Mapping[str, object]) -> None:
    """Write ``search/search_index.js`` next to the JSON index: pages opened from a disk cannot fetch JSON, but can load a script."""
    folder = Path(str(config["site_dir"])) / "search"
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    (folder / "search_index.js").write_text(f"var __index = {index}\n", encoding="utf-8")
