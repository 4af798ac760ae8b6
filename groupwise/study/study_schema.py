"""The JSON Schema of a study file, for editors: ``python -m groupwise.study.study_schema`` writes it beside this file.

A study's first line names it: ``# yaml-language-server: $schema=...``. The schema knows fields, types and bounds; what needs the formula or
the data is refused when a study is read.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from groupwise.study.study import Study

SCHEMA_FILE = Path(__file__).with_name("study.schema.json")
MARK = "# yaml-language-server: $schema="
NAME = "study.schema.json"


def study_schema() -> dict[str, Any]:
    """The schema, draft 2020-12."""
    made = Study.model_json_schema(by_alias=True, mode="validation")
    source = made["$defs"]["Source"]
    names = {"type": "string"}
    # a file's name alone stands for the mapping that its suffix says
    made["$defs"]["Source"] = {
        "anyOf": [names, {"type": "array", "items": names, "minItems": 1}, source],
        "description": source["description"],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "A groupwise study"}


def schema_text() -> str:
    """The schema as the file has it."""
    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"


def first_line(study_file: Path, schema: Path) -> str:
    """The line that names the schema in a study, relative to the study."""
    return MARK + Path(os.path.relpath(schema.absolute(), study_file.absolute().parent)).as_posix()


def main() -> None:
    """Write the schema."""
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
