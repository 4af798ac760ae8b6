"""The text of the study that ``init`` writes, with a comment on every choice, and its starter rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from groupwise.starting.proposal import Proposal
from groupwise.starting.table_profile import TableProfile
from multilevel.text import shorten

WIDTH = 116


def study_fields(name: str, source: Mapping[str, Any], made: Proposal, rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The study as a mapping, fields that say nothing left out."""
    fields: dict[str, Any] = {
        "name": name,
        "title": shorten(f"{made.outcome} by {' and '.join(term.replace('`', '') for term in made.groups)}", 300),
        "formula": made.formula,
        "family": made.family,
        "source": dict(source),
        "where": made.where,
        "missing": dict(made.missing),
        "window": None if made.window is None else {"column": made.window[0], "days": made.window[1]},
        "cells": None if made.cells is None else list(made.cells),
        "sampled": list(made.sampled),
        "engine": "likelihood",
        "rules": list(rules),
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
        "rules": [
            "What every row must keep; it holds today. A row that breaks a rule is quarantined, or with severity: info only counted (make "
            "the range a warning once it is known). With keep: one, copies of a row are dropped and counted.",
        ],
        "where": [f"{made.reason('where')}."],
        "missing": ["What becomes of rows without a value: exclude, level (a level of its own) or mean_and_indicator."],
        "window": ["The days that count, back from the last one (as_of: latest)."],
        "cells": ["The pair of columns of cell_estimates."],
        "sampled": [f"{made.reason('sampled')}: what is published also says what to expect of a new one."],
        "engine": ["likelihood: REML or Laplace, in seconds; bayesian: the posterior, in minutes."],
    }
    for field, value in fields.items():
        lines += ["", *_comment([line for line in why.get(field, []) if line.strip(". ")])] if field in why else []
        lines += [f"{field}:", *(f"  - {_flow(one)}" for one in value)] if field == "rules" else [f"{field}: {_flow(value)}"]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def starter_rules(table: TableProfile, made: Proposal) -> list[dict[str, Any]]:
    """Rules of the study: what holds in the data and should go on to hold."""
    named = [*dict.fromkeys([made.outcome, *(part for term in made.groups for part in term.replace("`", "").split("/")), *made.sampled])]
    named += [made.window[0]] if made.window else []
    rules: list[dict[str, Any]] = [
        {"check": "present", "column": column} for column in named if column in table.columns and not table.columns[column].nulls
    ]
    found = table.columns[made.outcome]
    if found.kind == "number" and found.low < found.high:
        rules.append({"check": "between", "column": made.outcome, "min": found.low, "max": found.high, "severity": "info"})
    ids = [one.name for one in table.columns.values() if one.is_id and one.levels == one.n == table.rows and one.kind in ("text", "number")]
    if table.copies:
        alike: Any = ids[0] if ids else list(table.columns)
        rules.append({"check": "unique", "column": alike, "keep": "one", "id": "copies"})
    elif ids:
        rules.append({"check": "unique", "column": ids[0]})
    return rules


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
