"""Numbers in sentences and Markdown tables: dollars, per cent, intervals, probabilities."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence


def money(value: float) -> str:
    """Dollars and cents."""
    return f"{'−' if value < 0 else ''}${abs(value):,.2f}"


def number(value: float, digits: int = 0) -> str:
    """With a comma between thousands."""
    return f"{value:,.{digits}f}".replace("-", "−")


def percent(share: float, digits: int = 0) -> str:
    """A share in per cent."""
    return f"{100 * share:.{digits}f} %".replace("-", "−")


def interval(row: Mapping[str, object], kind: str = "", digits: int = 2, unit: str = "$") -> str:
    """Bounds of an interval, on one line."""
    low, high = float(str(row[f"{kind}lower"])), float(str(row[f"{kind}upper"]))
    return f"{signed_unit(low, digits, unit)} to {signed_unit(high, digits, unit)}"


def signed_unit(value: float, digits: int, unit: str) -> str:
    """A number behind its unit's sign."""
    return f"{'−' if value < 0 else ''}{unit}{abs(value):,.{digits}f}"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; columns of numbers are to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    right = [all(not row[at] or row[at].lstrip("−$+")[:1].isdigit() for row in cells) for at in range(len(columns))]
    lines = [columns, ["--:" if numeric and at else "---" for at, numeric in enumerate(right)], *cells]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def math(latex: str) -> str:
    """A formula in a sentence, as MathML, drawn without a script; in a span, since Markdown takes ``<math>`` for a paragraph."""
    return f"<span>{_quiet(_mathml(latex, 'inline'))}</span>"


def formula(latex: str, *, said: str) -> str:
    """A displayed formula; ``said`` is its spoken form, for screen readers."""
    mathml = _mathml(latex, "block").replace("<math ", f'<math aria-label="{html.escape(said)}" ', 1)
    return f'\n<div class="formula">{_quiet(mathml)}</div>\n'


def _mathml(latex: str, display: str) -> str:
    from latex2mathml.converter import convert

    return str(convert(latex, display=display))


def _quiet(mathml: str) -> str:
    """Signs that Markdown would read as its own, as numbers."""
    return mathml.replace("*", "&#42;").replace("_", "&#95;").replace("\n", "")
