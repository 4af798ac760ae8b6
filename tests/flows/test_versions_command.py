"""``versions`` and ``list`` say what is published, for people and for programs."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from groupwise.commands import command_line
from groupwise.publishing.version import Version


class Published:
    """A place with two versions."""

    def versions(self) -> list[Version]:
        return [
            Version("2026-01-01", "20260101T060000-0a1b2c3d", "2026-01-01T06:00:09+00:00", Path("published/s/b"), True),
            Version("2025-12-01", "20251201T060000-0a1b2c3d", "2025-12-01T06:00:09+00:00", Path("published/s/a"), False),
        ]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text("name: s\ntitle: A question\nformula: y ~ 1 + (1 | g)\nsource: x.csv\n")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["groupwise", *arguments])
        code = command_line._run()
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    from groupwise.commands import versions

    monkeypatch.setattr(versions, "open_target", lambda place, study: Published())
    monkeypatch.setattr(versions, "target_of", lambda study_file: Published())


@pytest.mark.usefixtures("published")
def test_versions_are_rows_in_every_format(run) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = run("versions", "s.yaml", "--format", "json")
    assert (code, [row["is_latest"] for row in json.loads(out)]) == (0, [True, False])
    rows = list(csv.DictReader(io.StringIO(run("versions", "s.yaml", "--format", "csv")[1])))
    assert [row["run_id"] for row in rows] == ["20260101T060000-0a1b2c3d", "20251201T060000-0a1b2c3d"]
    assert "20251201T060000-0a1b2c3d" in run("versions", "s.yaml")[1]


@pytest.mark.usefixtures("published")
def test_a_list_has_every_study_and_why_a_file_is_none(run) -> None:  # type: ignore[no-untyped-def]
    Path("studies").mkdir()
    Path("studies/bad.yaml").write_text("name: 7\n")
    code, out, _ = run("list", "--format", "json")
    bad, good = sorted(json.loads(out), key=lambda row: row["study"] or "")
    assert (code, good["versions"], good["as_of"], good["problem"]) == (0, 2, "2026-01-01", None)
    assert bad["problem"].startswith("studies/bad.yaml: ")


def test_nothing_published_is_an_empty_list_with_its_columns(run) -> None:  # type: ignore[no-untyped-def]
    assert run("versions", "s.yaml", "--format", "csv") == (0, "as_of,run_id,published_at,is_latest,folder\n", "")
    assert json.loads(run("list", "--format", "json")[1])[0]["versions"] == 0


def test_no_studies_and_an_unknown_format_are_refused(run) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run("versions", "s.yaml", "--format", "xml")
    assert (code, "--format xml: write table, json or csv" in err) == (1, True)
    Path("s.yaml").unlink()
    code, _, err = run("list")
    assert (code, "there are no studies in" in err) == (1, True)
