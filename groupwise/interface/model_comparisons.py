"""Two models of the same rows, as a data frame and as text."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from groupwise.comparison import StudyComparison, compare_study
from groupwise.study.study import Study

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class ModelComparison:
    """Two models fitted by maximum likelihood to the same rows; prints as text.

    Attributes
    ----------
    criteria : DataFrame
        Rows ``full`` and ``reduced``: ``formula``, ``parameters``, ``log_likelihood``, ``aic``, ``bic``, and ``left_out_per_row``, the log
        predictive density per row of groups left out.
    test : dict or None
        Likelihood-ratio test: ``chi2``, ``df``, ``p``, and ``n_variances`` tested, for which ``p`` is too large. None where the models are
        not nested.
    gain : tuple of float, or None
        Full minus reduced of ``left_out_per_row``, and its standard error between folds. None without folds.
    """

    criteria: pd.DataFrame
    test: dict[str, float] | None
    gain: tuple[float, float] | None
    _found: StudyComparison = field(repr=False)
    _is_pooling: bool = False

    def __str__(self) -> str:
        from groupwise.commands.compare import comparison_text

        return comparison_text(self._found, is_pooling=self._is_pooling)

    __repr__ = __str__


def compared(study: Study, reduced: str | None, as_of: date, factor: str | None, folds: int, seed: int) -> ModelComparison:
    """Both models on the study's rows; parameters and errors as of ``Estimates.compare``."""
    import pandas as pd

    with tempfile.TemporaryDirectory(prefix="groupwise-compare-") as folder:
        found = compare_study(study, reduced, Path(folder), as_of=as_of, factor=factor, n_folds=folds, seed=seed)
    models, validation = found.comparison, found.validation
    rows = [
        {
            "formula": each.formula,
            "parameters": each.n_parameters,
            "log_likelihood": each.log_likelihood,
            "aic": each.aic,
            "bic": each.bic,
            **({} if score is None else {"left_out_per_row": score.per_row}),
        }
        for each, score in (
            (models.full, None if validation is None else validation.full),
            (models.reduced, None if validation is None else validation.reduced),
        )
    ]
    test = models.test
    return ModelComparison(
        pd.DataFrame(rows, index=["full", "reduced"]),
        None if test is None else {"chi2": test.chi2, "df": test.df, "p": test.p, "n_variances": test.n_variances},
        None if validation is None else (validation.gain, validation.gain_error),
        found,
        reduced is None,
    )
