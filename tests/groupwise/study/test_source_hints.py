"""A study that names its source, or a part of it, in a way that cannot be read is told what to write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from groupwise.source.describe import extract
from groupwise.source.source_checks import source_checks
from groupwise.study.study_file import load_study
from groupwise.validation.validate import validate
from multilevel.errors import DataError, GroupwiseError

type Refuse = Callable[..., str]


@pytest.fixture
def refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """What ``extract`` and ``validate`` say of a study over 40 rows, fields overridden; they must refuse it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    k = range(40)
    columns = {"g": [f"g{i % 4}" for i in k], "size": 100, "prop": [i * 7 % 100 / 100 for i in k], "n": [i % 5 for i in k]}
    Path("x.csv").write_text("a,b\n1,2\n")
    texts = {"txt": [f"{i}.5" for i in k], "day": [f"2024-01-{1 + i % 28:02}" for i in k]}
    pd.DataFrame(columns | texts | {"when": pd.Timestamp("2024-01-01")}).to_parquet("p.parquet")

    def run(**fields: Any) -> str:
        plain = {"name": "s", "formula": "prop ~ 1 + (1 | g)", "source": {"parquet": "p.parquet"}, "engine": "likelihood"}
        Path("s.yaml").write_text(yaml.safe_dump(plain | fields))
        with pytest.raises(GroupwiseError) as refused:
            study = load_study("s.yaml")
            validate(study, extract(study, None, tmp_path / "run", today=date(2026, 1, 1)), tmp_path / "run")
        return str(refused.value)

    return run


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"source": {"parquet": "x.csv"}}, "x.csv is no Parquet file by its suffix; write {csv: x.csv}"),
        ({"source": "p.prq"}, "the suffix of 'p.prq' does not say what it is; write one of {parquet: files}, {csv: files}"),
        ({"source": ["a.parquet", "b.csv"]}, "the files are of several kinds"),
        ({"source": 7}, "source: 7: write one of {parquet: files}, {csv: files}"),
        (
            {"source": {"files": "p.parquet"}},
            "source.files: no such field; the fields of source are database, parquet, csv, json, arrow, hive",
        ),
        ({"window": 90}, "window: 90: write a mapping: window: {column: ..., days: ...}"),
        ({"window": {"column": "day", "dayz": 3}}, "window.dayz: no such field; did you mean days?"),
        ({"formual": "y ~ 1"}, "formual: no such field; did you mean formula?"),
        ({"family": "binomial"}, "for a proportion of a known number of trials, say size, write p(I(prop * size), size)"),
        ({"formula": "txt ~ 1 + (1 | g)"}, "add types: {txt: DOUBLE} to the study"),
        ({"formula": "prop ~ sqrt(txt) + (1 | g)"}, "add types: {txt: DOUBLE} to the study"),
        ({"formula": "prop ~ log(when) + (1 | g)"}, "date_diff('day', date '2024-01-01', when) as days"),
        ({"window": {"column": "day", "days": 3}}, "add types: {day: TIMESTAMP} to the study"),
        ({"types": {"txt": "BIGINT"}}, "types: txt: 40 values are no BIGINT"),
    ],
)
def test_a_refusal_says_what_to_write(refuse: Refuse, fields: dict[str, Any], words: str) -> None:
    assert words in refuse(**fields)


def test_the_words_for_a_proportion_work(refuse: Refuse) -> None:
    """0.07 times 100 is not 7 in floating point, and stands for it."""
    refuse(formula="n ~ 1 + (1 | nowhere)")
    fields = {"formula": "p(I(prop * size), size) ~ 1 + (1 | g)", "family": "binomial"}
    study = load_study("s.yaml", fields)
    relation = extract(study, None, Path("run"), today=date(2026, 1, 1))
    assert validate(study, relation, Path("run")).n_left == 40
    assert "p(successes, trials) needs whole numbers" in refuse(formula="p(I(prop * n), n) ~ 1 + (1 | g)", family="binomial")


def test_text_that_is_cast_fits(refuse: Refuse) -> None:
    refuse(formula="n ~ 1 + (1 | nowhere)")
    study = load_study("s.yaml", {"formula": "txt ~ 1 + (1 | g)", "types": "{txt: DOUBLE, day: DATE}", "window": "{column: day, days: 9}"})
    relation = extract(study, None, Path("run"), today=date(2026, 1, 1))
    assert (validate(study, relation, Path("run")).n_left, relation.as_of) == (9, date(2024, 1, 29))


def test_a_mean_without_its_indicator_is_a_failed_check(refuse: Refuse) -> None:
    refuse(formula="n ~ 1 + (1 | nowhere)")
    missing = {"missing": "{prop: mean_and_indicator}"}
    study = load_study("s.yaml", {"formula": "n ~ prop + (1 | g)", **missing})
    relation = extract(study, None, Path("run"), today=date(2026, 1, 1))
    [check] = source_checks(study, relation)
    assert (check.check, check.passed) == ("indicator[prop]", False)
    assert check.message.endswith("write n ~ prop + (1 | g) + prop_missing")
    assert source_checks(load_study("s.yaml", {"formula": "n ~ prop + prop_missing + (1 | g)", **missing}), relation) == ()
    assert source_checks(load_study("s.yaml", {"formula": "n ~ 1 + (1 | g)", **missing}), relation) == ()


def test_plan_shows_the_quarantined_rows_instead_of_a_file_that_is_gone(refuse: Refuse) -> None:
    refuse(formula="n ~ 1 + (1 | nowhere)")
    Path("expectations").mkdir()
    Path("expectations/mine.json").write_text(
        '{"expectations": [{"type": "expect_column_values_to_be_between", "kwargs": {"column": "n", "min_value": 1}, '
        '"severity": "critical", "meta": {"rule_id": "n_ok", "why": "because"}}]}'
    )
    study = load_study("s.yaml", {"formula": "prop ~ 1 + (1 | g)", "expectations": "mine"})
    relation = extract(study, None, Path("run"), today=date(2026, 1, 1))
    with pytest.raises(DataError) as refused:
        validate(study, relation, Path("run"), stays=False)
    lines = str(refused.value).split("\n")
    assert len(lines) <= 6
    assert "8 of 40 line items break it" in lines[0]
    assert lines[2].startswith("  broken_rules = n_ok, n = 0")
    assert "quarantine/" not in str(refused.value)


def test_an_unknown_type_is_refused_before_any_data(refuse: Refuse) -> None:
    assert "types.prop: 'NUMBER': write a DuckDB type: DOUBLE, BIGINT" in refuse(types={"prop": "NUMBER"})
