"""Posteriors of many levels without draws: the shop's households, and the price level that each household has in each category.

Run: ``python -m benchmarks posterior_points [seeds [model]]``; ``groupwise load-shop`` comes before. Each fit runs in a separate process,
so that processor time and peak memory are measured fit by fit. Rows are kept in ``.groupwise/benchmarks``, so that a model (1 or 2), or
REML of both (3), can be measured again by itself. Writes the table of docs/decisions/0015-importance-points.md.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks._calibration_page import markdown
from benchmarks._reliability_page import provenance, provenance_line, replace_block
from benchmarks.household_errors import PRICE_LEVELS
from groupwise.pipeline.line_items import cells_of
from groupwise.pipeline.run_start import begin
from groupwise.run_folder import RunFolder
from groupwise.source.describe import extract
from groupwise.validation.validate import validate
from multilevel.bayesian.bayesian_engine import fit_bayesian
from multilevel.cells.files import read_cells
from multilevel.formula.parse import parse_formula
from multilevel.linear.linear_engine import fit_linear
from multilevel.study.designs import study_parts

STUDY = "studies/line_spend.yaml"
PAGE = Path("docs/decisions/0015-importance-points.md")
SEEDS = 5

COLUMNS = (
    "model",
    "seed",
    "coefficients and effects",
    "points (counting)",
    "Pareto k",
    "worth, refined",
    "largest error of an estimate",
    "of a bound",
    "sd of households",
    "fit (s)",
    "fit (processor s)",
    "peak memory (GB)",
)


MODELS = (("line_spend without price levels of households", ""), ("line_spend", PRICE_LEVELS))
REML = len(MODELS) + 1
KEPT = Path(".groupwise") / "benchmarks"


def main(seeds: int = SEEDS, model: int = 0) -> None:
    """All fits, or those of one ``model``, and the page."""
    KEPT.mkdir(parents=True, exist_ok=True)
    told = provenance()
    with tempfile.TemporaryDirectory(prefix="groupwise-bench-") as place:
        cells = _compressed(Path(place))
        for at, (name, own) in enumerate(MODELS, 1):
            if model in (0, at):
                rows = [(name, str(seed), *_told(_measured(cells, own, seed))) for seed in range(seeds)]
                (KEPT / f"posterior-points-{at}.json").write_text(json.dumps({"rows": rows, **told}, indent=1), encoding="utf-8")
        if model in (0, REML):
            rows = [(name, "REML", *_told_of_reml(_measured(cells, own, "reml"))) for name, own in MODELS]
            (KEPT / f"posterior-points-{REML}.json").write_text(json.dumps({"rows": rows, **told}, indent=1), encoding="utf-8")
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(KEPT.glob("posterior-points-*.json"))]
    block = f"{markdown(COLUMNS, [row for each in found for row in each['rows']])}\n{provenance_line(found)}"
    print(block)
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), "posterior-points", block), encoding="utf-8")


def one_fit() -> None:
    """Print the figures of the fit that the command line names: folder of the cells, terms to add, seed or ``reml``."""
    cells, extra, seed = sys.argv[1:]
    print(json.dumps(figures(Path(cells), extra, None if seed == "reml" else int(seed))))


def figures(cells: Path, extra: str, seed: int | None) -> dict[str, Any]:
    """One fit of the study's formula, ``PRICE_LEVELS`` of it only where they are the ``extra`` term; by REML without a seed."""
    whole = json.loads((cells / "formula.json").read_text(encoding="utf-8"))
    if not whole.endswith(PRICE_LEVELS):
        raise SystemExit(f"{STUDY}: the formula does not end with {PRICE_LEVELS!r}, which this benchmark adds and leaves out")
    study_formula = whole.removesuffix(PRICE_LEVELS)
    design = study_parts(parse_formula(study_formula + extra), read_cells(cells / "cells.parquet", cells / "cells.json"))[0].design
    wall, processor = time.perf_counter(), time.process_time()
    fit = fit_linear(design) if seed is None else fit_bayesian(design, "gaussian", sampling={"form": "importance"}, seed=seed)
    checks = {check.check: check.value for check in fit.checks}
    household = next(c for c in fit.components if c.grouping_factor == "income_group:customer_id")
    return {
        "effects": len(fit.joint.mean),
        "points": fit.record.get("points"),
        "refined_ess": fit.record.get("refined_ess"),
        "sd": household.estimate,
        "sd_error": household.std_error,
        "seconds": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "gates": all(check.passed for check in fit.checks if check.gate),
        **{name: checks.get(name) for name in ("pareto_k", "importance_ess", "monte_carlo_error", "monte_carlo_error_of_bounds")},
    }


def _told(own: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{own['effects']:,}",
        f"{own['points']:,} ({own['importance_ess']:,.0f}){'' if own['gates'] else ', a gate failed'}",
        f"{own['pareto_k']:.2f}",
        f"{own['refined_ess']:,.0f}",
        f"{own['monte_carlo_error']:.3f} sd",
        f"{own['monte_carlo_error_of_bounds']:.3f} sd",
        f"{own['sd']:.4f} ({own['sd_error']:.4f})",
        f"{own['seconds']:.0f}",
        f"{own['processor']:.0f}",
        f"{own['memory']:.1f}",
    )


def _told_of_reml(own: dict[str, Any]) -> tuple[str, ...]:
    known = (f"{own['sd']:.4f}", f"{own['seconds']:.1f}", f"{own['processor']:.1f}", f"{own['memory']:.1f}")
    return (f"{own['effects']:,}", "", "", "", "", "", *known)


def _measured(cells: Path, extra: str, seed: int | str) -> dict[str, Any]:
    command = [sys.executable, "-c", "from benchmarks.posterior_points import one_fit; one_fit()", str(cells), extra, str(seed)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return found


def _compressed(place: Path) -> Path:
    """The study's cells, in the folder of a run."""
    run = RunFolder(Path(begin(STUDY, engine=None, publish_to=str(place), settings=[], run_id=f"bench-{datetime.now(UTC):%H%M%S}")))
    study = run.study()
    extract(study, None, run.path, today=datetime.now(UTC).date())
    validate(study, run.relation(), run.path)
    cells_of(study, run.relation(), run.read_json("validation")["study_sql"], run.path, with_units=True)
    (run.path / "formula.json").write_text(json.dumps(study.formula), encoding="utf-8")
    return run.path
