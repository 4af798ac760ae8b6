"""Compare: a study's model and a smaller one, fitted by maximum likelihood to the same cells of the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from groupwise.pipeline.line_items import cells_of, read_line_items
from groupwise.study.study import Study
from multilevel.arrays import Integers
from multilevel.cells.cell_plan import MOST_OUTCOMES
from multilevel.cells.files import read_cells
from multilevel.cells.statistics import CellStatistics
from multilevel.checking.cross_validation import Score, difference, folds_of, joined, score, undetermined_without
from multilevel.checking.model_comparison import Comparison, check_comparable, compare, fit_by_likelihood, union
from multilevel.design.model import Design
from multilevel.errors import FitError, StudyError
from multilevel.families.registry import statistics_of
from multilevel.fit.container import Fit
from multilevel.formula.parse import parse_formula
from multilevel.formula.tree import Formula
from multilevel.study.designs import study_parts

type Progress = Callable[[str, float], None]
type Parts = tuple[Design, ...]

MOST_COUNTS = 5_000_000
"""Different (cell, count) pairs that are kept for the folds of a negative binomial model; a run keeps what leave-one-row-out needs."""


@dataclass(frozen=True)
class CrossValidation:
    """Scores of both models over the same folds of ``factor``; ``gain`` is full minus reduced, per row. ``passed_over`` : why factors that
    the formula has before it were not taken, a sentence each."""

    factor: str
    n_levels: int
    n_folds: int
    seed: int
    full: Score
    reduced: Score
    gain: float
    gain_error: float
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyComparison:
    """What ``groupwise compare`` tells; ``validation`` is None where none was asked for."""

    as_of: date
    n_rows: int
    n_cells: int
    comparison: Comparison
    validation: CrossValidation | None


def compare_study(
    study: Study,
    reduced_text: str | None,
    folder: Path,
    *,
    as_of: date | None = None,
    factor: str | None = None,
    n_folds: int = 10,
    seed: int,
    progress: Progress | None = None,
) -> StudyComparison:
    """Fit both models and score them.

    Parameters
    ----------
    reduced_text : the smaller model's formula; None: complete pooling, the study's without its group terms.
    folder : for the cells. factor : whose levels are held out; None: the first of the formula without whose folds the remaining rows still
        determine every coefficient.
    n_folds : 0 for no cross-validation. seed : of the folds and of further starts.

    Raises
    ------
    StudyError
        The formulas do not speak of the same rows; no such factor. FitError: a model cannot be fitted. DataError and SourceError as a run.
    """
    full = study.parsed_formula
    reduced = complete_pooling(full) if reduced_text is None else parse_formula(reduced_text)
    check_comparable(full, reduced)
    if study.quadrature_points > 1:
        raise StudyError(f"{study.name}: quadrature_points {study.quadrature_points}: models are compared by Laplace; --set it to 1.")
    tell = progress or (lambda step, share: None)
    items = read_line_items(study, as_of, folder, lambda step: tell(step, 0.0))
    relation, rows = items.relation, items.validated.study_sql
    tell("compressing to cells", 0.1)
    most = MOST_COUNTS if statistics_of(study.family).distinct_outcomes == "kept" else MOST_OUTCOMES
    compressed = cells_of(study, relation, rows, folder, formula=union(full, reduced), most_outcomes=most)
    cells = read_cells(compressed.cells_path, compressed.spec_path)
    models = (parts_of(full, cells), parts_of(reduced, cells))
    # before anything is fitted
    held_out = None if n_folds == 0 else _held_out(models, factor, n_folds, seed)
    fits = []
    for share, name, parts in ((0.2, "the study's model", models[0]), (0.3, "the reduced model", models[1])):
        tell(f"fitting {name}", share)
        fits.append([fit_by_likelihood(design, seed) for design in parts])
    found = compare(full, reduced, (fits[0], fits[1]))
    validation = None if held_out is None else _validate(models, fits, held_out, seed, tell)
    return StudyComparison(relation.as_of, cells.n_rows, cells.n_cells, found, validation)


def parts_of(formula: Formula, cells: CellStatistics) -> tuple[Design, ...]:
    """A model's designs: one, or of a hurdle whether there is an amount (all rows), then how much."""
    return tuple(part.design for part in study_parts(formula, cells))


def complete_pooling(formula: Formula) -> Formula:
    """The formula without its group terms."""
    return replace(formula, text="complete pooling, the formula without its group terms", groups=())


@dataclass(frozen=True)
class _HeldOut:
    """Whose levels are held out, the fold (L,) of each, and why other factors are not."""

    factor: str
    fold: Integers
    passed_over: tuple[str, ...]

    def cell_folds(self, parts: Parts) -> list[Integers]:
        """Per part (C,) the fold that each cell is held out in."""
        return [self.fold[next(block.factor.codes for block in part.blocks if block.factor.name == self.factor)] for part in parts]


def _held_out(models: tuple[Parts, Parts], factor: str | None, n_folds: int, seed: int) -> _HeldOut:
    factors = {block.factor.name: block.factor for block in models[0][0].blocks}
    if factor is not None and factor not in factors:
        raise StudyError(f"--factor {factor}: the formula's grouping factors are {', '.join(factors)}.")
    passed_over: list[str] = []
    for name in factors if factor is None else [factor]:
        found = _HeldOut(name, folds_of(factors[name].n_levels, n_folds, seed), tuple(passed_over))
        n = int(found.fold.max()) + 1
        codes = found.cell_folds(models[0])
        lacking = (undetermined_without(part, own, n) for parts in models for part, own in zip(parts, codes, strict=True))
        who = next((each for each in lacking if each is not None), None)
        if who is None:
            return found
        passed_over.append(f"Levels of {name} are not left out: without some of them the remaining rows do not determine {who}.")
    raise FitError(f"{' '.join(passed_over)} Take more folds, another factor (--factor), or --folds 0 for AIC and BIC alone.")


def _validate(models: tuple[Parts, Parts], fits: Sequence[Sequence[Fit]], held_out: _HeldOut, seed: int, tell: Progress) -> CrossValidation:
    count = int(held_out.fold.max()) + 1
    codes = held_out.cell_folds(models[0])
    done, of = 0, 2 * count * len(codes)

    def step() -> None:
        nonlocal done
        done += 1
        tell(f"fold {done} of {of}", 0.4 + 0.6 * done / of)

    n_rows = models[0][0].cells.n_rows
    scores = []
    for parts, fitted in zip(models, fits, strict=True):
        of_parts = zip(parts, codes, fitted, strict=True)
        own = [score(part, code, seed, step, n_folds=count, near=fit) for part, code, fit in of_parts]
        scores.append(own[0] if len(own) == 1 else joined(own, parts, n_rows))
    gain, error = difference(scores[0], scores[1], n_rows)
    n_levels = len(held_out.fold)
    return CrossValidation(held_out.factor, n_levels, count, seed, scores[0], scores[1], gain, error, held_out.passed_over)
