"""What a study's fit is asked for, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import pyarrow as pa

from multilevel.catalogue.table_assembly import Heading
from multilevel.estimands.fitted_part import FittedPart
from multilevel.estimands.new_levels import NewLevel
from multilevel.fit.container import Check, Engine, Fit


@dataclass(frozen=True)
class FitOptions:
    """What to fit and how to label it; nothing here changes the cells.

    Attributes
    ----------
    study, as_of, run_id : written into every row.
    engine : "bayesian" or "likelihood". method : likelihood only, "reml", "ml" or None (REML for gaussian, Laplace ML otherwise).
    interval : probability of the equal-tailed intervals.
    priors, sampling : handed to the bayesian engine as they are; None for its defaults.
    seed : of every random number in the fit and the tables.
    cells_pair : the two columns of ``cell_estimates``, or None for an empty table.
    predict_for : levels to estimate although unseen.
    unit, currency : of the outcome, for the report.
    quadrature_points : adaptive Gauss-Hermite points of the likelihood engine (1 is Laplace).
    n_excluded, n_quarantined : line items left out before the cells were made, for ``diagnostics``.
    extra_checks : rows that earlier steps add to ``diagnostics``.
    intervals : likelihood only, of coefficients and variance components: "wald", "profile", or "bootstrap" from ``bootstrap_samples``.
    draws : how many joint draws of every coefficient go into the table ``draws``; None for no such table.
    progress : called with a step's name and the share done, 0 to 1.
    """

    study: str
    as_of: date
    run_id: str
    engine: Engine
    method: str | None = None
    interval: float = 0.95
    priors: object | None = None
    sampling: object | None = None
    seed: int = 0
    cells_pair: tuple[str, str] | None = None
    predict_for: tuple[NewLevel, ...] = ()
    unit: str | None = None
    currency: str | None = None
    quadrature_points: int = 1
    n_excluded: int = 0
    n_quarantined: int = 0
    extra_checks: tuple[Check, ...] = ()
    draws: int | None = None
    intervals: Literal["wald", "profile", "bootstrap"] = "wald"
    bootstrap_samples: int = 500
    progress: Callable[[str, float], None] | None = None

    @property
    def heading(self) -> Heading:
        """What every published row carries first."""
        return Heading(self.study, self.as_of, self.run_id, self.engine)


@dataclass(frozen=True)
class StudyFit:
    """The tables by name, and what the report needs besides them (JSON-able). ``failed_gates`` name what must stop the run;
    ``parts`` are the partial-pooling fits themselves, for contrasts and predictions: one, or two of a two-part model."""

    tables: Mapping[str, pa.Table]
    report: dict[str, object]
    failed_gates: tuple[Check, ...] = field(default=())
    parts: tuple[FittedPart, ...] = field(default=(), repr=False)

    @property
    def fit(self) -> Fit | None:
        """The fit, where the model has one part."""
        return self.parts[0].fit if len(self.parts) == 1 else None


def failed_gates(checks: Sequence[Check]) -> tuple[Check, ...]:
    """The checks that must stop the run."""
    return tuple(check for check in checks if check.gate and not check.passed)
