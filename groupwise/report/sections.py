"""The sections of the report, in their order: what each says, shows and tabulates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from groupwise.report.answer import answer
from groupwise.report.blocks import Cell, Fact, LongColumn, LongTable, Row, Section, ShortTable
from groupwise.report.change_words import PARTS, amount, counted, first_sentence, part_amounts, probability_words
from groupwise.report.changes import changes
from groupwise.report.check_sections import checks, diagnostics_section, number_cell, predictive_section, quality_section
from groupwise.report.compared import effect_name
from groupwise.report.datasets import MOST_LEVELS, Columns, cell_dataset, level_datasets, slope_datasets
from groupwise.report.effects import effect
from groupwise.report.group_charts import caterpillar_figure, grid_figure, shrinkage_figure, slope_figure
from groupwise.report.label_words import plural, sentence
from groupwise.report.model_charts import pooling_figure, predictor_figures, variance_figure
from groupwise.report.part_labels import INTERCEPTS
from groupwise.report.prior_section import priors_section
from groupwise.report.reproduce import reproducing
from groupwise.report.steps_chart import STEPS_LIMIT, steps_figure, steps_of, steps_reading
from groupwise.report.subject import Subject, number
from groupwise.report.trend import trend_figures
from groupwise.report.variance_words import variance_sentences

WITHOUT = "estimate_without_group_predictors"

SPLIT = (
    "A change is the sum of three parts: range, of members and products that came or went; mix, of the weights of those that stayed; "
    "behaviour, of what is expected of each of them. Beside changes in percent they are in points of the earlier estimate."
)


type Levels = Mapping[str, Columns]
type Slopes = Mapping[tuple[str, str], Columns]


def sections(subject: Subject, levels: Levels, slopes: Slopes, cells: Columns | None) -> list[Section]:
    """Every section that has something to say."""
    made = [
        _answer(subject),
        _changes(subject),
        _groups(subject, levels),
        _shrinkage(subject, levels),
        _predictors(subject),
        _slopes(subject, slopes),
        _grid(subject, cells),
        _variance(subject),
        _pooling(subject),
        predictive_section(subject),
        quality_section(subject),
        priors_section(subject),
        diagnostics_section(subject),
        _model(subject),
        _reproduce(subject),
    ]
    return [section for section in made if _says_something(section)]


def contents(subject: Subject) -> tuple[list[Section], dict[str, Columns]]:
    """The sections, and the data sets that their charts and long tables pick rows of, by name."""
    levels = level_datasets(subject)
    slopes = {key: slope_values(subject, columns) for key, columns in slope_datasets(subject).items()}
    cells = cell_dataset(subject)
    datasets: dict[str, Columns] = {f"levels/{factor}": columns for factor, columns in levels.items()}
    datasets |= {f"slopes/{factor}/{term}": columns for (factor, term), columns in slopes.items()}
    if cells is not None:
        datasets["cells"] = cells
    return sections(subject, levels, slopes, cells), datasets


def _says_something(section: Section) -> bool:
    shown = (section.findings, section.facts, section.figures, section.big_tables, section.tables, section.mathematics, section.code)
    return any(shown) or (bool(section.paragraphs) and section.id == "changes")


def _answer(subject: Subject) -> Section:
    values = checks(subject)
    names = {
        "n_line_items": "line items",
        "n_cells": "cells",
        "compression_ratio": "line items per cell",
        "n_excluded": "excluded by the study",
        "n_quarantined": "quarantined",
    }
    facts = [Fact(words, number(values[name], 4)) for name, words in names.items() if values.get(name) is not None]
    facts += [Fact(f"levels of {subject.factor_words(factor)}", f"{n:,}") for factor, n in _level_counts(subject).items()]
    return Section("answer", "The answer", facts=tuple(facts), findings=tuple(answer(subject)))


def _changes(subject: Subject) -> Section:
    found = changes(subject)
    if found is None:
        return Section("changes", "What changed since last time", ("This is the first version: there is nothing to compare it with.",))
    paragraph = f"{first_sentence(found)} Since {found.since}: {counted(found)} New groups: {len(found.new):,}; gone: {len(found.gone):,}."
    are_split = any(move.parts is not None for move in found.moves)
    rows = tuple(
        Row(
            (
                Cell(move.level),
                Cell(subject.factor_words(move.factor)),
                Cell(subject.outcome(move.before), move.before),
                Cell(subject.outcome(move.after), move.after),
                Cell(amount(move, move.change), move.change),
                *(Cell(text, value) for text, value in part_amounts(move) if are_split),
                Cell(probability_words(move.probability), move.probability),
            )
        )
        for move in found.moves
    )
    names = [("New", found.new), ("Gone", found.gone)]
    lists = tuple(
        f"{word}: {', '.join(map(str, levels[:20]))}{' and others' if len(levels) > 20 else ''}." for word, levels in names if levels
    )
    columns = ("group", "factor", "before", "now", "change", *(PARTS if are_split else ()), "probability")
    told = (SPLIT,) if are_split else ()
    table, trends = ShortTable("Groups that moved", columns, rows), tuple(trend_figures(subject))
    return Section(
        "changes", "What changed since last time", (paragraph, *told, *found.notes, *lists), figures=trends, tables=(table,) if rows else ()
    )


def _shrinkage(subject: Subject, levels: Levels) -> Section:
    """Step by step of the first groups, and of many groups a picture of all that pooling did."""
    figures = []
    for factor, columns in levels.items():
        if not subject.is_sampled(factor) and any(value is not None for value in columns["none"]):
            figures.append(steps_figure(subject, factor, columns))
            figures += [shrinkage_figure(subject, factor, columns)] if len(columns["level"]) > STEPS_LIMIT else []
    return Section("shrinkage", "What each step moved", steps_reading(subject, levels) if figures else (), figures=tuple(figures))


def _groups(subject: Subject, levels: Levels) -> Section:
    counts = _level_counts(subject)
    capped = [factor for factor in levels if counts[factor] > MOST_LEVELS]
    note = (
        (f"Of {', '.join(capped)} the page holds the {MOST_LEVELS:,} levels with most line items; the published tables hold them all.",)
        if capped
        else ()
    )
    tables = tuple(_level_table(subject, factor, columns) for factor, columns in levels.items())
    figures = tuple(caterpillar_figure(subject, factor, columns) for factor, columns in levels.items())
    return Section("groups", "The groups", note, figures=figures, big_tables=tables)


def _level_table(subject: Subject, factor: str, found: Columns) -> LongTable:
    parent = (LongColumn("parent", "inside", "text"),) if any(found["parent"]) else ()
    members, words = subject.members_of(factor), _heading(subject, factor)
    steps = [step for step in steps_of(subject, factor, found) if step.column != "estimate"]
    columns = (
        LongColumn("level", words, "text"),
        *parent,
        LongColumn("estimate", "estimate", "outcome"),
        LongColumn("lower", "from", "outcome"),
        LongColumn("upper", "to", "outcome"),
        *(() if members is None else (LongColumn("members", plural(members), "count"),)),
        *(LongColumn(step.column, step.title, "outcome") for step in steps),
        LongColumn("n", "line items", "count"),
        LongColumn("rank_lower", "rank from", "count"),
        LongColumn("rank_upper", "rank to", "count"),
    )
    return LongTable(f"All {subject.levels_words(factor)}", f"levels/{factor}", "levels", columns)


def _predictors(subject: Subject) -> Section:
    found = subject.report.get("contextual_effects")
    effects = [effect for effect in found if isinstance(effect, Mapping)] if isinstance(found, Sequence) else []
    rows = tuple(
        Row(
            (
                Cell(subject.column(str(effect["predictor"]))),
                Cell(subject.factor_words(str(effect["factor"]))),
                *(_summary_cell(effect[name]) for name in ("within", "between", "contextual")),
                number_cell(effect.get("pooled_slope")),
            ),
            "failed" if effect.get("changes_sign") else "",
        )
        for effect in effects
    )
    columns = ("predictor", "factor", "within", "between", "contextual (between − within)", "complete pooling")
    title = "The same predictor within groups and between them, on the link scale"
    text = "A predictor that is the same for a whole group can only be learned from as many cases as there are groups."
    tables = (ShortTable(title, columns, rows),) if rows else ()
    return Section("predictors", "Group-level predictors", paragraphs=(text,), figures=tuple(predictor_figures(subject)), tables=tables)


def _summary_cell(summary: Mapping[str, Any]) -> Cell:
    estimate, lower, upper = (_first(summary[name]) for name in ("estimate", "lower", "upper"))
    return Cell(f"{number(estimate)} ({number(lower)} to {number(upper)})", estimate)


def _first(value: Any) -> float | None:
    return value[0] if isinstance(value, list | tuple) else value


def _slopes(subject: Subject, slopes: Slopes) -> Section:
    population = _partial(subject)
    figures = tuple(slope_figure(subject, factor, term, columns, population.get(term)) for (factor, term), columns in slopes.items())
    tables = tuple(_slope_table(subject, factor, term, is_nested=any(columns["parent"])) for (factor, term), columns in slopes.items())
    return Section("slopes", "Effects that differ between groups", figures=figures, big_tables=tables)


def _heading(subject: Subject, factor: str) -> str:
    """A factor as a column's heading: of a nested one its own column, since the outer ones have a column beside it."""
    return subject.factor_words(factor).partition(" in ")[0]


