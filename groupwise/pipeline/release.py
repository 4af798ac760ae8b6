"""Release: the report, then the publication with its manifest, then a summary for Prefect's page."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from groupwise.pipeline.receipt import write_receipt
from groupwise.printable import markdown_text
from groupwise.publishing.folder.report_index import write_index
from groupwise.publishing.pointer import moment_of
from groupwise.publishing.publication import Confirm, Publication, nobody_asks
from groupwise.publishing.stage import Attachments
from groupwise.publishing.target import LocalFolder, Target, open_target
from groupwise.publishing.version import Version
from groupwise.run_folder import RunFolder
from multilevel.errors import PublishError

MOST_EARLIER = 35
"""Earlier days in the report's charts of trends: with this one three years of months."""


def release(run: RunFolder, confirm: Confirm = nobody_asks) -> Publication:
    """Write ``report.html`` and publish the run's tables; raises PublishError, leaving what was published before.

    ``confirm`` is asked just before the version counts whether the run is still wanted.
    """
    from groupwise.report import write_report

    study, relation = run.study(), run.relation()
    tables = run.read_tables()
    validation = run.read_json("validation")
    target = open_target(study.publish_to, study.name)
    is_private = study.privacy is not None
    # an earlier version may name groups that this one suppresses, and quarantined rows are of single people
    previous, previous_cells, warning = (None, None, None) if is_private else _previous(target)
    cells = pq.read_table(run.average_cells) if run.average_cells.exists() else None
    fields = {**study.model_dump(mode="json"), "file": "", **run.read_json("origin")}
    write_report(
        tables,
        run.read_json("report"),
        validation,
        run.report,
        study=fields,
        previous_tables=previous,
        cells=cells,
        previous_cells=previous_cells,
        earlier=() if is_private else _earlier(target, relation.as_of),
    )
    quarantine = validation.get("quarantine")
    published = target.publish(
        tables,
        as_of=relation.as_of,
        run_id=run.run_id,
        provenance=_provenance(run, validation) | {"warnings": [] if warning is None else [warning]},
        # under privacy the report alone: quarantined rows, examples, draws and joint distributions are of single groups
        attachments=Attachments(report=run.report)
        if is_private
        else Attachments(
            report=run.report,
            validation=run.path / "validation.html",
            quarantine=None if quarantine is None else Path(quarantine),
            joint_tables=run.joint if run.joint.exists() else None,
            posterior=run.posterior if run.posterior.exists() else None,
            average_cells=run.average_cells if run.average_cells.exists() else None,
        ),
        waiting=_tell,
        started_at=moment_of(run.read_json("start").get("started_at")),
        confirm=confirm,
    )
    if isinstance(target, LocalFolder):
        write_index(target.layout.root)
    write_receipt(run, target)
    if published.why_not_latest is not None:
        _tell(f"{study.name}: {published.why_not_latest}")
    return published


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _previous(target: Target) -> tuple[Mapping[str, pa.Table] | None, pa.Table | None, str | None]:
    """The tables of the version that the pointer names and the cells of its averages, to say what changed; None, and why, where they are
    damaged or gone."""
    latest = target.latest()
    if latest is None:
        return None, None, None
    try:
        return target.tables(latest), target.average_cells(latest), None
    except PublishError as error:
        warning = f"{error} The report of this run does not say what changed since run {latest.run_id}."
        _tell(warning)
        return None, None, warning


def _earlier(target: Target, as_of: date) -> list[pa.Table]:
    """``group_estimates`` of the versions of earlier days, oldest first: of each day the version published last. Without damaged ones."""
    last: dict[str, Version] = {}
    for version in target.versions():
        if date.fromisoformat(version.as_of) < as_of:
            last.setdefault(version.as_of, version)
    found = []
    for version in list(last.values())[:MOST_EARLIER]:
        try:
            found.append(target.tables(version)["group_estimates"])
        except PublishError as error:
            _tell(f"{error} The report's charts of trends leave it out.")
    return found[::-1]


def _provenance(run: RunFolder, validation: Mapping[str, Any]) -> dict[str, Any]:
    relation, study = run.relation(), run.study()
    counts = {name: validation.get(name) for name in ("rows", "quarantined", "duplicates", "excluded_where", "excluded_missing", "left")}
    return {
        "study_definition": study.model_dump(mode="json"),
        "source": {
            "database": relation.database,
            "kind": relation.kind,
            "files": relation.files,
            "window": [str(relation.start), str(relation.end)] if relation.start else None,
            "rows": relation.rows,
            "checksum": relation.checksum,
            "notes": relation.notes,
        },
        "inputs": run.read_json("inputs"),
        "rows": counts,
        "compression": run.read_json("compression"),
        "gates": run.read_json("gates"),
        "record": {key: value for key, value in run.read_json("expectation_record").items() if key != "results"},
    }


def summary(publication: Publication, run: RunFolder) -> str:
    """Markdown for the run's page: what was published, where, every check that did not pass; the study's words are text, not Markdown."""
    tables = run.read_tables()
    failed = [row for row in tables["diagnostics"].to_pylist() if not row["passed"]]
    lines = [
        f"# {markdown_text(run.study().title or run.study().name)}",
        f"As of {run.relation().as_of}, run `{run.run_id}`, {run.read_json('validation')['left']:,} line items.",
        "",
        *[f"- `{name}`: {table.num_rows:,} rows" for name, table in sorted(tables.items())],
        "",
        f"[Tables]({publication.folder.as_uri()})" + (f", [report]({publication.report.as_uri()})" if publication.report else ""),
        "",
        *(
            [
                "## Checks that did not pass",
                *[f"- **{markdown_text(row['check'])}**: {markdown_text(row['message'] or '')}" for row in failed],
            ]
            if failed
            else ["All checks passed."]
        ),
    ]
    if publication.why_not_latest is not None:
        lines.append(publication.why_not_latest)
    return "\n".join(lines)
