"""The answer in three sentences, made from numbers in the tables."""

from __future__ import annotations

import pyarrow.compute as pc

from groupwise.report.effects import effect, effect_words, no_effect
from groupwise.report.model_charts import WITHIN, variance_shares
from groupwise.report.part_labels import INTERCEPTS, of_part
from groupwise.report.subject import Subject, overall_average, term_words


def answer(subject: Subject) -> list[str]:
    """Three sentences: the overall level and the extremes, the clearest predictor (or where the variance is), what pooling did."""
    sentences = [_level(subject), _predictor(subject) or _variance(subject), _pooling(subject)]
    return [sentence for sentence in sentences if sentence]


def _level(subject: Subject) -> str:
    factors = subject.factors
    if not factors:
        return ""
    factor = factors[0]
    rows = subject.seen_estimates.filter(pc.field("grouping_factor") == factor).sort_by([("estimate", "ascending")]).to_pylist()
    low, high = rows[0], rows[-1]
    overall = overall_average([row["complete_pooling_estimate"] for row in rows], [row["n"] for row in rows])
    if overall is None:
        start = f"By {factor}, the estimate ({subject.unit})"
    else:
        start = f"Over all groups together the estimate is {subject.outcome(overall)} ({subject.unit}); by {factor} it"
    members = subject.members_of(factor)
    from_low, from_high = ("" if members is None else f"{row['n_sampled']:,} levels of {members}; " for row in (low, high))
    of_whom = "" if members is None else f", for a new {members}"
    return (
        f"{start} runs from {subject.outcome(low['estimate'])} "
        f"({low['level']}; {from_low}{subject.interval} interval {subject.outcome(low['lower'])} to {subject.outcome(low['upper'])}) "
        f"to {subject.outcome(high['estimate'])} "
        f"({high['level']}; {from_high}{subject.outcome(high['lower'])} to {subject.outcome(high['upper'])}){of_whom}."
    )


def _predictor(subject: Subject) -> str:
    rows = [
        row
        for row in subject.tables["population_coefficients"].to_pylist()
        if row["pooling"] == "partial" and row["term"] not in INTERCEPTS and row["std_error"] and row["lower"] is not None
    ]
    if not rows:
        return ""
    # an effect that differs between groups is what a study asks about; among those, and otherwise, the clearest
    varying = set(subject.tables["group_coefficients"].column("term").unique().to_pylist())
    clearest = max(rows, key=lambda row: (row["term"] in varying, abs(row["estimate"]) / row["std_error"]))
    # of two parts each has its own scale
    own = of_part(subject, clearest["part"]) if subject.has_two_parts else subject
    low, middle, high = (effect(own, clearest[name]) for name in ("lower", "estimate", "upper"))
    what = "the odds" if subject.is_share else subject.unit
    if subject.has_two_parts:
        what = {"occurrence": "the odds of an outcome above zero", "amount": "the outcome where it is above zero"}[clearest["part"]]
    verb = "changes" if low > no_effect(own) or high < no_effect(own) else "does not clearly change"
    interval = f"({subject.interval} interval {effect_words(own, low)} to {effect_words(own, high)})"
    return f"{term_words(clearest['term'])} {verb} {what}: {effect_words(own, middle)} {interval}{_range(subject, own, clearest['term'])}."


def _range(subject: Subject, own: Subject, term: str) -> str:
    """How the term's effect ranges over the levels of the finest factor by which it varies; nothing where it does not vary."""
    varying = subject.tables["group_coefficients"].filter((pc.field("term") == term) & ~pc.field("is_new"))
    if varying.num_rows == 0:
        return ""
    sizes = varying.group_by("grouping_factor").aggregate([("level", "count")]).sort_by([("level_count", "descending")])
    finest = str(sizes.column("grouping_factor")[0])
    ranked = varying.filter(pc.field("grouping_factor") == finest).sort_by([("estimate", "ascending")])
    low, high = (ranked.slice(place, 1).to_pylist()[0] for place in (0, ranked.num_rows - 1))
    ends = [f"{effect_words(own, effect(own, row['estimate']))} ({row['level']})" for row in (low, high)]
    return f" in the average group, from {ends[0]} to {ends[1]} by {subject.factor_words(finest)}"


def _variance(subject: Subject) -> str:
    between = {factor: share for factor, share in variance_shares(subject).items() if not factor.startswith(WITHIN)}
    if not between:
        return ""
    largest = max(between, key=lambda factor: between[factor])
    share = f"{100 * between[largest]:.1f} % of all variance"
    return f"Of the variation that groups can explain, most lies between the levels of {largest}: {share}."


def _pooling(subject: Subject) -> str:
    table = subject.seen_estimates
    table = table.filter(pc.is_valid(table.column("no_pooling_estimate")))
    if table.num_rows == 0:
        return ""
    distance = pc.abs(pc.subtract(table.column("no_pooling_estimate"), table.column("estimate")))
    moved = table.append_column("distance", distance).sort_by([("distance", "descending")]).slice(0, 1).to_pylist()[0]
    return (
        f"Of {table.num_rows:,} group estimates pooling moved one furthest: {moved['level']} "
        f"({subject.factor_words(moved['grouping_factor'])}, {moved['n']:,} line items) "
        f"from its own {subject.outcome(moved['no_pooling_estimate'])} to {subject.outcome(moved['estimate'])}."
    )
