"""``groupwise contrast`` and ``predict``: questions to the saved model of a published version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from rich.markup import escape
from rich.table import Table

from groupwise.commands import terminal
from groupwise.predictions import MADE, SavedModels, contrast_levels, predict_at, read_saved, write_predictions
from groupwise.study.study_file import load_study
from multilevel.errors import StudyError
from multilevel.estimands.response import response_for

if TYPE_CHECKING:
    from multilevel.prediction.contrast import LevelContrast

MOST_PRINTED = 40


def show_contrast(study_file: str, level_a: str, level_b: str, *, factor: str | None, run_id: str | None) -> None:
    """Print the difference of two levels; raises StudyError for a level that is not there, SourceError where nothing is saved."""
    study = load_study(study_file)
    saved = read_saved(study, run_id)
    found = contrast_levels(saved, level_a, level_b, factor)
    console = terminal.console()
    console.print(f"[bold]{escape(f'{found[0].grouping_factor}: {level_a} minus {level_b}')}[/bold], {_named(saved)}", soft_wrap=True)
    console.print(_differences(found, study.interval))
    for each in found:
        console.print(_sentence(each, saved), soft_wrap=True, markup=False)


def show_predictions(study_file: str, at: str, *, output: Path | None, interval: float | None, run_id: str | None) -> None:
    """Write or print the expected outcome at every row of a table."""
    if interval is not None and not 0.0 < interval < 1.0:
        raise StudyError(f"--interval {interval}: write a probability between 0 and 1, such as 0.9.")
    study = load_study(study_file)
    saved = read_saved(study, run_id)
    table = predict_at(study, saved, at, interval=interval)
    n_new = sum(bool(value) for value in table.column("is_new").to_pylist())
    console = terminal.console()
    told = f"{study.title or study.name}: {table.num_rows:,} rows, {n_new:,} with a group never seen, {_named(saved)}"
    if output is not None:
        write_predictions(table, output)
        console.print(told, soft_wrap=True, markup=False)
        print(output)
        return
    console.print(_predictions(table.slice(0, MOST_PRINTED)))
    more = f"; the first {MOST_PRINTED} are shown, all of them with --output FILE" if table.num_rows > MOST_PRINTED else ""
    console.print(told + more, soft_wrap=True, markup=False)


def _named(saved: SavedModels) -> str:
    return f"as of {saved.version.as_of}, run {saved.version.run_id}"


def _differences(found: list[LevelContrast], interval: float) -> Table:
    share = f"{100 * interval:g} %"
    has_parts, has_ratios = found[0].part is not None, any(each.ratio for each in found)
    columns = [*(["part"] if has_parts else []), "term", "difference", "std error", share, "P(above 0)"]
    columns += ["ratio", f"ratio, {share}"] if has_ratios else []
    rows = []
    for each in found:
        above = "" if each.probability_greater is None else f"{each.probability_greater:.3f}"
        ratio = ["", ""] if each.ratio is None else [f"{each.ratio[0]:,.3g}", f"{each.ratio[1]:,.3g} to {each.ratio[2]:,.3g}"]
        numbers = [f"{each.estimate:,.3g}", f"{each.std_error:,.3g}", f"{each.lower:,.3g} to {each.upper:,.3g}", above]
        rows.append([*([str(each.part)] if has_parts else []), each.term, *numbers, *(ratio if has_ratios else [])])
    return terminal.table(columns, rows, text=("part", "term"))


def _sentence(each: LevelContrast, saved: SavedModels) -> str:
    """The first thing to know of a difference, in words."""
    model = next(model for model in saved.models if model.part == each.part)
    part = f"{each.part}: " if each.part else ""
    what = "level" if each.term == "Intercept" else f"effect of {each.term}"
    if each.probability_greater is None:
        return f"{part}{what}: the same in both."
    if each.probability_greater >= 0.5:
        likelier, other, probability = each.level_a, each.level_b, each.probability_greater
    else:
        likelier, other, probability = each.level_b, each.level_a, 1.0 - each.probability_greater
    sure = "over 99.9" if probability > 0.999 else f"{100 * probability:.1f}"
    text = f"{part}{what}: {likelier} is above {other} with probability {sure} %"
    if each.ratio is None:
        return text + "."
    kind = "odds" if response_for(model.family, model.log_outcome).is_logistic else "median" if model.log_outcome else "mean"
    verb, those = ("are", "those") if kind == "odds" else ("is", "that")
    return text + f"; the {kind} in {each.level_a} {verb} {each.ratio[0]:,.3g} times {those} in {each.level_b}."


def _predictions(table: pa.Table) -> Table:
    own = [name for name in table.column_names if name not in MADE]
    rows = [[_cell(value) for value in row.values()] for row in table.to_pylist()]
    return terminal.table([name.replace("_", " ") if name in MADE else name for name in table.column_names], rows, text=own)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
