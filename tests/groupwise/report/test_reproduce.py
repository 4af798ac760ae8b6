"""What the report says to run again gives the same tables: the command with every override, and the call in Python."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import groupwise as gw
from groupwise.pipeline.release import release
from groupwise.pipeline.run_start import parse_settings
from groupwise.run_folder import RunFolder
from groupwise.study.study_file import load_study

OF_A_RUN = ["study", "run_id"]
SETTINGS = ("interval=0.8", "sampling.draws=2000", "where=y < 9", 'title=It\'s "so"', "publish_to=a shelf")


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"g": rng.integers(0, 6, 200)})
    frame["y"] = frame["g"] + rng.normal(size=200)
    frame.to_parquet("rows.parquet")
    Path("my study.yaml").write_text("name: s\nformula: y ~ 1 + (1 | g)\nsource: {parquet: rows.parquet}\nengine: likelihood\n")
    return frame


def told(report: Path) -> list[str]:
    """The commands and calls of the section."""
    text = report.read_text(encoding="utf-8")
    section = text[text.index('id="reproduce"') :]
    return [html.unescape(code) for code in re.findall(r"<pre[^>]*><code>(.*?)</code>", section[: section.index("</section>")], re.DOTALL)]


def called(code: str, **names: object) -> gw.Estimates:
    """What the call in Python gives."""
    heading, call = code.split("\n\n")
    scope = dict(names)
    exec(heading, scope)
    found = eval(call, scope)
    assert isinstance(found, gw.Estimates)
    return found


def test_a_run_with_overrides_is_reproduced(rows: pd.DataFrame, run_until_fitted: Callable[..., RunFolder]) -> None:
    run = run_until_fitted("my study.yaml", engine="likelihood", settings=SETTINGS)
    release(run)
    command, call = told(run.report)
    words = shlex.split(command)
    assert words[:3] == ["groupwise", "estimate", "my study.yaml"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    settings = [value for option, value in zip(words[3::2], words[4::2], strict=True) if option == "--set"]
    assert settings == [*SETTINGS[:4]]
    overrides = {**parse_settings(settings), "engine": options["--engine"], "publish_to": options["--publish-to"]}
    assert load_study("my study.yaml", overrides) == run.study()
    again = called(call)
    assert again.as_of == run.relation().as_of
    for name, table in run.read_tables().items():
        assert again.arrow_tables[name].drop_columns(OF_A_RUN).equals(table.drop_columns(OF_A_RUN)), name


@pytest.mark.operations
def test_a_fit_is_reproduced_by_its_call(rows: pd.DataFrame) -> None:
    fit = gw.fit("y ~ 1 + (1 | g)", rows, engine="likelihood", interval=0.8, missing={"y": "exclude"}, name="in_memory")
    [call] = told(fit.report("report.html"))
    again = called(call, data=rows)
    assert again.group_estimates.drop(columns=OF_A_RUN).equals(fit.group_estimates.drop(columns=OF_A_RUN))


@pytest.mark.operations
def test_a_fit_of_a_file_is_reproduced_by_its_call(rows: pd.DataFrame) -> None:
    of_file = gw.fit("y ~ 1 + (1 | g)", "rows.parquet", engine="likelihood")
    [call] = told(of_file.report("report.html"))
    assert "gw.fit('y ~ 1 + (1 | g)', 'rows.parquet', engine='likelihood'" in call
    called(call)


@pytest.mark.operations
def test_a_study_made_in_python_is_reproduced_by_its_call(rows: pd.DataFrame) -> None:
    study = gw.Study(name="s", formula="y ~ 1 + (1 | g)", source={"parquet": "rows.parquet"}, engine="likelihood", seed=4)
    ran = gw.run(study, interval=0.7)
    [call] = told(ran.report("report.html"))
    again = called(call)
    assert again.study.interval == 0.7
    assert again.study.seed == 4
