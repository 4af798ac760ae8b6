"""``validation.html``: what was checked, what was quarantined and why, as one static page that needs no network."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from groupwise.html_page import static_page
from groupwise.run_folder import RunFolder


def write_validation_page(run: RunFolder) -> Path | None:
    """Render ``validation.json`` to ``validation.html``; None where validation did not get as far as a result."""
    content = run.read_json("validation")
    if not content:
        return None
    study = run.study()
    filled = static_page(
        files("groupwise.validation") / "templates",
        "validation",
        **content,
        title=study.title or study.name,
        run_id=run.run_id,
        record=run.read_json("expectation_record"),
    )
    page = run.path / "validation.html"
    page.write_text(filled, encoding="utf-8")
    return page
