"""``docs/study.md``, generated from the fields of a study: ``python -m groupwise.study.study_reference`` writes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from groupwise.study.row_rule import RowRule
from groupwise.study.study_examples import EXAMPLES
from groupwise.study.study_schema import study_schema

_RULES = {
    "present": ("{check: present, column: amount}", "a value is there; NaN counts as none"),
    "between": (
        "{check: between, column: amount, above: 0, max: 1000}",
        "numbers, days and times within bounds, of which one is enough: `min` and `max` are allowed values, `above` and `below` are not",
    ),
    "one_of": ("{check: one_of, column: channel, values: [web, till]}", "one of these values"),
    "matches": ('{check: matches, column: sku, regex: "^[A-Z]{2}[0-9]+$"}', "text in which the expression is found"),
    "unique": (
        "{check: unique, column: line_id, keep: one}",
        "no other row has the value; `column: [basket_id, line]`: all of these values",
    ),
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
## How rules work

```yaml
rules:
  - {check: present, column: customer_id}
  - {check: between, column: amount, min: 0, mostly: 0.99, severity: critical, why: Returns are booked in a table of their own.}
  - {check: unique, column: line_id, keep: last, order_by: loaded_at}
```

A row that breaks a `critical` or `warning` rule is quarantined and leaves the study; an `info` rule only counts. A rule fails where fewer
than `mostly` (1 if it is left out) of the rows keep it; a failed `critical` rule stops the run. `quarantine_limit` bounds what may be
quarantined in all. A rule with `when`, such as `when: "channel == 'web' and amount > 0"`, looks at such rows only. Rules about values do
not look at missing ones. Rules come before `where` and `missing`.

Rows that are alike under a `unique` rule are all quarantined, unless the rule says which of them to `keep`. The others are then dropped:
counted as duplicates, neither quarantined nor a failure, and kept beside the quarantined rows. `first` and `last` are by `order_by`; `one`,
and what `order_by` leaves open, is decided by the order of the values of all columns, so that the order of rows plays no part. A row that
breaks another rule is kept only where all that are alike do.

| check | example | what a row must keep |
|---|---|---|
"""

_SUITES = """
Rules that several studies share stand in a suite of Great Expectations: `expectations: line_items` names `expectations/line_items.json` of
the working directory, or one of the project's own. Rules of the study come beside those of its suite, and every run records both with Great
Expectations. The second rule above is in a suite:

```json
{suite}
```

| check | type in a suite | kwargs |
|---|---|---|
"""


def reference() -> str:
    """The page as Markdown."""
    schema = study_schema()
    sections = [_table(schema, schema, "")]
    for name, part in _parts(schema).items():
        sections.append(f"\n## `{name}`\n\n{_sentence(part)}\n\n{_table(part, schema, name + '.')}")
    rules = "".join(f"| `{check}` | `{example}` | {what} |\n" for check, (example, what) in _RULES.items())
    return _OPENING + "## Fields\n\n" + "".join(sections) + _RULES_OPENING + rules + _suites()


def _suites() -> str:
    """How the examples of rules are written in a suite."""
    shown = RowRule(
        check="between", column="amount", min=0, mostly=0.99, severity="critical", why="Returns are booked in a table of their own."
    )
    suite = json.dumps({"name": "line_items", "expectations": [shown.entry()]}, indent=2)
    examples = [*(example for example, _ in _RULES.values()), "{check: unique, column: [basket_id, line], keep: one}"]
    rows = ""
    for example in examples:
        rule = RowRule.model_validate(yaml.safe_load(example))
        entry = rule.entry()
        keep = f', in `meta`: `{{"keep": "{rule.keep}"}}`' if rule.keep else ""
        rows += f"| `{rule.check}` | `{entry['type']}` | `{json.dumps(entry['kwargs'])}`{keep} |\n"
    return _SUITES.replace("{suite}", suite) + rows


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
