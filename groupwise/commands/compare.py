"""``groupwise compare``: the study's model against a smaller one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from io import StringIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from groupwise.commands import terminal
from groupwise.commands.working_folder import working_folder
from groupwise.comparison import CrossValidation, StudyComparison, compare_study
from groupwise.pipeline.run_start import parse_settings
from groupwise.progress import fitting_progress
from groupwise.source.time_limit import HOUR, MORE_TIME, time_limit
from groupwise.study.study_file import load_study


def show_comparison(
    study_file: str,
    reduced: str | None,
    *,
    as_of: date | None,
    factor: str | None,
    folds: int,
    seed: int | None,
    settings: Sequence[str],
    seconds: float = HOUR,
    console: Console | None = None,
) -> StudyComparison:
    """Fit both, print the comparison; ``reduced`` None is complete pooling.

    Raises GroupwiseError where the two do not compare, or the queries take longer than ``seconds``.
    """
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
        f"Left out: levels of {found.factor} ({found.n_levels:,}, {how}); log predictive density per row, larger is better.",
        f"  full minus reduced: {found.gain:+.5f} (standard error between folds {found.gain_error:.5f})",
    ]
