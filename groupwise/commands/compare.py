"""``groupwise compare``: the study's model against a smaller one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from io import StringIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from groupwise.commands import terminal
from groupwise.commands.plain_rows import check_style, write_json, write_rows
from groupwise.commands.working_folder import working_folder
from groupwise.comparison import CrossValidation, StudyComparison, compare_study
from groupwise.pipeline.run_start import parse_settings
from groupwise.progress import fitting_progress
from groupwise.source.time_limit import HOUR, MORE_TIME, time_limit
from groupwise.study.study import Study
from groupwise.study.study_file import load_study

COMPLETE = "complete pooling: the study's formula without its group terms"


def show_comparison(
    study_file: str,
    reduced: str | None,
    *,
    as_of: date | None,
    factor: str | None,
    folds: int,
    seed: int | None,
    settings: Sequence[str],
    style: str = "table",
    seconds: float = HOUR,
    console: Console | None = None,
) -> StudyComparison:
    """Fit both, print the comparison; ``reduced`` None is complete pooling.

    Raises GroupwiseError where the two do not compare, or the queries take longer than ``seconds``.
    """
    check_style(style)
    study = load_study(study_file, parse_settings(settings))
    console = console or terminal.console()
    with (
        working_folder("compare") as folder,
        fitting_progress() as progress,
        time_limit(seconds, study.name, MORE_TIME),
    ):
        found = compare_study(
            study,
            reduced,
            folder,
            as_of=as_of,
            factor=factor,
            n_folds=folds,
            seed=study.seed if seed is None else seed,
            progress=progress,
        )
    if style != "table":
        _write(study, reduced, found, style)
        return found
    console.print(
        f"[bold]{escape(study.title or study.name)}[/bold]  as of {found.as_of}: {found.n_rows:,} rows in {found.n_cells:,} cells"
    )
    _print(console, found, is_pooling=reduced is None)
    return found


def comparison_text(found: StudyComparison, *, is_pooling: bool) -> str:
    """The comparison as text; ``is_pooling``: the reduced model is complete pooling."""
    with StringIO() as text:
        _print(terminal.text_console(text), found, is_pooling=is_pooling)
        return text.getvalue().rstrip()


def _print(console: Console, found: StudyComparison, *, is_pooling: bool) -> None:
    console.print(f"full:    {found.comparison.full.formula}", markup=False)
    console.print(f"reduced: {found.comparison.reduced.formula}", markup=False)
    console.print(_criteria(found))
    for line in (*_test(found), *([] if found.validation is None else _validation(found.validation))):
        console.print(line, markup=False)
    if is_pooling and found.validation is not None:
        console.print("  (No pooling says nothing of a group it has not seen, and so has no such score.)", markup=False)


def _write(study: Study, reduced: str | None, found: StudyComparison, style: str) -> None:
    """A row for each model; in JSON with the test and the cross-validation beside them."""
    scores = (None, None) if found.validation is None else (found.validation.full.per_row, found.validation.reduced.per_row)
    formulas = (study.formula, reduced or COMPLETE)
    rows = [
        {
            "model": name,
            "formula": formula,
            **{field: getattr(model, field) for field in ("n_parameters", "log_likelihood", "aic", "bic")},
            "left_out_per_row": score,
        }
        for name, formula, model, score in zip(
            ("full", "reduced"), formulas, (found.comparison.full, found.comparison.reduced), scores, strict=True
        )
    ]
    if style == "csv":
        write_rows(rows, list(rows[0]), style)
        return
    test, validation = found.comparison.test, found.validation
    content = {"study": study.name, "as_of": found.as_of, "n_rows": found.n_rows, "n_cells": found.n_cells, "models": rows}
    content["test"] = None if test is None else {name: getattr(test, name) for name in ("chi2", "df", "p", "n_variances")}
    names = ("factor", "n_levels", "n_folds", "seed", "gain", "gain_error", "passed_over")
    content["cross_validation"] = None if validation is None else {name: getattr(validation, name) for name in names}
    write_json(content)


def _criteria(found: StudyComparison) -> Table:
    models = (found.comparison.full, found.comparison.reduced)
    rows = [
        ["parameters", *(str(model.n_parameters) for model in models)],
        ["log-likelihood", *(f"{model.log_likelihood:,.3f}" for model in models)],
        ["AIC", *(f"{model.aic:,.3f}" for model in models)],
        ["BIC", *(f"{model.bic:,.3f}" for model in models)],
    ]
    if found.validation is not None:
        scores = (found.validation.full, found.validation.reduced)
        rows.append(["groups left out, per row", *(f"{score.per_row:,.5f}" for score in scores)])
    return terminal.table(("", "full", "reduced"), rows, title="Fitted by maximum likelihood to the same rows", text=("",))


def _test(found: StudyComparison) -> list[str]:
    test = found.comparison.test
    if test is None:
        return [
            "No likelihood-ratio test: the reduced model is not the full one with terms left out. Compare AIC, BIC and the left-out score."
        ]
    lines = [f"Likelihood-ratio test: chi-square {test.chi2:,.4f} with {test.df} df, p {_p(test.p)}"]
    if test.n_variances:
        half = f"; {test.p / 2:.4g} is right here" if test.df == test.n_variances == 1 else ""
        tested = "1 variance is" if test.n_variances == 1 else f"{test.n_variances} variances or correlations are"
        lines.append(
            f"  {tested} tested: zero lies on the boundary, so this p is too large{half} (Self and Liang 1987; Stram and Lee 1994)."
        )
    return lines


def _p(value: float) -> str:
    return f"= {value:.4g}" if value > 0 else "< 1e-300"


def _validation(found: CrossValidation) -> list[str]:
    how = "one left out at a time" if found.n_folds == found.n_levels else f"in {found.n_folds} folds, seed {found.seed}"
    return [
        *found.passed_over,
        f"Left out: levels of {found.factor} ({found.n_levels:,}, {how}); log predictive density per row, larger is better.",
        f"  full minus reduced: {found.gain:+.5f} (standard error between folds {found.gain_error:.5f})",
    ]
