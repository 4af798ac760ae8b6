"""What a study's fit is asked for, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, Literal

import pyarrow as pa

from multilevel.catalogue.table_assembly import Heading
from multilevel.design.nesting import Nesting
from multilevel.estimands.fitted_part import FittedPart
from multilevel.estimands.new_levels import NewLevel
from multilevel.fit.container import Check, Engine, Fit
from multilevel.linear.neighbour import Neighbour


@dataclass(frozen=True)
class ModelOptions:
    """How the model is fitted, and how its uncertainty is told.

    Attributes
    ----------
    engine : "bayesian" or "likelihood". method : likelihood only, "reml", "ml" or None (REML for gaussian, Laplace ML otherwise).
    interval : probability of the equal-tailed intervals.
    intervals : likelihood only, of coefficients and variance components: "wald", "profile", or "bootstrap" from ``bootstrap_samples``.
    quadrature_points : adaptive Gauss-Hermite points of the likelihood engine (1 is Laplace).
    priors : handed to the bayesian engine as they are; None for its defaults.
    seed : of every random number in the fit and the tables.
    near : likelihood only, by part, what the same study's search found on another day. This search starts there; its result is its own.
    """

    engine: Engine
    method: str | None = None
    interval: float = 0.95
    intervals: Literal["wald", "profile", "bootstrap"] = "wald"
    bootstrap_samples: int = 500
    quadrature_points: int = 1
    priors: object | None = None
    seed: int = 0
    near: Mapping[str, Neighbour] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishingOptions:
    """What the tables and the report are asked for, and how their rows are labelled.

    Attributes
    ----------
    study, as_of, run_id : written into every row.
    cells_pair : the two columns of ``cell_estimates``, or None for an empty table.
    predict_for : levels to estimate although unseen. sampled : columns whose levels are a sample of a larger population.
    draws : how many joint draws of every coefficient go into the table ``draws``; None for no such table.
    unit, currency : of the outcome, for the report.
    n_excluded, n_quarantined : line items left out before the cells were made, for ``diagnostics``.
    extra_checks : rows that earlier steps add to ``diagnostics``.
    """

    study: str
    as_of: date
    run_id: str
    cells_pair: tuple[str, str] | None = None
    predict_for: tuple[NewLevel, ...] = ()
    sampled: tuple[str, ...] = ()
    draws: int | None = None
    unit: str | None = None
    currency: str | None = None
    n_excluded: int = 0
    n_quarantined: int = 0
    extra_checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class FitOptions:
    """What to fit and how to publish it, in three parts; nothing here changes the cells.

    ``sampling`` is handed to the bayesian engine as it is; None for its defaults. ``progress`` is called with the
    current step and the fraction that is complete, 0 to 1.
    """

    model: ModelOptions
    publishing: PublishingOptions
    sampling: object | None = None
    progress: Callable[[str, float], None] | None = None

    @property
    def heading(self) -> Heading:
        """What every published row carries first."""
        return Heading(self.publishing.study, self.publishing.as_of, self.publishing.run_id, self.model.engine)


def fit_options(study: str, as_of: date, run_id: str, engine: Engine, **more: Any) -> FitOptions:
    """Options from one list, for programs; TypeError for a name that none of the three parts has."""
    of_model = {field.name for field in fields(ModelOptions)}
    own = {name: more.pop(name) for name in ("sampling", "progress") if name in more}
    model = ModelOptions(engine, **{name: value for name, value in more.items() if name in of_model})
    rest = {name: value for name, value in more.items() if name not in of_model}
    return FitOptions(model, PublishingOptions(study, as_of, run_id, **rest), **own)


@dataclass(frozen=True)
class StudyFit:
    """The tables by name, and what the report needs besides them (JSON-able). ``failed_gates`` name what must stop the run;
    ``parts`` are the partial-pooling fits themselves, for contrasts and predictions: one, or two of a two-part model; ``tree`` is the
    nesting of the grouping factors."""

    tables: Mapping[str, pa.Table]
    report: dict[str, object]
    failed_gates: tuple[Check, ...] = field(default=())
    parts: tuple[FittedPart, ...] = field(default=(), repr=False)
    tree: Nesting | None = field(default=None, repr=False)

    @property
    def fit(self) -> Fit | None:
        """The fit, where the model has one part."""
        return self.parts[0].fit if len(self.parts) == 1 else None


def failed_gates(checks: Sequence[Check]) -> tuple[Check, ...]:
    """The checks that must stop the run."""
    return tuple(check for check in checks if check.gate and not check.passed)
