"""The schema and the reference of studies say what studies say, and their examples are studies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from groupwise.study.row_rule import CHECKS
from groupwise.study.study import Study
from groupwise.study.study_examples import EXAMPLES
from groupwise.study.study_reference import reference
from groupwise.study.study_schema import MARK, SCHEMA_FILE, first_line, schema_text, study_schema
from groupwise.validation.suite import ROW_RULES

ROOT = Path(__file__).parents[3]
STUDIES = [*sorted((ROOT / "studies").glob("*.yaml")), ROOT / "docs" / "guide" / "without_households.yaml"]
PLAIN = {"name": "s", "formula": "amount ~ 1 + size + (1 | region) + (1 | department/category)", "source": "x.csv", "engine": "likelihood"}
NEEDED: dict[str, Mapping[str, Any]] = {
    "quadrature_points": {"family": "poisson"},
    "priors": {"engine": "bayesian"},
    "sampling": {"engine": "bayesian"},
}


def errors(study: object) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(study_schema()).iter_errors(study)]


def test_the_shipped_schema_and_page_are_those_of_the_fields() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run: make docs"
    assert (ROOT / "docs" / "study.md").read_text(encoding="utf-8") == reference(), "run: make docs"


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_a_shipped_study_names_the_schema_and_keeps_it(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    named = text.split("\n", 1)[0].removeprefix(MARK)
    assert (file.parent / named).resolve() == SCHEMA_FILE.resolve()
    assert errors(json.loads(json.dumps(yaml.safe_load(text), default=str))) == []


@pytest.mark.parametrize("field", EXAMPLES)
def test_every_example_is_a_field_of_a_study(field: str) -> None:
    written = yaml.safe_load(EXAMPLES[field])
    assert list(written) == [field.split(".", maxsplit=1)[0]]
    study = PLAIN | dict(NEEDED.get(field.split(".", maxsplit=1)[0], {})) | written
    assert errors(json.loads(json.dumps(study, default=str))) == []
    assert Study.model_validate(study)


@pytest.mark.parametrize(
    "wrong",
    [
        {"engin": "likelihood"},
        {"family": "gausian"},
        {"interval": 1.5},
        {"source": {"parquett": "x.parquet"}},
        {"source": {"csv": "x.csv", "options": {"decimal": ";"}}},
        {"window": {"column": "day"}},
        {"privacy": {"of": "customer", "k": 1}},
        {"missing": {"region": "drop"}},
    ],
)
def test_the_schema_refuses_what_a_study_refuses(wrong: dict[str, Any]) -> None:
    assert errors(PLAIN | wrong)
    with pytest.raises(ValueError, match="validation error"):
        Study.model_validate(PLAIN | wrong)


def test_the_page_has_every_type_of_rule() -> None:
    assert all(f"| `{kind}` |" in reference() for kind in (*ROW_RULES, *CHECKS))


def test_the_first_line_is_relative_to_the_study(tmp_path: Path) -> None:
    assert first_line(tmp_path / "a" / "s.yaml", tmp_path / ".groupwise" / "study.schema.json") == f"{MARK}../.groupwise/study.schema.json"
