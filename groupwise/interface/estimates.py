"""What a fit in memory and a published version have in common: tables as data frames, a summary, contrasts, predictions, comparisons."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from groupwise.interface.python_words import python_words
from groupwise.kept_models import SavedModels
from groupwise.predictions import Chosen, check_contrast, contrast_rows, interval_of
from groupwise.study.study import Study
from multilevel.errors import StudyError

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd
    import pyarrow as pa
    import xarray as xr

    from groupwise.interface.model_comparisons import ModelComparison
    from groupwise.interface.summaries import Summary


class Estimates(ABC):
    """Estimates of one study as of one day.

    Attributes
    ----------
    study : Study
        The study, every field with the value that it had.
    """

    study: Study

    @property
    @abstractmethod
    def arrow_tables(self) -> Mapping[str, pa.Table]:
        """The published tables by name, as Arrow tables; docs/tables.md describes every column."""

    @abstractmethod
    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the report, one HTML file that needs no network.

        Parameters
        ----------
        path : path
            The file to write; its folder is made.

        Returns
        -------
        Path
            The file.
        """

    @abstractmethod
    def to_arviz(self) -> xr.DataTree:
        """The posterior as ArviZ reads it.

        Returns
        -------
        DataTree
            Group ``posterior``, every variable by chain and draw, coordinates named by level; ``observed_data``, whose observations are
            cells (all rows alike in groups and predictors); ``log_likelihood`` of each cell, of discrete outcomes; ``sample_stats``.

        Raises
        ------
        StudyError, SourceError
            There is none.
        """

    @abstractmethod
    def _facts(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """What the report knows besides the tables, of the fit and of the checks of its rows; empty where it was not kept."""

    @abstractmethod
    def _saved(self) -> AbstractContextManager[SavedModels]:
        """The joint distribution of the coefficients, to be read within; raises SourceError where none is kept."""

    @property
    def as_of(self) -> date:
        """The day that the estimates speak for."""
        found: date = self.arrow_tables["diagnostics"].column("as_of")[0].as_py()
        return found

    @property
    def run_id(self) -> str:
        """The id of the run, as every row of the tables has it."""
        return str(self.arrow_tables["diagnostics"].column("run_id")[0])

    @property
    def population_coefficients(self) -> pd.DataFrame:
        """Population-level coefficients under complete, no and partial pooling; one row per term and pooling."""
        return self._frame("population_coefficients")

    @property
    def variance_components(self) -> pd.DataFrame:
        """Standard deviations and correlations of the group-level effects, and the residual or dispersion."""
        return self._frame("variance_components")

    @property
    def group_coefficients(self) -> pd.DataFrame:
        """The coefficients of every level of every grouping factor; one row per level and term."""
        return self._frame("group_coefficients")

    @property
    def group_estimates(self) -> pd.DataFrame:
        """The expected outcome of every level, beside no and complete pooling; one row per level."""
        return self._frame("group_estimates")

    @property
    def cell_estimates(self) -> pd.DataFrame:
        """The expected outcome of every combination of the two columns of ``cells``; no rows without ``cells``."""
        return self._frame("cell_estimates")

    @property
    def diagnostics(self) -> pd.DataFrame:
        """What was checked: data, computation, fit, interpretation; one row per check."""
        return self._frame("diagnostics")

    @property
    def draws(self) -> pd.DataFrame:
        """Joint draws of the coefficients.

        Raises
        ------
        StudyError
            The study asks for none: write ``draws={"rows": 1000}``.
        """
        if "draws" not in self.arrow_tables:
            raise StudyError(f"{self.study.name}: no draws were kept; fit with draws={{'rows': 1000}}.")
        return self._frame("draws")

    @property
    def charts(self) -> dict[str, alt.TopLevelMixin]:
        """The report's charts by their id on its page, in its order: ranked groups, what pooling did, slopes, variances, checks.

        Each is an Altair chart with its rows, so that it can be shown, changed and saved by itself. Of a published version those charts are
        missing whose numbers are in no table (predictive checks, group-level predictors).

        Examples
        --------
        >>> fit.charts["caterpillar-subject"].save("subjects.svg")
        """
        from groupwise.report.part_labels import told_apart
        from groupwise.report.single_charts import single_charts
        from groupwise.report.subject import Subject, read_tables

        report, validation = self._facts()
        fields = self.study.model_dump(mode="json")
        return single_charts(Subject(told_apart(read_tables(self.arrow_tables)), fields, report, validation).with_labels())

    def summary(self) -> Summary:
        """The fit at a glance, as users of lme4 and brms know it.

        Returns
        -------
        Summary
            Prints as text; ``random_effects``, ``correlations``, ``fixed_effects`` and ``failed_checks`` are data frames.

        Examples
        --------
        >>> fit.summary().fixed_effects[["estimate", "std_error"]].round(2)
                   estimate  std_error
        term
        Intercept    251.41       6.82
        Days          10.47       1.55
        """
        from groupwise.interface.summaries import summarised

        return summarised(self.study, self.arrow_tables)

    @python_words("the contrast cannot be calculated")
    def contrast(
        self,
        *levels: object,
        factor: str | None = None,
        of: Literal["members", "population", "coefficient"] | None = None,
        within: object = None,
        top: int | None = None,
    ) -> pd.DataFrame:
        """Differences of groups, with the probability that each is above zero.

        Parameters
        ----------
        *levels : object
            Two levels of one grouping factor, or more; ``"parent:level"`` where a name alone is not unique.
        factor : str, optional
            The grouping factor, where several have all levels.
        of : {"members", "population", "coefficient"}, optional
            Of the groups as they are, of new members, or of coefficients on the link scale. Default: the headline of ``group_estimates``.
        within : object, optional
            In place of levels: all that lie inside this parent, at most 100.
        top : int, optional
            In place of levels: so many with the highest averages, anywhere or ``within`` a parent.

        Returns
        -------
        DataFrame
            One row per pair (per term of ``of="coefficient"``): ``difference`` is ``level_a`` minus ``level_b`` with ``std_error``,
            ``lower``, ``upper`` and ``probability`` (that it is above zero); ``ratio`` with its bounds where the outcome is positive.
            Intervals of more than one pair hold for all at once (``is_simultaneous``).

        Raises
        ------
        StudyError
            A level is not there, or is in several factors. SourceError: no joint distribution is kept.

        Examples
        --------
        >>> fit.contrast(308, 309)[["difference", "std_error", "probability"]].round(1)
           difference  std_error  probability
        0       122.8       11.4          1.0
        """
        import pandas as pd

        parent = None if within is None else _label(within)
        asked = Chosen(tuple(_label(level) for level in levels), factor, of, parent, top)
        check_contrast(asked)
        with self._saved() as saved:
            return pd.DataFrame(contrast_rows(self.study, saved, asked))

    @python_words("the rows cannot be predicted")
    def predict(self, data: object, *, interval: float | str | None = None) -> pd.DataFrame:
        """The expected outcome at every row of a table.

        Parameters
        ----------
        data : table or path
            What ``fit`` takes, with the formula's predictors and grouping columns. A grouping column that is null, or a level never seen,
            is a new group: its effect is integrated over its distribution.
        interval : float or str, optional
            Probability of the intervals. ``"next"``, or ``"next:0.9"``: of the next outcome and not of its expectation, with its standard
            deviation for ``std_error``; of ``p(successes, trials)`` a share of the row's trials. Default: the study's.

        Returns
        -------
        DataFrame
            The rows in their order (of a pandas frame with its index), and ``estimate``, ``std_error``, ``lower``, ``upper``, ``is_new``.

        Raises
        ------
        SourceError
            The table lacks a column. DataError: a row cannot be predicted; the message names the column and the row.

        Examples
        --------
        >>> fit.predict({"Days": [0, 9], "Subject": ["308", None]})[["estimate", "is_new"]].round(1)
           estimate  is_new
        0     253.7   False
        1     345.6    True
        """
        interval_of(interval)
        from groupwise.interface.prediction_frames import predicted

        with self._saved() as saved:
            return predicted(self.study, saved, data, interval)

    @python_words("the models cannot be compared")
    def compare(
        self, reduced: str | Estimates | None = None, *, factor: str | None = None, folds: int = 10, seed: int | None = None
    ) -> ModelComparison:
        """This model and a smaller one, both fitted by maximum likelihood to the same rows.

        Parameters
        ----------
        reduced : str or Estimates, optional
            The smaller model's formula, or a fit of it. Default: complete pooling, the formula without its group terms.
        factor : str, optional
            Whose levels are held out in turn. Default: the first of the formula.
        folds : int
            Folds of the cross-validation over groups; 0 for none.
        seed : int, optional
            Of the folds. Default: the study's.

        Returns
        -------
        ModelComparison
            Prints as text; ``criteria`` is a data frame (parameters, log-likelihood, AIC, BIC, left-out score), ``test`` the
            likelihood-ratio test, ``gain`` the difference of the left-out scores.

        Raises
        ------
        StudyError
            The formulas do not speak of the same rows. SourceError: the rows are no longer there.

        Examples
        --------
        >>> round(fit.compare("Reaction ~ 1 + Days + (1 | Subject)", folds=0).test["chi2"], 2)
        42.14
        """
        from groupwise.interface.model_comparisons import compared

        formula = reduced.study.formula if isinstance(reduced, Estimates) else reduced
        return compared(self.study, formula, self.as_of, factor, folds, self.study.seed if seed is None else seed)

    def _frame(self, name: str) -> pd.DataFrame:
        frame: pd.DataFrame = self.arrow_tables[name].to_pandas()
        return frame

    def __repr__(self) -> str:
        return f"<groupwise {type(self).__name__} of {self.study.name}: {self.study.formula}, {self.study.family}, {self.study.engine}>"


def _label(level: object) -> str:
    """A level as the tables name it."""
    return str(level).lower() if isinstance(level, bool) else str(level)
