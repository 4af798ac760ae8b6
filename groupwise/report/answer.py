"""The answer in a few paragraphs, made from numbers in the tables: how high, what is settled, what changes it, what each step moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from groupwise.report.check_sections import failed_checks
from groupwise.report.dependence import dependence_sentence
from groupwise.report.failed_words import are_intervals_too_narrow
from groupwise.report.label_words import counted, named
from groupwise.report.model_charts import WITHIN, variance_shares
from groupwise.report.predictor_sentences import predictor_sentences
from groupwise.report.subject import MIX, Subject, overall_average

type Level = Mapping[str, Any]


def answer(subject: Subject) -> list[str]:
    """Paragraphs: the level and the extremes, what is settled, the predictors (or where the variance is), what each step moved."""
    paragraphs = [
        [_level(subject), dependence_sentence(subject, subject.factors[0]) if subject.factors else ""],
        [_settled(subject)],
        predictor_sentences(subject) or [_variance(subject)],
        [_steps(subject), _pooling(subject)],
    ]
    joined = [" ".join(words for words in paragraph if words) for paragraph in paragraphs]
    return [words for words in joined if words]


def _levels(subject: Subject) -> Sequence[Level]:
    """The first factor's levels, the lowest estimate first."""
    if not subject.factors:
        return []
    own = subject.seen_estimates.filter(pc.field("grouping_factor") == subject.factors[0])
    rows: list[dict[str, Any]] = own.sort_by([("estimate", "ascending")]).to_pylist()
    return rows


def _level(subject: Subject) -> str:
    rows = _levels(subject)
    if not rows:
        return ""
    factor = subject.factors[0]
    by = subject.factor_words(factor)
    low, high = rows[0], rows[-1]
    overall = overall_average([row["complete_pooling_estimate"] for row in rows], [row["n"] for row in rows])
    if overall is None:
        start = f"By {by}, the estimate ({subject.unit})"
    else:
        start = f"Over all groups together the estimate is {subject.outcome(overall)} ({subject.unit}); by {by} it"
    members = subject.members_of(factor)
    of_whom = "" if members is None else f", for a new {members} of each"
    first = f"{subject.interval} interval "
    return f"{start} runs from {_with_interval(subject, low, members, first)} to {_with_interval(subject, high, members, '')}{of_whom}."


def _with_interval(subject: Subject, row: Level, members: str | None, first: str) -> str:
    """An estimate with its level, how many units stand behind it, and its interval."""
    behind = "" if members is None or row["n_sampled"] is None else f"{counted(row['n_sampled'], members)}; "
    limits = f"{subject.outcome(row['lower'])} to {subject.outcome(row['upper'])}"
    return f"{subject.outcome(row['estimate'])} ({row['level']}; {behind}{first}{limits})"


def _settled(subject: Subject) -> str:
    """Which levels lie off the factor's average with their whole interval, and whether it is known which one is highest."""
    rows = _levels(subject)
    if len(rows) < 2:
        return ""
    factor = subject.factors[0]
    mean = sum(row["estimate"] for row in rows) / len(rows)
    above = [str(row["level"]) for row in reversed(rows) if row["lower"] > mean]
    below = [str(row["level"]) for row in rows if row["upper"] < mean]
    average = f"their average of {subject.outcome(mean)}"
    sides = [
        f"{len(found):,} {'lies' if len(found) == 1 else 'lie'} {side} {average} with the whole interval ({named(found)})"
        for side, found in (("above", above), ("below", below))
        if found
    ]
    rest = len(rows) - len(above) - len(below)
    start = f"{'As the intervals stand, of' if _is_too_narrow(subject) else 'Of'} {len(rows):,} {subject.levels_words(factor)}"
    if not sides:
        told = f"{start} none can be told from {average}: every interval contains it."
    else:
        others = f" The other {'one' if rest == 1 else f'{rest:,}'} cannot be told from it." if rest else ""
        told = f"{start}, {', and '.join([*sides[:1], *(side.replace(average, 'it') for side in sides[1:])])}.{others}"
    by_itself = f"In that average each {subject.factor_words(factor)} counts once, and each interval is taken by itself."
    return f"{told} {by_itself} {_highest(subject, rows)}".rstrip()


def _is_too_narrow(subject: Subject) -> bool:
    return "diagnostics" in subject.tables and are_intervals_too_narrow(failed_checks(subject))


def _highest(subject: Subject, rows: Sequence[Level]) -> str:
    """Whether it is settled which level ranks first."""
    ranked = [row for row in reversed(rows) if row["rank_lower"] is not None]
    first = [str(row["level"]) for row in ranked if row["rank_lower"] <= 1]
    if not first:
        return ""
    if _is_too_narrow(subject) and len(first) == 1:
        return f"{first[0]} is highest, which is not settled: a failed check says that intervals are too narrow."
    if len(first) == 1 and ranked[0]["rank_upper"] <= 1:
        return f"That {first[0]} is highest is settled: the {subject.interval} interval of its rank is 1 alone."
    if len(first) == 1:
        return f"{first[0]} alone has rank 1 in its {subject.interval} interval, but lower ranks too."
    return f"Which is highest is not settled: {len(first)} have rank 1 in their {subject.interval} interval ({named(first)})."


def _variance(subject: Subject) -> str:
    between = {factor: share for factor, share in variance_shares(subject).items() if not factor.startswith(WITHIN)}
    if not between:
        return ""
    largest = max(between, key=lambda factor: between[factor])
    share = f"{100 * between[largest]:.1f} % of all variance"
    return f"Of the variation that groups can explain, most lies between the levels of {largest}: {share}."


def _steps(subject: Subject) -> str:
    """The first factor's level that lies furthest from its plain average, and what came between the two."""
    rows = [row for row in _levels(subject) if row.get("observed_mean") is not None and row.get(MIX) is not None]
    if not rows:
        return ""
    moved = max(rows, key=lambda row: abs(row["estimate"] - row["observed_mean"]))
    members = subject.members_of(subject.factors[0])
    vote = moved["no_pooling_estimate"]
    once = "" if members is None or vote is None else f", {subject.outcome(vote)} once every {members} counts the same"
    return (
        f"{moved['level']} has a plain average of {subject.outcome(moved['observed_mean'])}; it is "
        f"{subject.outcome(moved[MIX])} with the mix that all groups share{once}, and {subject.outcome(moved['estimate'])} pooled. "
        f"No other {subject.factor_words(subject.factors[0])} moves further from its plain average."
    )


def _pooling(subject: Subject) -> str:
    table = subject.seen_estimates
    table = table.filter(pc.is_valid(table.column("no_pooling_estimate")))
    if table.num_rows == 0:
        return ""
    distance = pc.abs(pc.subtract(table.column("no_pooling_estimate"), table.column("estimate")))
    moved = table.append_column("distance", distance).sort_by([("distance", "descending")]).slice(0, 1).to_pylist()[0]
    members = subject.members_of(moved["grouping_factor"])
    behind = counted(moved["n"], "line item")
    behind = behind if members is None or moved["n_sampled"] is None else f"{counted(moved['n_sampled'], members)}, {behind}"
    return (
        f"Of {table.num_rows:,} group estimates pooling moved one furthest: {moved['level']} "
        f"({subject.factor_words(moved['grouping_factor'])}; {behind}) "
        f"from {subject.outcome(moved['no_pooling_estimate'])} by itself to {subject.outcome(moved['estimate'])}."
    )