def _slope_table(subject: Subject, factor: str, term: str, *, is_nested: bool) -> LongTable:
    heading = _heading(subject, factor)
    parent = (LongColumn("parent", "inside", "text"),) if is_nested else ()
    columns = (
        LongColumn("level", heading, "text"),
        *parent,
        LongColumn("estimate", "effect", "effect"),
        LongColumn("lower", "from", "effect"),
        LongColumn("upper", "to", "effect"),
        LongColumn("n", "line items", "count"),
        LongColumn("shrinkage", "shrinkage", "share"),
        LongColumn("above", "above average", "share"),
    )
    return LongTable(
        f"{sentence(effect_name(subject, term))} by {subject.factor_words(factor)}", f"slopes/{factor}/{term}", "slopes", columns
    )


def _grid(subject: Subject, cells: Columns | None) -> Section:
    if cells is None:
        return Section("combinations", "Customers × products")
    pair = subject.study.get("cells") or subject.report.get("cells") or ("customer group", "product group")
    names = tuple(subject.column(str(name)) for name in pair) if isinstance(pair, Sequence) else ("customer group", "product group")
    return Section("combinations", "Customers × products", figures=(grid_figure(subject, cells, (names[0], names[1])),))


def _variance(subject: Subject) -> Section:
    figure = variance_figure(subject)
    rows = tuple(
        Row(
            (
                Cell(subject.labels.factor(row["grouping_factor"])),
                Cell(" with ".join(subject.term(row[name]) for name in ("term", "other_term") if row[name] is not None)),
                Cell(row["quantity"]),
                *(number_cell(row[name]) for name in ("estimate", "lower", "upper", "pooling_factor", "r_squared", WITHOUT)),
            )
        )
        for row in sorted(subject.tables["variance_components"].to_pylist(), key=subject.order.component)
    )
    columns = ("factor", "term", "quantity", "estimate", "from", "to", "pooling factor", "R²", "without group-level predictors")
    table = ShortTable("Variance components, on the link scale", columns, rows)
    return Section(
        "variance",
        "Where the differences are",
        variance_sentences(subject),
        figures=(figure,) if figure else (),
        tables=(table,) if rows else (),
    )


