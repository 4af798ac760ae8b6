"""The sections on data and checks: what the validation found, what the posterior predictive checks and the diagnostics say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from groupwise.report.blocks import Cell, Fact, Row, Section, ShortTable
from groupwise.report.dependence import is_of_dependence
from groupwise.report.predictive_chart import predictive_figures
from groupwise.report.subject import Subject, number


def predictive_section(subject: Subject) -> Section:
    """Whether data simulated from the fit look like the data: a picture, and the checks on it."""
    rows = [row for row in subject.tables["diagnostics"].to_pylist() if _is_predictive(row["check"])]
    table = ShortTable("What the checks found", ("check", "passed", "value", "threshold", "in words"), tuple(_check_row(r) for r in rows))
    text = "Data simulated from the fitted model should look like the data it was fitted to; where they do not, a check fails."
    figures = tuple(predictive_figures(subject))
    return Section("predictive", "Posterior predictive checks", (text,), figures=figures, tables=(table,) if rows else ())


def _is_predictive(name: str) -> bool:
    return any(
        word in name
        for word in ("predictive", "ppc", "dispersion", "calibration", "fitted_mean", "elpd", "omitted", "uneven", "lognormal_shape")
    )


def quality_section(subject: Subject) -> Section:
    """What the validation found, and what became of every row of the window."""
    rules = subject.validation.get("rules")
    rows = tuple(_rule_row(rule) for rule in rules if isinstance(rule, Mapping)) if isinstance(rules, Sequence) else ()
    table = ShortTable("The rules that every row had to keep", ("rule", "severity", "rows that broke it", "why it is there"), rows)
    text = (
        "Rows that broke a rule were quarantined before anything was estimated; what the study leaves out is counted.",
        f"The study leaves out rows that do not satisfy: {subject.text('where')}." if subject.text("where") else "",
    )
    return Section("quality", "Data quality", tuple(filter(None, text)), facts=_row_counts(subject), tables=(table,) if rows else ())


def _row_counts(subject: Subject) -> tuple[Fact, ...]:
    """Rows by what became of them, from the validation where there is one, else from the diagnostics."""
    named = {
        "rows": "rows in the window",
        "quarantined": "quarantined",
        "duplicates": "dropped as copies of another row",
        "excluded_where": "left out by the study's condition",
        "excluded_missing": "left out for a missing value",
        "left": "used",
    }
    found = {words: subject.validation.get(name) for name, words in named.items()}
    if not any(isinstance(value, int) for value in found.values()):
        values = checks(subject)
        found = {"used": values.get("n_line_items"), "left out": values.get("n_excluded"), "quarantined": values.get("n_quarantined")}
    return tuple(Fact(words, f"{value:,.0f}") for words, value in found.items() if isinstance(value, int | float))


def _rule_row(rule: Mapping[str, Any]) -> Row:
    broken = rule.get("unexpected")
    count = float(broken) if isinstance(broken, int | float) else None
    rule_id, severity, why = (str(rule.get(name, "")) for name in ("rule_id", "severity", "why"))
    cells = (Cell(rule_id), Cell(severity), Cell("" if count is None else f"{count:,.0f}", count), Cell(why))
    return Row(cells, "failed" if rule.get("success") is False else "")


def diagnostics_section(subject: Subject) -> Section:
    """Every check, those that did not pass first."""
    rows = [row for row in subject.tables["diagnostics"].to_pylist() if row["value"] is not None or not row["passed"]]
    found = sorted(rows, key=lambda row: (row["passed"], row["check"]))
    table = ShortTable("Every check", ("check", "passed", "value", "threshold", "in words"), tuple(_check_row(row) for row in found))
    return Section("diagnostics", "Diagnostics", tables=(table,))


def _check_row(row: Mapping[str, object]) -> Row:
    passed = bool(row["passed"])
    words = (Cell(str(row["check"])), Cell("yes" if passed else "no"), number_cell(row["value"], 4), number_cell(row["threshold"], 4))
    return Row((*words, Cell(str(row["message"] or ""))), "" if passed else "failed")


def checks(subject: Subject) -> dict[str, float | None]:
    """Check -> value."""
    table = subject.tables["diagnostics"]
    return {row["check"]: row["value"] for row in table.select(["check", "value"]).to_pylist()}


def failed_checks(subject: Subject) -> list[dict[str, object]]:
    """The rows of diagnostics that did not pass, those first that say how much too narrow intervals are."""
    failed = [row for row in subject.tables["diagnostics"].to_pylist() if not row["passed"]]
    return sorted(failed, key=lambda row: not is_of_dependence(row))


def number_cell(value: object, digits: int = 3) -> Cell:
    """A number as text, sorted by its value; empty where there is none."""
    if not isinstance(value, int | float):
        return Cell("")
    return Cell(number(float(value), digits), float(value))
