"""The text of the files that ``init`` writes: a study with a comment on every choice, and starter rules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from groupwise.starting.proposal import Proposal
from groupwise.starting.table_profile import TableProfile
from multilevel.text import shorten

WIDTH = 116


def study_fields(name: str, source: Mapping[str, Any], made: Proposal, rules: str | None) -> dict[str, Any]:
    """The study as a mapping, fields that say nothing left out."""
    fields: dict[str, Any] = {
        "name": name,
        "title": shorten(f"{made.outcome} by {' and '.join(term.replace('`', '') for term in made.groups)}", 300),
        "formula": made.formula,
        "family": made.family,
        "source": dict(source),
        "expectations": rules,
        "where": made.where,
        "missing": dict(made.missing),
        "window": None if made.window is None else {"column": made.window[0], "days": made.window[1]},
        "cells": None if made.cells is None else list(made.cells),
        "sampled": list(made.sampled),
        "engine": "likelihood",
    }
    return {field: value for field, value in fields.items() if value not in (None, {}, [])}


def study_text(fields: Mapping[str, Any], made: Proposal, table: TableProfile, data: str, notes: Sequence[str]) -> str:
    """The study file."""
    head = [f"Written by groupwise init from {data}. Every choice below is a proposal with its reason; change what you know better.", ""]
    head += ["What is in the data:", *(f"  {line}" for line in [*table.lines(), *notes])]
    lines = _comment(head)
    why = {
        "formula": [
            f"Outcome: {made.reason('outcome')}.",
            f"Groups: {made.reason('groups')}.",
            *(
                [f"Predictors: {'; '.join(said)}."]
                if (said := [made.reason(one) for one in ("steps", "predictors") if made.reason(one) and made.predictors])
                else []
            ),
            *([f"Other numbers that could be predictors (+ {made.numbers[0]}): {', '.join(made.numbers)}."] if made.numbers else []),
        ],
        "family": [f"{made.reason('family')}."],
        "expectations": [f"Rules that the rows must keep, in expectations/{fields.get('expectations')}.json; they hold today."],
        "where": [f"{made.reason('where')}."],
        "missing": ["What becomes of rows without a value: exclude, level (a level of its own) or mean_and_indicator."],
        "window": ["The days that count, back from the last one (as_of: latest)."],
        "cells": ["The pair of columns of cell_estimates."],
        "sampled": [f"{made.reason('sampled')}: what is published also says what to expect of a new one."],
        "engine": ["likelihood: REML or Laplace, in seconds; bayesian: the posterior, in minutes."],
    }
    for field, value in fields.items():
        lines += ["", *_comment([line for line in why.get(field, []) if line.strip(". ")])] if field in why else []
        lines.append(f"{field}: {_flow(value)}")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def rules_text(name: str, table: TableProfile, made: Proposal) -> str:
    """Starter rules as a suite: what holds in the data and should go on to hold."""
    rules: list[dict[str, Any]] = []
    named = [*dict.fromkeys([made.outcome, *(part for term in made.groups for part in term.replace("`", "").split("/")), *made.sampled])]
    named += [made.window[0]] if made.window else []
    for at, column in enumerate(one for one in named if one in table.columns and not table.columns[one].nulls):
        why = "Every row has one today; a row without it is quarantined."
        rules.append(_rule("expect_column_values_to_not_be_null", {"column": column}, "warning", f"present_{at + 1}", why))
    found = table.columns[made.outcome]
    if found.kind == "number" and found.low < found.high:
        bounds = {"column": made.outcome, "min_value": found.low, "max_value": found.high}
        why = "The range of the outcome today. A value outside is counted, not quarantined; make it a warning once the range is known."
        rules.append(_rule("expect_column_values_to_be_between", bounds, "info", "outcome_range", why))
    ids = [one for one in table.columns.values() if one.is_id and one.levels == one.n == table.rows and one.kind in ("text", "number")]
    for one in ids[:1]:
        why = "An id that is there twice is a row that was loaded twice."
        rules.append(_rule("expect_column_values_to_be_unique", {"column": one.name}, "warning", "id_unique", why))
    return json.dumps({"name": name, "grain": "one row per line item", "expectations": rules}, indent=2, ensure_ascii=False) + "\n"


def _rule(kind: str, kwargs: Mapping[str, Any], severity: str, rule_id: str, why: str) -> dict[str, Any]:
    return {"type": kind, "kwargs": dict(kwargs), "severity": severity, "meta": {"rule_id": rule_id, "why": why}}


def _comment(lines: Sequence[str]) -> list[str]:
    found = []
    for line in lines:
        text, indent = shorten(line, 2_000), len(line) - len(line.lstrip())
        while len(text) > WIDTH and " " in text[indent + 1 : WIDTH]:
            cut = text.rindex(" ", indent + 1, WIDTH)
            found.append(f"# {text[:cut]}".rstrip())
            text = " " * (indent + 2) + text[cut + 1 :]
        found.append(f"# {text}".rstrip())
    return found


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    return text.removesuffix("...\n").strip()
