"""``docs/study.md``, generated from the fields of a study: ``python -m groupwise.study.study_reference`` writes it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from groupwise.study.study_schema import study_schema

EXAMPLES = {
    "name": "name: line_spend",
    "title": "title: Spend per line item by region",
    "formula": "formula: log(amount) ~ 1 + on_sale + (1 | region) + (1 | department/category)",
    "family": "family: gaussian",
    "source": "source: sales.csv",
    "expectations": "expectations: line_items",
    "where": "where: amount > 0",
    "types": "types: {amount: DOUBLE, day: DATE}",
    "levels": "levels: {size: [S, M, L]}",
    "missing": "missing: {region: level, amount: exclude}",
    "window": "window: {column: day, days: 365}",
    "as_of": "as_of: 2026-01-01",
    "cells": "cells: [region, category]",
    "engine": "engine: likelihood",
    "method": "method: ml",
    "interval": "interval: 0.8",
    "publish_to": "publish_to: s3://bucket/estimates",
    "unit": "unit: dollars per line item",
    "currency": "currency: USD",
    "quarantine_limit": "quarantine_limit: 0.05",
    "max_cells": "max_cells: 500000",
    "predict_for": "predict_for: {region: [NORTH]}",
    "sampled": "sampled: [customer_id]",
    "standardise_to": "standardise_to: {parquet: mix.parquet}",
    "priors": "priors: {sds: {region: half_normal(0.5)}}",
    "sampling": "sampling: {draws: 2000, chains: 4}",
    "statistics": "statistics: {partition: month, column: day, keep: statistics}",
    "draws": "draws: {rows: 1000}",
    "seed": "seed: 7",
    "quadrature_points": "quadrature_points: 9",
    "intervals": "intervals: profile",
    "bootstrap_samples": "bootstrap_samples: 1000",
    "privacy": "privacy: {of: customer_id, k: 5}",
    "diff": "diff: {moved: 2 %}",
    "diff.moved": "diff: {moved: 0.25}",
    "resources": "resources: {memory: 4GB, threads: 2}",
    "resources.memory": "resources: {memory: 4GB}",
    "resources.threads": "resources: {threads: 2}",
    "resources.spill": "resources: {spill: /scratch}",
    "runs": "runs: {keep_days: 7, keep_failed: 30}",
    "runs.keep_days": "runs: {keep_days: 7}",
    "runs.keep_failed": "runs: {keep_failed: 30}",
    "source.database": "source: {database: shop.duckdb, line_items: query.sql}",
    "source.parquet": 'source: {parquet: "lake/*.parquet"}',
    "source.csv": "source: {csv: [january.csv, february.csv]}",
    "source.json": "source: {json: sales.jsonl}",
    "source.arrow": "source: {arrow: sales.feather}",
    "source.hive": 'source: {parquet: "lake/**/*.parquet", hive: true}',
    "source.options": 'source: {csv: sales.csv, options: {decimal: ","}}',
    "source.line_items": "source: {csv: sales.csv, line_items: query.sql}",
    "source.options.delimiter": 'source: {csv: sales.csv, options: {delimiter: ";"}}',
    "source.options.decimal": 'source: {csv: sales.csv, options: {decimal: ","}}',
    "source.options.date_format": 'source: {csv: sales.csv, options: {date_format: "%d/%m/%Y"}}',
    "source.options.encoding": "source: {csv: sales.csv, options: {encoding: windows-1252}}",
    "source.options.nulls": "source: {csv: sales.csv, options: {nulls: [NA, n/a]}}",
    "standardise_to.parquet": "standardise_to: {parquet: mix.parquet}",
    "standardise_to.database": "standardise_to: {database: shop.duckdb, query: mix.sql}",
    "standardise_to.query": "standardise_to: {database: shop.duckdb, query: mix.sql}",
    "window.column": "window: {column: day, days: 90}",
    "window.days": "window: {column: day, days: 90}",
    "predict_for.grouping_factor": "predict_for: [{grouping_factor: region, level: NORTH}]",
    "predict_for.level": "predict_for: {region: [NORTH, SOUTH]}",
    "predict_for.parent_level": "predict_for: {department:category: [{level: RUGS, parent_level: HOME}]}",
    "sampling.draws": "sampling: {draws: 2000}",
    "sampling.chains": "sampling: {chains: 8}",
    "sampling.tune": "sampling: {tune: 1500}",
    "sampling.form": "sampling: {form: nuts}",
    "sampling.cores": "sampling: {cores: 2}",
    "statistics.partition": "statistics: {partition: month, column: day, keep: statistics}",
    "statistics.column": "statistics: {partition: day, column: day, keep: statistics}",
    "statistics.workers": "statistics: {partition: day, column: day, keep: /shared/statistics, workers: tcp://scheduler:8786}",
    "statistics.keep": "statistics: {partition: day, column: day, keep: s3://bucket/statistics}",
    "draws.rows": "draws: {rows: 4000}",
    "privacy.of": "privacy: {of: customer_id, k: 5}",
    "privacy.k": "privacy: {of: customer_id, k: 10}",
}
"""Field -> a line of a study that has it."""

_RULES = {
    "expect_column_values_to_not_be_null": ('{"column": "amount"}', "a value is there; NaN counts as none"),
    "expect_column_values_to_be_between": (
        '{"column": "amount", "min_value": 0, "max_value": 1000, "strict_min": true}',
        "numbers, days and times within bounds, either of which may be left out; `strict_min` and `strict_max` leave the bound itself out",
    ),
    "expect_column_values_to_be_in_set": ('{"column": "channel", "value_set": ["web", "till"]}', "one of these values"),
    "expect_column_values_to_match_regex": ('{"column": "sku", "regex": "^[A-Z]{2}[0-9]+$"}', "text in which the expression is found"),
    "expect_column_values_to_be_unique": ('{"column": "line_id"}', "no other row has the value"),
    "expect_compound_columns_to_be_unique": ('{"column_list": ["basket_id", "line"]}', "no other row has all of these values"),
}

_OPENING = """# Every field of a study

