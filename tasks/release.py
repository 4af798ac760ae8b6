"""Release: the report, then the publication with its manifest, then a summary for Prefect's page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.publish import Publication, publish
from tasks.publish_layout import open_layout
from tasks.run_folder import RunFolder


def release(run: RunFolder) -> Publication:
    """Write ``report.html`` and publish the run's tables; raises PublishError, leaving what was published before."""
    from tasks.report import write_report

    study, relation = run.study(), run.relation()
    tables = run.read_tables()
    validation = run.read_json("validation")
    previous = _previous(study.publish_to, study.name)
    fields = {**study.model_dump(mode="json"), "file": run.read_json("origin").get("file", "")}
    write_report(tables, run.read_json("report"), validation, run.report, study=fields, previous_tables=previous)
    quarantine = validation.get("quarantine")
    return publish(
        tables,
        publish_to=study.publish_to,
        study=study.name,
        as_of=relation.as_of,
        run_id=run.run_id,
        provenance=_provenance(run, validation),
        report=run.report,
        validation_page=run.path / "validation.html",
        quarantine=None if quarantine is None else Path(quarantine),
        posterior=run.posterior if run.posterior.exists() else None,
        waiting=lambda message: print(message, file=sys.stderr, flush=True),
    )


def _previous(publish_to: str, study: str) -> Path | None:
    folder = open_layout(publish_to, study).latest_folder()
    return folder if folder is not None and folder.is_dir() else None


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
        },
        "rows": counts,
        "compression": run.read_json("compression"),
        "gates": run.read_json("gates"),
        "record": {key: value for key, value in run.read_json("expectation_record").items() if key != "results"},
    }


def summary(publication: Publication, run: RunFolder) -> str:
    """Markdown for the run's page: what was published, where, and every check that did not pass."""
    diagnostics = run.read_tables()["diagnostics"].to_pylist()
    failed = [row for row in diagnostics if not row["passed"]]
    manifest = json.loads(publication.manifest.read_text(encoding="utf-8"))
    lines = [
        f"# {run.study().title or run.study().name}",
        f"As of {manifest['as_of']}, run `{manifest['run_id']}`, {manifest['rows']['left']:,} line items.",
        "",
        *[f"- `{entry['table']}`: {entry['rows']:,} rows" for entry in manifest["files"]],
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
