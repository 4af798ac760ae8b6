"""The extremes beside partial pooling: one fit without any group terms; by factor, one with its intercepts free and one with its terms as
fixed effects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from multilevel.design.effect_rows import terms_of
from multilevel.design.model import Design
from multilevel.design.nesting import Nesting
from multilevel.errors import FitError
from multilevel.fit.coefficients import Coefficients, coefficients_of
from multilevel.fit.container import Check, Fit, fact
from multilevel.pooling.extremes import NoPoolingFit, fit_complete, fit_no_pooling
from multilevel.pooling.free_intercepts import FreeIntercepts, Prepared, TermByTerm, coefficients_of_term, free_intercepts, free_term
from multilevel.study.options import FitOptions
from multilevel.threads import at_once


@dataclass(frozen=True)
class Pooling:
    """Complete pooling (None where it cannot be estimated), no pooling by factor, and the rows that both add to the tables.

    free : makes the fit with the factor's intercepts free, for averages. terms : by factor and term the coefficients with that term free.
    separate : all its terms free and the other factors' left out, for the common coefficients.
    """

    complete: Fit | None = None
    free: dict[str, Callable[[], FreeIntercepts]] = field(default_factory=dict)
    terms: dict[tuple[str, str], TermByTerm] = field(default_factory=dict)
    separate: dict[str, NoPoolingFit] = field(default_factory=dict)
    coefficients: list[Coefficients] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @property
    def without_levels(self) -> Pooling:
        """Without what the tables alone ask for, which is as large as the fit itself."""
        return replace(self, free={}, terms={})

    @property
    def separate_fits(self) -> dict[str, Fit]:
        """By factor, the fit with its terms free in each level."""
        return {name: entry.fit for name, entry in self.separate.items()}


def fit_pooling(design: Design, tree: Nesting, options: FitOptions, partial: Fit) -> Pooling:
    """Fit the extremes beside ``partial``; what cannot be estimated is left null and said in ``diagnostics``."""
    # the two tasks run at the same time, so each has a list of its own: checks keep their order
    of_complete, of_free, of_separate = list[Check](), list[Check](), list[Check]()
    complete = _complete(design, options, of_complete)
    free: dict[str, Callable[[], FreeIntercepts]] = {}
    terms: dict[tuple[str, str], TermByTerm] = {}
    separate: dict[str, NoPoolingFit] = {}

    def with_parts_free() -> None:
        if tree.factors:
            _add_parts_free(design, tree, partial, free, terms, of_free)

    def without_the_others() -> None:
        separate.update((name, fit) for name in tree.factors if (fit := _separate(design, name, options, of_separate)) is not None)

    at_once([with_parts_free, without_the_others])
    coefficients = [] if complete is None else [coefficients_of(complete, "complete")]
    finest = max(separate, key=lambda name: tree.factors[name].n_levels, default=None)
    if finest is not None and separate[finest].fit.design.population:
        coefficients.append(coefficients_of(separate[finest].fit, "none"))
    return Pooling(complete, free, terms, separate, coefficients, [*of_complete, *of_free, *of_separate])


def _add_parts_free(
    design: Design,
    tree: Nesting,
    partial: Fit,
    free: dict[str, Callable[[], FreeIntercepts]],
    terms: dict[tuple[str, str], TermByTerm],
    checks: list[Check],
) -> None:
    """Add each factor's free intercepts to ``free`` and its free terms to ``terms``; one factor's systems are released before the next
    one's are made."""
    prepared = Prepared.of(partial)
    for name in tree.factors:
        own = _free(partial, name, prepared, checks)
        if own is not None:
            free[name] = own.kept
        for term in terms_of(design, name):
            found = _term(partial, tree, name, term, own, prepared, checks)
            if found is not None:
                terms[name, term] = found
        del own


def _complete(design: Design, options: FitOptions, checks: list[Check]) -> Fit | None:
    try:
        return fit_complete(design, design.cells.family, options.model.interval)
    except FitError as error:
        checks.append(fact("complete_pooling", None, f"not estimable: {error}"))
        return None


def _free(partial: Fit, name: str, prepared: Prepared, checks: list[Check]) -> FreeIntercepts | None:
    try:
        found = free_intercepts(partial, name, prepared)
    except FitError as error:
        checks.append(fact(f"no_pooling_averages[{name}]", None, f"not estimable: {error}"))
        return None
    if found is None:
        message = f"{name} has no intercept of its own, so its levels have no average without pooling"
        checks.append(fact(f"no_pooling_averages[{name}]", None, message))
        return None
    missing = int((~found.determined).sum())
    if missing:
        message = f"{missing} of {len(found.determined)} levels of {name} have no average without pooling: no rows, or outcomes all alike"
        checks.append(fact(f"no_pooling_averages[{name}]", float(missing), message))
    return found


def _term(
    partial: Fit, tree: Nesting, name: str, term: str, free: FreeIntercepts | None, prepared: Prepared, checks: list[Check]
) -> TermByTerm | None:
    label = f"no_pooling_coefficients[{name}, {term}]"
    try:
        own = free if term == "Intercept" and free is not None else free_term(partial, name, term, prepared)
    except FitError as error:
        checks.append(fact(label, None, f"not estimable: {error}"))
        return None
    found = coefficients_of_term(own, partial, term, tree.lineage(name))
    missing = int(np.isnan(found.estimate).sum())
    if missing:
        message = f"{missing} of {len(found.estimate)} levels of {name} have no {term} of their own: no variation, or outcomes all alike"
        checks.append(fact(label, float(missing), message))
    return found


def _separate(design: Design, name: str, options: FitOptions, checks: list[Check]) -> NoPoolingFit | None:
    block = next(index for index, block in enumerate(design.blocks) if block.factor.name == name)
    try:
        found = fit_no_pooling(design, design.cells.family, block, options.model.interval)
    except FitError as error:
        checks.append(fact(f"no_pooling[{name}]", None, f"not estimable: {error}"))
        return None
    missing = int((~found.estimable.all(axis=1)).sum())
    message = f"{missing} of {len(found.estimable)} levels of {name} have no estimate of their own: too few line items, or separated"
    checks.append(fact(f"no_pooling_not_estimable[{name}]", float(missing), message))
    return found
