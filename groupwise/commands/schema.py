"""``groupwise schema``: the JSON Schema of study files."""

from __future__ import annotations

import sys
from pathlib import Path

from groupwise.faults import told
from groupwise.study.study_schema import MARK, schema_text
from groupwise.whole_files import write_whole


def show_schema(output: Path | None) -> None:
    """Print the schema, or write it and say how a study names it."""
    if output is None:
        sys.stdout.write(schema_text())
        return
    with told(f"the schema cannot be written to {output}"):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, schema_text())
    print(f"{output}: written. Make this the first line of a study in the same folder: {MARK}{output.name}")
