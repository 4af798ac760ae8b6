"""A study is read whole or refused in a few lines that name the file, the field, the value and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from groupwise.study.study_file import load_study
from multilevel.errors import StudyError

GOOD = {
    "name": "spend",
    "formula": "amount ~ 1 + (1 | region)",
    "source": "{parquet: lines.parquet}",
}


def write(folder: Path, **fields: str | None) -> Path:
    file = folder / "study.yaml"
    lines = [f"{name}: {value}" for name, value in (GOOD | fields).items() if value is not None]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_what_is_left_out_has_the_documented_defaults(tmp_path: Path) -> None:
    study = load_study(write(tmp_path))
    assert (study.family, study.engine, study.method, study.interval) == ("gaussian", "bayesian", None, 0.95)
    assert (study.as_of, study.window, study.expectations, study.where) == ("latest", None, None, None)
    assert study.source.parquet == ("lines.parquet",)
    assert study.quarantine_limit == 0.01


def test_levels_to_predict_for_are_named_by_factor_and_are_text_whatever_yaml_reads(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, predict_for="{region: [NORTH, 7, true], 'a:b': [{level: 2026-01-01, parent_level: 3}]}"))
    found = [(new.grouping_factor, new.level, new.parent_level) for new in study.predict_for]
    assert found == [("region", "NORTH", None), ("region", "7", None), ("region", "true", None), ("a:b", "2026-01-01", "3")]
    listed = load_study(write(tmp_path, predict_for="[{grouping_factor: region, level: NORTH}]"))
    assert listed.predict_for == study.predict_for[:1]
    assert load_study(write(tmp_path, predict_for="{region: NORTH}")).predict_for == study.predict_for[:1]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", None, "name: this field is needed"),
        ("predict_for", "NORTH", "predict_for: 'NORTH': write {region"),
        ("formula", "unit price ~ 1 + (1 | region)", "a name with spaces needs backticks"),
        ("formula", "log(unit price) ~ 1 + (1 | region)", "a name with spaces needs backticks"),
        ("name", "1st", "write letters, digits"),
        ("name", "spend/../x", "write letters, digits"),
        ("name", '"spend; drop table lines"', "write letters, digits"),
        ("formula", "amount ~ 1 + exec(region) + (1 | region)", "exec"),
        ("formula", "amount ~ 1", "no group term"),
        ("formula", '"amount ~ (1 | "', "formula"),
        ("family", "poison", "did you mean poisson"),
        ("family", "tweedie", "the families are gaussian"),
        ("engine", "lme4", "engine"),
        ("method", "reml", "method belongs to engine: likelihood"),
        ("interval", "95", "interval"),
        ("interval", "yes please", "interval"),
        ("source", "{}", "it names no data; write one of {parquet: files}, {csv: files}"),
        ("source", "{parquet: a.parquet, database: b.duckdb}", "database and parquet are two sources"),
        ("source", "{parquet: []}", "write at least one file"),
        ("source", "{parquet: a.csv}", "a.csv is no Parquet file by its suffix; write {csv: a.csv}"),
        ("source", "{csv: a.csv, hive: true}", "hive belongs to parquet"),
        ("source", "{json: a.json, options: {decimal: ','}}", "options belongs to csv"),
        (
            "source",
            "{csv: a.csv, options: {date_format: dd/mm/yyyy}}",
            "date_format: 'dd/mm/yyyy': write year, month and day as",
        ),
        ("source", "{csv: a.csv, options: {delimeter: ','}}", "source.options.delimeter: no such field; did you mean delimiter"),
        ("source", "{csv: a.csv, options: {encoding: ascii}}", "source.options.encoding: 'ascii'"),
        ("missing", "{region: drop}", "missing.region"),
        ("missing", "{amount: mean_and_indicator}", "missing: amount: mean_and_indicator would make up outcomes; write amount: exclude"),
        ("window", "{column: day, days: 0}", "window.days"),
        ("window", "{column: day}", "window.days: this field is needed"),
        ("as_of", "yesterday", "as_of"),
        ("publish_to", "../elsewhere", "without '..'"),
        ("currency", "euros", "currency"),
        ("seed", "-1", "seed"),
        ("privacy", "{of: customer_id, k: 1}", "privacy.k"),
        ("sampling", "{draws: 10}", "sampling.draws"),
        ("sampling", "{form: gibbs}", "sampling.form"),
        ("quadrature_points", "9", "quadrature_points belongs to"),
        ("engin", "likelihood", "no such field; did you mean engine"),
    ],
)
def test_a_wrong_field_is_named_with_what_would_be_right(field: str, value: str | None, message: str, tmp_path: Path) -> None:
    file = write(tmp_path, **{field: value})
    with pytest.raises(StudyError, match=message) as caught:
        load_study(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert len(str(caught.value).splitlines()) <= 4


@pytest.mark.parametrize(
    ("formula", "family", "message"),
    [
        ("log(amount) ~ 1 + (1 | region)", "poisson", "log\\(y\\) ~ is fitted as gaussian"),
        ("p(kept, bought) ~ 1 + (1 | region)", "poisson", "binomial response"),
        ("amount | se(error) ~ 1 + (1 | region)", "binomial", "se\\(\\) is for gaussian"),
    ],
)
def test_a_response_that_does_not_fit_its_family(formula: str, family: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=message):
        load_study(write(tmp_path, formula=formula, family=family))


@pytest.mark.parametrize(
    ("content", "message"),
    [("- a\n- b\n", "a study is a mapping"), ("name: [", "not readable as YAML"), ("", "a study is a mapping")],
)
def test_a_file_that_is_no_study(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(StudyError, match=message):
        load_study(file)


def test_a_file_that_is_not_there_is_named_with_the_working_directory(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no such study file \(working directory "):
        load_study(tmp_path / "nowhere.yaml")


def test_overrides_reach_parts_and_are_read_as_yaml(tmp_path: Path) -> None:
    study = load_study(write(tmp_path), {"sampling.draws": "200", "source.parquet": "[a.parquet, b.parquet]", "cells": "[region, day]"})
    assert study.sampling.draws == 200
    assert study.source.parquet == ("a.parquet", "b.parquet")
    assert study.cells == ("region", "day")


def test_an_override_of_a_part_that_has_no_parts(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"--set name.first: name is 'spend', which has no parts"):
        load_study(write(tmp_path), {"name.first": "x"})


def test_many_problems_are_three_and_a_count(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="and 2 more"):
        load_study(write(tmp_path, seed="x", interval="x", currency="x", engine="x", cells="x"))
