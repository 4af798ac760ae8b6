"""A fit at a glance: random effects, fixed effects, sizes, criteria, and the checks that did not pass; as lme4 and brms lay them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from groupwise.printable import printable_lines
from groupwise.study.study import Study
from groupwise.term_order import FALLBACK, TermOrder

if TYPE_CHECKING:
    import pandas as pd

CRITERIA = {
    "reml_criterion": "REML criterion",
    "log_likelihood_ml": "maximised log-likelihood",
    "log_likelihood": "log-likelihood",
    "aic": "AIC",
    "bic": "BIC",
    "elpd_loo": "elpd_loo",
}
type Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Summary:
    """A fit at a glance; prints as text.

    Attributes
    ----------
    heading : tuple of str
        What was fitted, and how.
    random_effects : DataFrame
        ``group``, ``term``, ``std_dev`` with ``lower`` and ``upper``, and ``part`` of a two-part model. The residual or dispersion is last.
    correlations : DataFrame
        ``group``, ``term``, ``other_term``, ``correlation`` with ``lower`` and ``upper``.
    fixed_effects : DataFrame
        By term: ``estimate``, ``std_error``, ``lower``, ``upper``; of the likelihood engine ``t_value`` with ``df`` (linear models) or
        ``z_value``; of the bayesian ``r_hat``, ``ess_bulk`` and ``ess_tail``.
    n_rows : int
        Rows that the estimates rest on.
    n_groups : dict
        Levels of every grouping factor.
    criteria : dict
        What the likelihood or the posterior says of the whole model, as far as there is such a number.
    failed_checks : DataFrame
        ``check`` and ``message`` of every check that did not pass.
    interval : float
        Probability of the intervals.
    """

    heading: tuple[str, ...]
    random_effects: pd.DataFrame
    correlations: pd.DataFrame
    fixed_effects: pd.DataFrame
    n_rows: int
    n_groups: dict[str, int]
    criteria: dict[str, float]
    failed_checks: pd.DataFrame
    interval: float

    def __str__(self) -> str:
        groups = ", ".join(f"{name} {count:,}" for name, count in self.n_groups.items())
        lines = [*self.heading, "", "Random effects:", *_random_lines(self), f"Number of obs: {self.n_rows:,}; groups: {groups}"]
        lines += ["", "Fixed effects:", *_fixed_lines(self)]
        if self.criteria:
            lines += ["", "; ".join(f"{CRITERIA[name]} {value:,.1f}" for name, value in self.criteria.items())]
        failed = self.failed_checks.to_dict("records")
        if failed:
            lines += ["", "Checks that did not pass:", *(f"  {row['check']}: {row['message']}" for row in failed)]
        else:
            lines += ["", "All checks passed."]
        return printable_lines("\n".join(lines))

    __repr__ = __str__


def summarised(study: Study, tables: Mapping[str, pa.Table]) -> Summary:
    """The summary of a study's tables."""
    import pandas as pd

    order = TermOrder(study.parsed_formula, study.words)
    components = sorted(tables["variance_components"].to_pylist(), key=order.component)
    sds = [row for row in components if row["quantity"] == "sd"]
    correlations = [row for row in components if row["quantity"] == "correlation"]
    checks = {row["check"]: row for row in tables["diagnostics"].to_pylist()}
    partial = [row for row in tables["population_coefficients"].to_pylist() if row["pooling"] == "partial"]
    has_parts = any(row.get("part") for row in partial)
    known = {name: checks[name]["value"] for name in CRITERIA if name in checks and checks[name]["value"] is not None}
    if "reml_criterion" in known:
        # half of the criterion with another sign: AIC and BIC are not of that one
        known.pop("log_likelihood", None)
    return Summary(
        heading=_heading(study),
        random_effects=_without_empty(pd.DataFrame([_component(row, {"std_dev": row["estimate"]}, has_parts) for row in sds])),
        correlations=pd.DataFrame(
            [_component(row, {"other_term": row["other_term"], "correlation": row["estimate"]}, has_parts) for row in correlations],
            columns=[*(["part"] if has_parts else []), "group", "term", "other_term", "correlation", "lower", "upper"],
        ),
        fixed_effects=_fixed(sorted(partial, key=order.coefficient), has_parts),
        n_rows=int(checks["n_line_items"]["value"]),
        n_groups=_sizes(order, tables["group_coefficients"]),
        criteria=known,
        failed_checks=pd.DataFrame(
            [{"check": row["check"], "message": row["message"]} for row in checks.values() if not row["passed"]],
            columns=["check", "message"],
        ),
        interval=study.interval,
    )


def _heading(study: Study) -> tuple[str, ...]:
    how = "posterior" if study.engine == "bayesian" else "maximum likelihood"
    if study.engine == "likelihood" and study.is_linear and study.method != "ml":
        how = "REML"
    kind = "Linear multilevel model" if study.is_linear else f"Generalised multilevel model ({study.family})"
    kind = f"Two-part multilevel model ({study.family})" if study.has_two_parts else kind
    title = (study.title,) if study.title else ()
    return (*title, f"{kind} by {how}, engine {study.engine}", f"Formula: {study.formula}")


