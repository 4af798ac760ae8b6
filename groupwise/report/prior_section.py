"""The report's section on priors: what was assumed, and how much each result depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from groupwise.report.blocks import Cell, Row, Section, ShortTable
from groupwise.report.subject import Subject

SENSITIVE = 0.05
"""Power-scaling sensitivity from which a prior moves the posterior (Kallioinen et al. 2024)."""

ASSUMED = "What the model assumed before it saw the data: weakly informative, on the scale of the outcome, overridable in the study."
MOVED = "Sensitivity is how much a result would move if every prior were made a little stronger or weaker; {told}."


def priors_section(subject: Subject) -> Section:
    """The priors in words; under the bayesian engine with the power-scaling sensitivity of each parameter."""
    record = subject.report.get("fit_record")
    inner = record if isinstance(record, Mapping) else {}
    items = _items(subject.report.get("priors", inner.get("priors")))
    sensitivity = inner.get("prior_sensitivity")
    known = {str(name): float(value) for name, value in sensitivity.items()} if isinstance(sensitivity, Mapping) else {}
    rows = tuple(_row(name, prior, known.get(name)) for name, prior in _each(items, known))
    paragraphs = (ASSUMED, MOVED.format(told=_told(known))) if known else (ASSUMED,)
    columns = ("parameter", "prior", "sensitivity")
    return Section("priors", "Priors and sensitivity", paragraphs, tables=(ShortTable("Priors", columns, rows),) if rows else ())


def _each(items: list[tuple[str, str]], known: Mapping[str, float]) -> list[tuple[str, str]]:
    """A row a parameter: the prior of a factor's correlations stands beside each of them."""
    named = {name for name, _ in items}
    rest = [name for name in known if name not in named]
    rows: list[tuple[str, str]] = []
    for name, prior in items:
        inside = [other for other in rest if name.startswith("correlation(") and other.startswith(f"{name[:-1]}, ")]
        rest = [other for other in rest if other not in inside]
        rows += [(other, prior) for other in inside or [name]]
    return rows + [(name, "") for name in rest]


def _items(priors: object) -> list[tuple[str, str]]:
    if isinstance(priors, Mapping):
        return [(str(name), str(value)) for name, value in priors.items()]
    if isinstance(priors, Sequence) and not isinstance(priors, str):
        return [(str(p.get("parameter", "")), str(p.get("prior", ""))) if isinstance(p, Mapping) else ("", str(p)) for p in priors]
    return []


def _row(name: str, prior: str, sensitivity: float | None) -> Row:
    cell = Cell("") if sensitivity is None else Cell(f"{sensitivity:.3f}", sensitivity)
    return Row((Cell(name), Cell(prior), cell), "failed" if sensitivity is not None and sensitivity > SENSITIVE else "")


def _told(known: Mapping[str, float]) -> str:
    moved = sorted((name for name, value in known.items() if value > SENSITIVE), key=lambda name: -known[name])
    if not moved:
        return f"above {SENSITIVE} it would matter, and here none is"
    more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
    return f"above {SENSITIVE} the prior matters, as it does here for {', '.join(moved[:3])}{more}"
