"""Within a major version the tables change only by additions; what breaks a reader fails here with what to do about it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multilevel.catalogue import published_tables
from multilevel.catalogue.documentation import tables_page
from multilevel.catalogue.evolution import RULES, current_schema, evolution_problems, main, released_schema

type Schema = dict[str, Any]


def small() -> Schema:
    """A release of one table."""
    columns = {
        "level": {"type": "string", "unit": "", "nullable": False},
        "kind": {"type": "string", "unit": "", "nullable": False, "allowed": ["a", "b"]},
        "estimate": {"type": "float64", "unit": "outcome", "nullable": True},
    }
    return {"version": "1.2.0", "tables": {"groups": {"unique_key": ["level"], "sort_key": ["level"], "columns": columns}}}


def changed(change: Callable[[Schema], object], version: str = "1.2.0") -> Schema:
    schema = copy.deepcopy(small()) | {"version": version}
    change(schema["tables"]["groups"]["columns"])
    return schema


def new(columns: Schema, *, nullable: bool) -> None:
    columns["note"] = {"type": "string", "unit": "", "nullable": nullable}


def test_the_catalogue_keeps_to_the_rules_since_the_last_release() -> None:
    problems = evolution_problems(released_schema(), current_schema())
    assert problems == [], "\n".join(problems)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: c.pop("estimate"), "groups.estimate is gone or renamed"),
        (lambda c: c.update(value=c.pop("estimate")), "groups.estimate is gone or renamed"),
        (lambda c: c["estimate"].update(type="string"), "the type was 'float64', it is 'string'"),
        (lambda c: c["estimate"].update(unit="1"), "the unit was 'outcome', it is '1'"),
        (lambda c: c["level"].update(nullable=True), "groups.level could never be null, now it can"),
        (lambda c: c["kind"].update(allowed=["a", "c"]), "groups.kind can no longer be b"),
        (lambda c: new(c, nullable=False), "groups.note is new and can never be null"),
        (lambda c: c.update(level=c.pop("level")), "the columns stand in another order"),
        (lambda c: (new(c, nullable=True), c.update(estimate=c.pop("estimate"))), "new columns come after the others"),
    ],
)
def test_a_change_that_breaks_readers_is_refused_with_what_to_do(change: Callable[[Schema], object], complaint: str) -> None:
    [problem] = evolution_problems(small(), changed(change, "1.3.0"))
    assert complaint in problem
    assert "Undo it, or set CATALOGUE_VERSION to 2.0.0 and run `make release-schema`" in problem
    assert evolution_problems(small(), changed(change, "2.0.0")) == []


@pytest.mark.parametrize("key", ["unique_key", "sort_key"])
def test_a_key_may_gain_a_new_nullable_column_at_its_end_and_nowhere_else(key: str) -> None:
    schema = small() | {"version": "1.3.0"}
    schema["tables"]["groups"]["columns"]["part"] = {"type": "string", "unit": "", "nullable": True}
    schema["tables"]["groups"][key] = ["level", "part"]
    assert evolution_problems(small(), schema) == []
    schema["tables"]["groups"][key] = ["part", "level"]
    assert "it is (part, level)" in evolution_problems(small(), schema)[0]


@pytest.mark.parametrize("key", ["unique_key", "sort_key"])
def test_a_changed_key_is_refused(key: str) -> None:
    schema = small()
    schema["tables"]["groups"][key] = ["level", "kind"]
    assert f"the {key.replace('_', ' ')} was (level), it is (level, kind)" in evolution_problems(small(), schema)[0]


def test_a_lost_table_is_refused_and_a_new_one_passes() -> None:
    schema = small() | {"version": "1.3.0"}
    schema["tables"]["more"] = schema["tables"]["groups"]
    assert evolution_problems(small(), schema) == []
    assert "Table more is gone" in evolution_problems(schema, small() | {"version": "1.4.0"})[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: new(c, nullable=True),
        lambda c: c["estimate"].update(nullable=False),
        lambda c: c["kind"].update(allowed=["a", "b", "c"]),
        lambda c: c["estimate"].update(minimum=0.0),
    ],
)
def test_an_addition_passes_with_a_new_minor_version_and_asks_for_one(change: Callable[[Schema], object]) -> None:
    assert evolution_problems(small(), changed(change, "1.3.0")) == []
    assert "set CATALOGUE_VERSION to 1.3.0" in evolution_problems(small(), changed(change))[0]


def test_an_older_version_than_the_released_is_refused() -> None:
    assert "is older than the released 1.2.0" in evolution_problems(small(), small() | {"version": "1.1.0"})[0]


def test_a_release_is_written_only_when_no_reader_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "released.json"
    main(file)
    written = json.loads(file.read_text())
    assert written == current_schema()
    tables = {name: spec for name, spec in published_tables.TABLES.items() if name != "diagnostics"}
    monkeypatch.setattr(published_tables, "TABLES", tables)
    with pytest.raises(SystemExit, match="Table diagnostics is gone"):
        main(file)
    assert json.loads(file.read_text()) == written


def test_the_page_prints_the_rules() -> None:
    page = tables_page()
    assert all(f"- {rule}" in page for rule in RULES)
