"""A command line that cannot be read: the message says what to type."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from groupwise.commands import command_line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("shop.csv", "groupwise init shop.csv writes a study for the data"),
        ("study.yaml", "groupwise estimate study.yaml estimates the study"),
        ("fit study.yaml", "it is called estimate: groupwise estimate."),
        ("estmate study.yaml", "Did you mean 'estimate'"),
        ("estimate study.yaml --interval 0.8", "interval is a field of the study: --set interval=...\nTry: groupwise estimate --help"),
        ("show study.yaml --interval 0.8", "No such option: --interval\nTry: groupwise show --help"),
        ("estimate", "Missing argument 'STUDY.yaml...'.\nTry: groupwise estimate --help"),
        ("plan stdy.yaml", "no such study file (working directory {folder}); did you mean study.yaml?"),
        ("show published/shop", "published/shop: there is no such folder or file (working directory {folder}); name publish_to/<study>"),
        ("plan another.yaml", "groupwise init DATA writes a first one for your data."),
        ("plan shop.csv", "shop.csv: these are data, and no study; groupwise init shop.csv writes a study for them."),
        ("plan tab.yaml", "line 2, column 1: a tab stands where spaces should; YAML is indented with spaces"),
    ],
)
def test_a_wrong_command_line_is_answered_with_the_right_one(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text("name: s\nformula: y ~ 1 + (1 | g)\nsource: shop.csv\n")
    Path("tab.yaml").write_text("name: s\n\tformula: y ~ 1 + (1 | g)\n")
    Path("shop.csv").write_text("g,y\na,1\n")
    monkeypatch.setattr(sys, "argv", ["groupwise", *words.split()])
    assert command_line._run() != 0
    assert message.format(folder=tmp_path) in capsys.readouterr().err