def _pooling(subject: Subject) -> Section:
    figure = pooling_figure(subject)
    order = {"complete": 0, "none": 1, "partial": 2}
    found = sorted(
        subject.tables["population_coefficients"].to_pylist(),
        key=lambda row: (row["term"] not in INTERCEPTS, *subject.order.term(row["term"]), order[row["pooling"]]),
    )
    rows = tuple(
        Row(
            (
                Cell(subject.term(row["term"])),
                Cell(row["pooling"]),
                Cell(row["kind"].replace("_", "-")),
                *(number_cell(row[name]) for name in ("estimate", "std_error", "lower", "upper", "ess_bulk")),
                number_cell(row["r_hat"], 4),
            )
        )
        for row in found
    )
    columns = ("term", "pooling", "kind", "estimate", "std. error", "from", "to", "ESS", "R-hat")
    table = ShortTable("Population-level coefficients, on the link scale", columns, rows)
    return Section("pooling", "Complete, no and partial pooling", figures=(figure,) if figure else (), tables=(table,) if rows else ())


def _model(subject: Subject) -> Section:
    words = subject.report.get("words") or ()
    paragraphs = (words,) if isinstance(words, str) else tuple(str(word) for word in words) if isinstance(words, Sequence) else ()
    formula = subject.text("formula")
    code = (formula,) if formula else ()
    written = subject.report.get("mathematics")
    lines = tuple(written.get("mathml", ())) if isinstance(written, Mapping) else ()
    return Section("model", "The model", paragraphs, mathematics=lines, code=code)


def _reproduce(subject: Subject) -> Section:
    facts = [Fact("run", subject.constant("run_id"))]
    for name, words in {"version": "groupwise", "fingerprint": "source fingerprint", "seed": "seed"}.items():
        value = subject.report.get(name, subject.study.get(name))
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            facts.append(Fact(words, str(value)[:16]))
    if subject.study.get("standardise_to"):
        facts.append(Fact("weights", str(subject.report.get("weights_source", subject.study["standardise_to"]))))
    return Section("reproduce", "Reproduce this", facts=tuple(facts), code=reproducing(subject))


def slope_values(subject: Subject, columns: Columns) -> Columns:
    """A slope dataset with its coefficients as the page shows them."""
    shown: Columns = {
        name: [None if v is None else float(f"{effect(subject, float(str(v))):.5g}") for v in columns[name]]
        for name in ("estimate", "lower", "upper")
    }
    return {**columns, **shown}


def _partial(subject: Subject) -> dict[str, float]:
    rows = subject.tables["population_coefficients"].to_pylist()
    return {row["term"]: row["estimate"] for row in rows if row["pooling"] == "partial" and row["estimate"] is not None}


def _level_counts(subject: Subject) -> dict[str, int]:
    counts = subject.seen_estimates.group_by("grouping_factor").aggregate([("level", "count")]).to_pylist()
    found = {row["grouping_factor"]: row["level_count"] for row in counts}
    return {factor: found[factor] for factor in subject.factors}
