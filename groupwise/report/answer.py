"""The answer in a few paragraphs, made from numbers in the tables: how high, what is settled, what changes it, what each step moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from groupwise.report.blocks import Finding
from groupwise.report.check_sections import failed_checks
from groupwise.report.dependence import dependence_sentence
from groupwise.report.failed_words import are_intervals_too_narrow
from groupwise.report.label_words import counted, named
from groupwise.report.model_charts import WITHIN, variance_shares
from groupwise.report.predictor_sentences import predictor_sentences
from groupwise.report.subject import MIX, Subject, overall_average

type Level = Mapping[str, Any]


def answer(subject: Subject) -> list[Finding]:
    """The level and the extremes, what is settled, the predictors (or where the variance is), what each step moved."""
    made = [
        Finding("How high", _said(_level(subject), dependence_sentence(subject, subject.factors[0]) if subject.factors else "")),
        Finding("What is settled", _settled(subject)),
        _effects(subject),
        Finding("What each step moved", _said(_steps(subject), _pooling(subject))),
    ]
    return [found for found in made if found.text]


def _said(*sentences: str) -> str:
    return " ".join(words for words in sentences if words)


def _effects(subject: Subject) -> Finding:
    points = predictor_sentences(subject)
    if not points:
        return Finding("Where the differences are", _variance(subject))
    of_what = "" if not subject.text("unit") else f" ({subject.unit})"
    return Finding(
        "What goes with more or less",
        f"These go with a higher or lower outcome{of_what}; that they cause it the data alone do not say.",
        tuple(points),
    )


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
    average = f"their average of {subject.outcome(sum(row['estimate'] for row in rows) / len(rows))}"
    above = [str(row["level"]) for row in reversed(rows) if _is_clear(subject, row, rows, above=True)]
    below = [str(row["level"]) for row in rows if _is_clear(subject, row, rows, above=False)]
    sides = [
        f"{len(found):,} {'is' if len(found) == 1 else 'are'} clearly {side} {{average}} ({named(found)})"
        for side, found in (("above", above), ("below", below))
        if found
    ]
    rest = len(rows) - len(above) - len(below)
    start = f"{'As the intervals stand, of' if _is_too_narrow(subject) else 'Of'} {len(rows):,} {subject.levels_words(factor)}"
    if sides:
        told = f"{start}, {', '.join(sides)}.".replace("{average}", average, 1).replace("{average}", "it")
        told += f" The other {'one' if rest == 1 else f'{rest:,}'} cannot be told from it." if rest else ""
    else:
        told = f"{start} none can be told from {average}."
    told += " Intervals as wide as they should be would tell fewer apart." if sides and _is_too_narrow(subject) else ""
    sure = f"“Clearly” means with a probability of at least {_sure(subject):.3g} %, each {subject.factor_words(factor)} taken by itself"
    counted_once = f"in the average each {subject.factor_words(factor)} counts once"
    return _said(told, _highest(subject, rows), f"({sure}; {counted_once}.)")


def _sure(subject: Subject) -> float:
    """Beyond one bound of the study's interval, in per cent."""
    return 50.0 + float(subject.interval.removesuffix(" %")) / 2.0


def _is_clear(subject: Subject, row: Level, rows: Sequence[Level], *, above: bool) -> bool:
    """Whether a level is on one side of the average, by its probability; in tables from before it was published, by its interval."""
    probability = row.get("probability_above_average")
    if probability is not None:
        return (probability if above else 1.0 - probability) >= _sure(subject) / 100.0
    mean = sum(each["estimate"] for each in rows) / len(rows)
    return bool(row["lower"] > mean if above else row["upper"] < mean)


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
    return f"Of the variation that groups can explain, most lies between the levels of {subject.factor_words(largest)}: {share}."


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
    factors = [factor for factor in subject.factors if not subject.is_sampled(factor)]
    is_told = pc.is_in(table.column("grouping_factor"), value_set=pa.array(factors, pa.string()))
    distance = pc.abs(pc.subtract(table.column("no_pooling_estimate"), table.column("estimate")))
    told = pc.if_else(is_told, distance, pa.scalar(None, pa.float64()))
    n_told = len(told) - told.null_count
    if n_told == 0:
        return ""
    moved = table.slice(pc.index(told, pc.max(told)).as_py(), 1).to_pylist()[0]
    members = subject.members_of(moved["grouping_factor"])
    behind = counted(moved["n"], "line item")
    behind = behind if members is None or moved["n_sampled"] is None else f"{counted(moved['n_sampled'], members)}, {behind}"
    return (
        f"Of {n_told:,} group estimates pooling moved one furthest: {moved['level']} "
        f"({subject.factor_words(moved['grouping_factor'])}; {behind}) "
        f"from {subject.outcome(moved['no_pooling_estimate'])} by itself to {subject.outcome(moved['estimate'])}."
    )
