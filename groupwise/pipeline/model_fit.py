"""Fit: from cells to the six tables, written into the run's folder. The statistics are ``multilevel``'s; this only hands them over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from groupwise.faults import told
from groupwise.run_folder import RunFolder
from groupwise.source.source_checks import source_checks
from groupwise.study.study import Study
from multilevel.errors import GateError

if TYPE_CHECKING:
    from multilevel.study.options import StudyFit

type StepProgress = Callable[[str, float], None]

VARIANCES = "variances"
"""JSON file in a run's folder: what the search for the variances found, by part."""

NEAR = "near"
"""The same of another day's run; this run's search starts there."""

WHOLE = ""
"""Name of the part of a one-part study."""


@told("the model cannot be fitted")
def fit(run: RunFolder, progress: StepProgress | None = None) -> StudyFit:
    """Fit the run's study on its cells; write ``tables/``, ``report.json``, ``gates.json`` and what is kept of a posterior."""
    from groupwise.compression.mix_query import mixed_cells
    from multilevel.cells.files import read_cells, read_units
    from multilevel.linear.neighbour import Neighbour
    from multilevel.machine import few_arenas
    from multilevel.study.fit_study import fit_study

    few_arenas()
    study, relation = run.study(), run.relation()
    files = run.path / "cells.parquet", run.path / "cells.json"
    cells, source = mixed_cells(study, read_cells(*files), run.path)
    unkept = _posterior_unkept(study)
    fitted = fit_study(
        study.parsed_formula,
        cells,
        _options(study, run, relation.as_of, progress, (source, *unkept, *source_checks(study, relation))),
        read_units(*files),
    )
    run.write_tables(dict(fitted.tables))
    if study.draws is not None and study.engine == "bayesian" and fitted.fit is not None and not unkept:
        from multilevel.prediction.posterior_file import write_posterior

        named = {"study": study.name, "as_of": str(relation.as_of), "run_id": run.run_id, "formula": study.formula, "family": study.family}
        write_posterior(fitted.fit, run.posterior, named)
    _keep(run, study, fitted)
    run.write_json(VARIANCES, {part.part or WHOLE: found.to_json() for part in fitted.parts if (found := Neighbour.of_fit(part.fit))})
    run.write_json("report", {**fitted.report, "weights_source": source.message})
    run.write_json("gates", {"failed": [{"check": gate.check, "message": gate.message} for gate in fitted.failed_gates]})
    return fitted


def _keep(run: RunFolder, study: Study, fitted: StudyFit) -> None:
    """Write the cells of the averages for ``diff``, and the joint distribution for contrasts and predictions; nothing under privacy, and
    of too many coefficients no joint distribution."""
    if study.privacy is not None:
        return
    from multilevel.cells.files import read_cells_spec
    from multilevel.estimands.fitted_part import expected_outcome
    from multilevel.prediction.average_cells import average_cells
    from multilevel.prediction.save_model import save_model
    from multilevel.prediction.saved_averages import saved_averages
    from multilevel.prediction.saved_cells import cells_table
    from multilevel.prediction.write_joint import write_joint
    from multilevel.threads import at_once

    moments = {label: (mean, sd) for label, (mean, sd) in read_cells_spec(run.path / "cells.json").moments.items()}
    fills = run.read_json("validation").get("filled_in", {})
    tree = fitted.tree
    if tree is None:
        return
    outcome, variance, table = expected_outcome(fitted.parts), fitted.parts[-1].variance, fitted.tables["group_estimates"]

    def keep_cells() -> None:
        cells = average_cells(outcome, tree, variance, table, study.sampled)
        pq.write_table(cells_table(cells), run.average_cells, compression="zstd")

    def keep_joint() -> None:
        models = [save_model(part, study.formula, moments=moments, fills=fills) for part in fitted.parts]
        kept = [model for model in models if model is not None]
        del models
        if len(kept) == len(fitted.parts):
            write_joint(kept, run.joint, saved_averages(outcome, tree, variance, kept, table, study.sampled))

    at_once([keep_joint, keep_cells])


def _posterior_unkept(study: Study) -> tuple[Any, ...]:
    """The check that tells why a posterior that the study asks for is not kept; empty where it is, or is not asked for."""
    if study.draws is None or study.engine != "bayesian":
        return ()
    from multilevel.prediction.posterior_file import unwritable

    check = unwritable()
    return () if check is None else (check,)


def _options(study: Study, run: RunFolder, as_of: Any, progress: StepProgress | None, extra_checks: tuple[Any, ...] = ()) -> Any:
    from multilevel.estimands.new_levels import NewLevel
    from multilevel.linear.neighbour import Neighbour
    from multilevel.study.options import FitOptions, ModelOptions, PublishingOptions

    validation = run.read_json("validation")
    model = ModelOptions(
        engine=study.engine,
        method=study.method,
        interval=study.interval,
        intervals=study.intervals,
        bootstrap_samples=study.bootstrap_samples,
        quadrature_points=study.quadrature_points,
        priors=study.priors,
        seed=study.seed,
        near={name: Neighbour.of_json(found) for name, found in run.read_json(NEAR).items()},
    )
    publishing = PublishingOptions(
        study=study.name,
        as_of=as_of,
        run_id=run.run_id,
        cells_pair=study.cells,
        predict_for=tuple(NewLevel(new.grouping_factor, new.level, new.parent_level) for new in study.predict_for),
        sampled=study.sampled,
        draws=None if study.draws is None else study.draws.rows,
        unit=study.unit,
        currency=study.currency,
        n_excluded=sum(validation.get(name, 0) for name in ("duplicates", "excluded_where", "excluded_missing")),
        n_quarantined=validation.get("quarantined", 0),
        extra_checks=extra_checks,
    )
    return FitOptions(model, publishing, study.sampler_settings, progress)


@told("the gates cannot be read")
def check(run: RunFolder) -> None:
    """Raise GateError, naming the parameter, if a computation gate failed: nothing of this run may be published."""
    failed = run.read_json("gates")["failed"]
    if failed:
        more = f" ({len(failed) - 1} more gates failed)" if len(failed) > 1 else ""
        study = run.study()
        kept = f"; the tables to look at are in {run.tables}." if study.privacy is None else "."
        raise GateError(f"{study.name}: {failed[0]['check']}: {failed[0]['message']}{more}. Nothing is published{kept}")