Generated from `groupwise/study/` by `make docs`; a test fails when the two disagree. An editor that reads JSON Schema completes and checks
studies whose first line names the schema (`groupwise schema` writes it, `groupwise init` does both):

```yaml
# yaml-language-server: $schema=.groupwise/study.schema.json
```

Three fields are needed: `name`, `formula` and `source`. `groupwise plan` says what the others come to. [line-items.md](line-items.md)
explains sources, types, categories and missing values, [limitations.md](limitations.md) what there is no field for.

"""

_RULES_OPENING = """
## Rules

`expectations: line_items` names the suite `expectations/line_items.json` of the working directory, or one of the project's own:

```json
{
  "name": "line_items",
  "expectations": [
    {
      "type": "expect_column_values_to_be_between",
      "kwargs": {"column": "amount", "min_value": 0, "mostly": 0.99},
      "severity": "critical",
      "meta": {"rule_id": "amount_not_negative", "why": "Returns are booked in a table of their own."}
    }
  ]
}
```

A row that breaks a `critical` or `warning` rule is quarantined and leaves the study; an `info` rule only counts. A rule fails where fewer
than `mostly` (1 if it is left out) of the rows keep it; a failed `critical` rule stops the run. `quarantine_limit` bounds what may be
quarantined in all. Every rule may have a `row_condition`, such as `"channel == 'web' and amount > 0"`, with `"condition_parser": "pandas"`:
it then looks at such rows only. Rules about values do not look at missing ones.

| type | kwargs, for example | what a row must keep |
|---|---|---|
"""


def reference() -> str:
    """The page as Markdown."""
    schema = study_schema()
    sections = [_table(schema, schema, "")]
    for name, part in _parts(schema).items():
        sections.append(f"\n## `{name}`\n\n{_sentence(part)}\n\n{_table(part, schema, name + '.')}")
    rules = "".join(f"| `{kind}` | `{kwargs}` | {what} |\n" for kind, (kwargs, what) in _RULES.items())
    return _OPENING + "## Fields\n\n" + "".join(sections) + _RULES_OPENING + rules


def _parts(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts of a study that have fields of their own, by their field."""
    found: dict[str, dict[str, Any]] = {}
    pending = [(name, field) for name, field in schema["properties"].items()]
    while pending:
        name, field = pending.pop(0)
        part = _mapping(field, schema)
        if part is not None:
            found[name] = part
            pending = [(f"{name}.{inner}", own) for inner, own in part["properties"].items()] + pending
    return found


def _mapping(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any] | None:
    """The part that a field is, or is a list of; None where it has no fields of its own."""
    if "properties" in field:
        return field
    if "$ref" in field:
        return _mapping(schema["$defs"][field["$ref"].rsplit("/", 1)[1]], schema)
    inner = [*field.get("anyOf", []), *([field["items"]] if isinstance(field.get("items"), dict) else [])]
    return next((part for one in inner if (part := _mapping(one, schema)) is not None), None)


def _table(part: dict[str, Any], schema: dict[str, Any], before: str) -> str:
    lines = ["| field | what it is | where it is left out | example |", "|---|---|---|---|"]
    for name, field in part["properties"].items():
        needed = name in part.get("required", ())
        is_part = "default" not in field and _mapping(field, schema) is not None
        default = "needed" if needed else "the defaults below" if is_part else _default(field.get("default"))
        lines.append(f"| `{name}` | {_text(_what(field, schema))} | {default} | `{EXAMPLES[before + name].replace('|', chr(92) + '|')}` |")
    return "\n".join(lines) + "\n"


def _what(field: dict[str, Any], schema: dict[str, Any]) -> str:
    said = str(field.get("description", ""))
    choices = _choices(field, schema)
    missing = [one for one in choices if str(one) not in said]
    if len(choices) > 1 and missing:
        said += f" ({', '.join(str(one) if str(one).isidentifier() or '-' in str(one) else repr(one) for one in choices)})"
    return said


def _choices(field: dict[str, Any], schema: dict[str, Any]) -> list[Any]:
    if "$ref" in field:
        return _choices(schema["$defs"][field["$ref"].rsplit("/", 1)[1]], schema)
    return list(field.get("enum", ())) or [one for part in field.get("anyOf", ()) for one in _choices(part, schema)]


def _default(value: object) -> str:
    if value in (None, [], {}, ""):
        return "none"
    return f"`{value}`" if not isinstance(value, bool) else f"`{str(value).lower()}`"


def _sentence(part: dict[str, Any]) -> str:
    return str(part.get("description", "")).split("\n", maxsplit=1)[0].replace("``", "`")


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main(path: Path = Path("docs/study.md")) -> None:
    """Write the page."""
    path.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main(*[Path(argument) for argument in sys.argv[1:2]])
