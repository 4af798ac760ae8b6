"""Release: the report, then the publication with its manifest, then a summary for Prefect's page."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.publishing.publish import Publication
from tasks.publishing.report_index import write_index
from tasks.publishing.stage import Beside
from tasks.publishing.target import LocalFolder, Target, open_target
from tasks.run_folder import RunFolder


def release(run: RunFolder) -> Publication:
    """Write ``report.html`` and publish the run's tables; raises PublishError, leaving what was published before."""
    from tasks.report import write_report

    study, relation = run.study(), run.relation()
    tables = run.read_tables()
    validation = run.read_json("validation")
    target = open_target(study.publish_to, study.name)
    is_private = study.privacy is not None
    # an earlier version may name groups that this one withholds, and quarantined rows are of single people
    previous = None if is_private else _previous(target)
    fields = {**study.model_dump(mode="json"), "file": run.read_json("origin").get("file", "")}
    write_report(tables, run.read_json("report"), validation, run.report, study=fields, previous_tables=previous)
    quarantine = validation.get("quarantine")
    published = target.publish(
        tables,
        as_of=relation.as_of,
        run_id=run.run_id,
        provenance=_provenance(run, validation),
        # under privacy the report alone: quarantined rows, examples, draws and joint distributions are of single groups
        beside=Beside(report=run.report)
        if is_private
        else Beside(
            report=run.report,
            validation=run.path / "validation.html",
            quarantine=None if quarantine is None else Path(quarantine),
            joint=run.joint if run.joint.exists() else None,
            posterior=run.posterior if run.posterior.exists() else None,
        ),
        waiting=lambda message: print(message, file=sys.stderr, flush=True),
    )
    if isinstance(target, LocalFolder):
        write_index(target.layout.root)
    return published


def _previous(target: Target) -> Mapping[str, pa.Table] | Path | None:
    """The tables of the version that the pointer names; None before the first publication, and where its folder was removed by hand."""
    latest = target.latest()
    if latest is None:
        return None
    if isinstance(latest.folder, Path):
        return latest.folder if latest.folder.is_dir() else None
    return target.tables(latest)


def _provenance(run: RunFolder, validation: Mapping[str, Any]) -> dict[str, Any]:
    relation, study = run.relation(), run.study()
    counts = {name: validation.get(name) for name in ("rows", "quarantined", "excluded_where", "excluded_missing", "left")}
    return {
        "study_definition": study.model_dump(mode="json"),
        "source": {
            "database": relation.database,
            "parquet": relation.parquet,
            "window": [str(relation.start), str(relation.end)] if relation.start else None,
            "rows": relation.rows,
            "checksum": relation.checksum,
            "notes": relation.notes,
        },
        "rows": counts,
        "compression": run.read_json("compression"),
        "gates": run.read_json("gates"),
        "record": {key: value for key, value in run.read_json("expectation_record").items() if key != "results"},
    }


def summary(publication: Publication, run: RunFolder) -> str:
    """Markdown for the run's page: what was published, where, and every check that did not pass."""
    tables = run.read_tables()
    failed = [row for row in tables["diagnostics"].to_pylist() if not row["passed"]]
    lines = [
        f"# {run.study().title or run.study().name}",
        f"As of {run.relation().as_of}, run `{run.run_id}`, {run.read_json('validation')['left']:,} line items.",
        "",
        *[f"- `{name}`: {table.num_rows:,} rows" for name, table in sorted(tables.items())],
        "",
        f"[Tables]({publication.folder.as_uri()})" + (f", [report]({publication.report.as_uri()})" if publication.report else ""),
        "",
        *(
            ["## Checks that did not pass", *[f"- **{row['check']}**: {row['message']}" for row in failed]]
            if failed
            else ["All checks passed."]
        ),
    ]
    if not publication.is_latest:
        lines.append("A later version is the latest one: this run is a backfill.")
    return "\n".join(lines)
