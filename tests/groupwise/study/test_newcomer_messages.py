"""Mistakes of a first hour: each is told in the words of the study, with what to write instead, and in none of a library's words."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from groupwise.commands import command_line

STUDY = {"name": "s", "formula": "price ~ 1 + size + (1 | shop)", "source": "sales.csv", "engine": "likelihood"}
OF_LIBRARIES = re.compile(
    r"Input should|valid (dictionary|tuple|list|string)|pydantic|[A-Z][a-z]+ Error:|Binder|Catalog|FROM clause|Traceback|pg_|"
    r"parse string as|INT32"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [f"{1 + i % 28:02}/{1 + i % 12:02}/2024,s{i % 5},{'SML'[i // 5 % 3]},{5 + i % 7}.5,{i}" for i in range(60)]
    Path("sales.csv").write_text("\n".join(["day,shop,size,price,id", *rows]))
    Path("broken.csv").write_text("a,b\n1,2\n3,4,5,6\n")
    Path("misspelt.sql").write_text("select prise, shop, size from source")
    Path("text.sql").write_text("select cast(size as integer) as price, shop, size from source")
    Path("table.sql").write_text("select * from sales")
    Path("no.sql").write_text("selct * from source")
    return tmp_path


def by_query(file: str) -> dict[str, Any]:
    return {"source": {"csv": "sales.csv", "line_items": file}}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"formula": "prise ~ 1 + (1 | shop)"}, "no column prise; did you mean price?"),
        ({"formula": "price ~ 1 + size"}, "study.yaml: the formula has no group term; write at least one such as (1 | category)"),
        ({"formula": "price = size + (1 | shop)"}, "it has no ~ between the outcome and the predictors"),
        ({"formula": "size ~ 1 + (1 | shop)"}, "the outcome size is VARCHAR; family gaussian needs a number"),
        ({"family": "normal"}, "family: 'normal': did you mean gaussian?"),
        ({"family": "logistic"}, "did you mean binomial?"),
        ({"engine": "lmer"}, "engine: 'lmer': write bayesian or likelihood"),
        ({"interval": 95}, "interval: 95: write a number below 1, such as interval: 0.8"),
        ({"window": "day"}, "window: 'day': write a mapping: window: {column: ..., days: ...}"),
        (
            {"window": {"column": "day", "days": "a month"}},
            "window.days: 'a month': write a whole number, such as window: {column: day, days: 90}",
        ),
        ({"window": {"column": "day", "days": -3}}, "window.days: -3: write a number above 0"),
        ({"window": {"colum": "day", "days": 3}}, "window.colum: no such field; did you mean column?"),
        ({"missing": {"price": "drop"}}, "missing.price: 'drop': write exclude, level or mean_and_indicator"),
        ({"types": {"price": "money"}}, "types.price: 'money': write a DuckDB type: DOUBLE"),
        ({"levels": {"size": "S"}}, "levels.size: 'S': write a list, such as levels: {size: [S, M, L]}"),
        ({"labels": ["price"]}, "labels: ['price']: write a mapping, such as labels: {"),
        ({"rules": {"price": "present"}}, "rules: write a list, such as rules: [{check: present, column: amount}]"),
        ({"rules": ["price present"]}, "rules no. 1: 'price present': write a mapping: rules: [{check: ..., column: ...}]"),
        (
            {"rules": [{"check": "present", "column": "price", "when": "size = 'S'"}]},
            "write comparisons such as size == 'S' and amount > 0",
        ),
        ({"cells": ["shop"]}, "cells: write 2 of them, such as cells: [region, category]"),
        ({"sampled": "shop"}, "sampled: 'shop': write a list, such as sampled: [customer_id]"),
        ({"publish_to": 7}, "publish_to: 7: write a text, such as publish_to: s3://bucket/estimates"),
        ({"currency": "dollars"}, "currency: 'dollars': write the three letters of a currency, such as USD"),
        ({"timezone": "Berlin"}, "timezone: 'Berlin': write the name of a time zone such as Europe/Berlin"),
        ({"source": {"cvs": "sales.csv"}}, "source.cvs: no such field; did you mean csv?"),
        ({"source": {"csv": "sales.csv", "options": {"encoding": "ansi"}}}, "write utf-8, latin-1, utf-16 or windows-1252"),
        ({"source": "sale.csv"}, "source.csv sale.csv matches no file"),
        ({"source": "broken.csv", "formula": "a ~ 1 + (1 | b)"}, "has more values where the first line names 2 columns"),
        ({"where": "price >"}, "where: 'price >': not readable as SQL"),
        ({"where": "shop == s1"}, "no column s1"),
        ({"where": "price > 'a'"}, "the text 'a' is no DOUBLE"),
        (by_query("misspelt.sql"), "there is no column prise; did you mean price"),
        (by_query("text.sql"), "the text 'S' of the column size is no INTEGER"),
        (by_query("table.sql"), "there is no table sales; the files are one relation, which the query reads by the name source"),
        (by_query("no.sql"), 'not readable as SQL: syntax error at or near "selct"'),
    ],
)
def test_a_mistake_is_told_in_the_words_of_the_study(
    change: Mapping[str, Any], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("study.yaml").write_text(yaml.safe_dump({**STUDY, **change}, sort_keys=False))
    monkeypatch.setattr(sys, "argv", ["groupwise", "plan", "study.yaml"])
    assert command_line._run() == 1
    said = capsys.readouterr().err
    assert told in said
    assert OF_LIBRARIES.search(said) is None, said
    assert len(said.strip().splitlines()) <= 6