def _component(row: Mapping[str, Any], own: Mapping[str, Any], has_parts: bool) -> dict[str, Any]:
    part = {"part": row["part"]} if has_parts else {}
    return {**part, "group": row["grouping_factor"], "term": row["term"], **own, "lower": row["lower"], "upper": row["upper"]}


def _fixed(rows: Rows, has_parts: bool) -> pd.DataFrame:
    import pandas as pd

    found = []
    for row in rows:
        ratio = row["estimate"] / row["std_error"] if row["estimate"] is not None and row["std_error"] else None
        of_likelihood = row["engine"] == "likelihood"
        df = row["degrees_of_freedom"]
        found.append(
            {
                **({"part": row["part"]} if has_parts else {}),
                "term": row["term"],
                **{name: row[name] for name in ("estimate", "std_error", "lower", "upper")},
                "df": df,
                "t_value": ratio if of_likelihood and df is not None else None,
                "z_value": ratio if of_likelihood and df is None else None,
                **{name: row[name] for name in ("r_hat", "ess_bulk", "ess_tail")},
            }
        )
    return _without_empty(pd.DataFrame(found)).set_index("term")


def _without_empty(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without columns that are empty throughout, estimates and limits excepted."""
    kept = {"estimate", "std_error", "lower", "upper", "std_dev"}
    return frame[[name for name in frame.columns if name in kept or frame[name].notna().any()]]


def _sizes(order: TermOrder, table: pa.Table) -> dict[str, int]:
    seen = table.filter(pc.invert(table["is_new"])).group_by(["grouping_factor", "parent_level", "level"]).aggregate([])
    counts: dict[str, int] = {}
    for name in seen["grouping_factor"].to_pylist():
        counts[str(name)] = counts.get(str(name), 0) + 1
    places = order.factors
    return dict(sorted(counts.items(), key=lambda item: places.get(item[0], FALLBACK)))


def _random_lines(summary: Summary) -> list[str]:
    """As lme4 prints them: sds, and in the same rows the correlations with the terms before."""
    known: dict[tuple[Any, ...], float] = {}
    for row in summary.correlations.to_dict("records"):
        key = (row.get("part"), row["group"])
        known[*key, row["term"], row["other_term"]] = known[*key, row["other_term"], row["term"]] = row["correlation"]
    rows, last = [], None
    before: list[str] = []
    for row in summary.random_effects.to_dict("records"):
        key = (row.get("part"), row["group"])
        before = before if key == last else []
        correlated = ["" if (value := known.get((*key, row["term"], other))) is None else f"{value:.2f}" for other in before]
        name = "" if key == last else " ".join(str(part) for part in key if part)
        rows.append([name, row["term"], _number(row["std_dev"]), _bounds(row), " ".join(correlated)])
        before, last = [*before, row["term"]], key
    share = f"{100 * summary.interval:g} % interval"
    return _aligned(["Groups", "Name", "Std.Dev.", share, "Corr"], rows, left=2)


def _fixed_lines(summary: Summary) -> list[str]:
    frame = summary.fixed_effects
    share = f"{100 * summary.interval:g} % interval"
    titles = {"df": "df", "t_value": "t value", "z_value": "z value", "r_hat": "R-hat", "ess_bulk": "ESS bulk", "ess_tail": "ESS tail"}
    shown = [name for name in titles if name in frame.columns]
    rows = []
    for term, row in zip(frame.index, frame.to_dict("records"), strict=True):
        name = " ".join(str(part) for part in (row.get("part"), term) if part)
        formats = {"df": ".1f", "r_hat": ".3f", "ess_bulk": ".0f", "ess_tail": ".0f"}
        more = ["" if row[each] is None or math.isnan(row[each]) else format(row[each], formats.get(each, ".2f")) for each in shown]
        rows.append([name, _number(row["estimate"]), _number(row["std_error"]), _bounds(row), *more])
    return _aligned(["", "Estimate", "Std. Error", share, *(titles[name] for name in shown)], rows, left=1)


def _bounds(row: Mapping[Any, Any]) -> str:
    lower, upper = _number(row["lower"]), _number(row["upper"])
    return f"{lower} to {upper}" if lower or upper else ""


def _number(value: float | None) -> str:
    """Four significant digits, thousands separated."""
    if value is None or math.isnan(value):
        return ""
    if abs(value) >= 1e4:
        return f"{value:,.0f}"
    text = f"{value:.4g}" if abs(value) < 1 else f"{value:,.{max(0, 3 - len(str(int(abs(value)))) + 1)}f}"
    return "0" if float(text.replace(",", "")) == 0 else text


def _aligned(titles: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Columns under their titles, the first ``left`` of them to the left; empty columns are left out."""
    kept = [at for at in range(len(titles)) if any(row[at] for row in rows)]
    table = [[str(row[at]) for at in kept] for row in (titles, *rows)]
    widths = [max(len(line[at]) for line in table) for at in range(len(kept))]
    lines = []
    for line in table:
        cells = [text.ljust(width) if at < left else text.rjust(width) for at, text, width in zip(kept, line, widths, strict=True)]
        lines.append((" " + "  ".join(cells)).rstrip())
    return lines
