"""docs/first-fit.ipynb with what its cells show: ``python -m benchmarks.notebook_cells`` executes them in an empty folder and keeps it."""

from __future__ import annotations

import ast
import io
import json
import os
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[1] / "docs" / "first-fit.ipynb"


def execute(notebook: dict[str, Any]) -> None:
    """Execute the code cells in order, in the working directory, and put what they show into the notebook."""
    scope: dict[str, Any] = {}
    for number, cell in enumerate((cell for cell in notebook["cells"] if cell["cell_type"] == "code"), 1):
        said = io.StringIO()
        with redirect_stdout(said):
            value = _run("".join(cell["source"]), scope)
        streams = (
            [{"name": "stdout", "output_type": "stream", "text": said.getvalue().splitlines(keepends=True)}] if said.getvalue() else []
        )
        shown = [] if value is None else [_shown(value, number)]
        cell |= {"execution_count": number, "outputs": [*streams, *shown]}


def _run(source: str, scope: dict[str, Any]) -> Any:
    """The value of the last line where it is an expression, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), scope)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), scope)


def _shown(value: Any, number: int) -> dict[str, Any]:
    data = {"text/plain": _lines(repr(value))}
    if hasattr(value, "mark_point") or type(value).__module__.startswith("altair"):
        import vl_convert

        data = {"image/svg+xml": _lines(vl_convert.vegalite_to_svg(value.to_dict())), "text/plain": ["a chart"]}
    elif hasattr(value, "_repr_html_"):
        data["text/html"] = _lines(value._repr_html_())
    return {"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        execute(content)
    NOTEBOOK.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
