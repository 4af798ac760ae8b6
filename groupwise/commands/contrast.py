"""``groupwise contrast``: differences of the groups of a published version."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from groupwise.commands import terminal
from groupwise.commands.plain_rows import check_style, write_rows
from groupwise.kept_models import SavedModels, reading_saved
from groupwise.predictions import Chosen, average_row, check_contrast, coefficient_row, contrast_averages, contrast_levels
from groupwise.study.study import Study
from groupwise.study.study_file import load_study
from groupwise.study.study_labels import Labels
from multilevel.estimands.response import response_for

if TYPE_CHECKING:
    from multilevel.prediction.average_contrast import AverageContrast, Choice
    from multilevel.prediction.coefficient_contrast import LevelContrast

SURE = 0.999
WHOSE = {"members": "both with the members that they have", "population": "for a new member of each"}


def show_contrast(study_file: str, asked: Chosen, *, style: str, run_id: str | None) -> None:
    """Print the differences; raises StudyError for a level that is not there, SourceError where nothing is saved."""
    check_style(style)
    check_contrast(asked)
    study = load_study(study_file)
    with reading_saved(study, run_id) as saved:
        levels = asked.among(saved)
        if asked.of == "coefficient":
            _show_coefficients(study, saved, contrast_levels(saved, levels[0], levels[1], asked.factor), style)
        else:
            pairs, chosen, kind = contrast_averages(saved, levels, asked.factor, asked.of)
            _show_averages(study, saved, pairs, chosen, kind, style)


def _show_averages(study: Study, saved: SavedModels, pairs: list[AverageContrast], chosen: list[Choice], of: str, style: str) -> None:
    if style != "table":
        found = [average_row(each, of, study) for each in pairs]
        write_rows(found, list(found[0]), style)
        return
    factor, labels = pairs[0].grouping_factor, study.words
    pairs = [replace(each, level_a=_called(labels, factor, each.level_a), level_b=_called(labels, factor, each.level_b)) for each in pairs]
    chosen = [replace(each, level=_called(labels, factor, each.level)) for each in chosen]
    console, share = terminal.console(), f"{100 * study.interval:g} %"
    unit = study.unit or (labels.column(study.outcome) if study.outcome is not None else "the outcome's unit")
    console.print(f"[bold]{escape(labels.factor(factor))}[/bold], {escape(unit)}, {_named(saved)}", soft_wrap=True)
    has_ratios = any(each.ratio for each in pairs)
    columns = ["level", "minus", "difference", "std error", share, "P(above 0)", *(["ratio", f"ratio, {share}"] if has_ratios else [])]
    rows = [[each.level_a, each.level_b, *_numbers(each.difference, each), *(_ratio(each.ratio) if has_ratios else [])] for each in pairs]
    console.print(terminal.table(columns, rows, text=("level", "minus")))
    if pairs[0].is_simultaneous:
        console.print(f"The {share} intervals of the differences hold for all {len(pairs)} pairs at once; those of ratios each by itself.")
    for each in pairs if len(pairs) == 1 else ():
        console.print(_average_sentence(each, of), soft_wrap=True, markup=False)
    if chosen:
        console.print(_choices(chosen))
        console.print("P(highest) and the loss expected of choosing a level are over the levels named here.")


def _called(labels: Labels, factor: str, level: str) -> str:
    """A level as it was asked for, under its label."""
    parent, _, own = level.rpartition(":")
    named = str(labels.level_of(factor, own))
    return f"{parent}:{named}" if parent and named != own else str(labels.level_of(factor, level))


def _average_sentence(each: AverageContrast, of: str) -> str:
    if each.probability is None:
        return f"{each.level_a} and {each.level_b} are the same."
    text = f"{_likelier(each.level_a, each.level_b, each.probability)}; {WHOSE[of]}, as the tables have them"
    if each.ratio is None:
        return text + "."
    return text + f", the one in {each.level_a} {each.ratio[0]:,.3g} times that in {each.level_b}."


def _choices(chosen: list[Choice]) -> Table:
    ranked = sorted(chosen, key=lambda each: each.expected_loss)
    rows = [[each.level, f"{each.estimate:,.4g}", f"{each.probability_best:.3f}", f"{each.expected_loss:,.3g}"] for each in ranked]
    return terminal.table(["level", "estimate", "P(highest)", "expected loss"], rows, text=("level",))


def _show_coefficients(study: Study, saved: SavedModels, found: list[LevelContrast], style: str) -> None:
    if style != "table":
        rows = [coefficient_row(each, study) for each in found]
        write_rows(rows, list(rows[0]), style)
        return
    factor, labels = found[0].grouping_factor, study.words
    called: dict[str, Any] = {"level_a": _called(labels, factor, found[0].level_a), "level_b": _called(labels, factor, found[0].level_b)}
    found = [replace(each, **called, term=labels.term(each.term)) for each in found]
    console, first = terminal.console(), found[0]
    console.print(
        f"[bold]{escape(f'{labels.factor(factor)}: {first.level_a} minus {first.level_b}')}[/bold], {_named(saved)}", soft_wrap=True
    )
    console.print(_differences(found, study.interval))
    for each in found:
        console.print(_sentence(each, saved), soft_wrap=True, markup=False)


def _named(saved: SavedModels) -> str:
    return f"as of {saved.version.as_of}, run {saved.version.run_id}"


def _differences(found: list[LevelContrast], interval: float) -> Table:
    share = f"{100 * interval:g} %"
    has_parts, has_ratios = found[0].part is not None, any(each.ratio for each in found)
    columns = [*(["part"] if has_parts else []), "term", "difference", "std error", share, "P(above 0)"]
    columns += ["ratio", f"ratio, {share}"] if has_ratios else []
    rows = [
        [*([str(each.part)] if has_parts else []), each.term, *_numbers(each.estimate, each), *(_ratio(each.ratio) if has_ratios else [])]
        for each in found
    ]
    return terminal.table(columns, rows, text=("part", "term"))


def _numbers(difference: float, each: AverageContrast | LevelContrast) -> list[str]:
    probability = each.probability if hasattr(each, "probability") else each.probability_greater
    above = "" if probability is None else f"{probability:.3f}"
    return [f"{difference:,.3g}", f"{each.std_error:,.3g}", f"{each.lower:,.3g} to {each.upper:,.3g}", above]


def _ratio(ratio: tuple[float, float, float] | None) -> list[str]:
    return ["", ""] if ratio is None else [f"{ratio[0]:,.3g}", f"{ratio[1]:,.3g} to {ratio[2]:,.3g}"]


def _likelier(level_a: str, level_b: str, probability: float) -> str:
    first, second, likely = (level_a, level_b, probability) if probability >= 0.5 else (level_b, level_a, 1.0 - probability)
    sure = "over 99.9" if likely > SURE else f"{100 * likely:.1f}"
    return f"{first} is above {second} with probability {sure} %"


def _sentence(each: LevelContrast, saved: SavedModels) -> str:
    """The first thing to know of a difference of coefficients, in words."""
    model = next(model for model in saved.source.bare() if model.part == each.part)
    part = f"{each.part}: " if each.part else ""
    what = "level" if each.term == "Intercept" else f"effect of {each.term}"
    if each.probability_greater is None:
        return f"{part}{what}: the same in both."
    text = f"{part}{what}: {_likelier(each.level_a, each.level_b, each.probability_greater)}"
    if each.ratio is None:
        return text + "."
    kind = "odds" if response_for(model.family, model.log_outcome).is_logistic else "median" if model.log_outcome else "mean"
    verb, those = ("are", "those") if kind == "odds" else ("is", "that")
    return text + f"; the {kind} in {each.level_a} {verb} {each.ratio[0]:,.3g} times {those} in {each.level_b}."
