"""``groupwise rollback`` and ``prune``: the published versions of a study."""

from __future__ import annotations

from groupwise.publishing.target import Target, open_target
from groupwise.study.study_file import load_study


def target_of(study_file: str) -> Target:
    """Where the study publishes."""
    study = load_study(study_file)
    return open_target(study.publish_to, study.name)


def roll_back(study_file: str, run_id: str) -> str:
    """Point at the version of ``run_id``; returns a sentence."""
    target = target_of(study_file)
    version = target.rollback(run_id, print)
    return f"{target.study}: the latest version is now that of run {run_id} as of {version.as_of}; a later run publishes over it."


def prune_versions(study_file: str, keep: int) -> str:
    """Remove old versions; returns a sentence."""
    target = target_of(study_file)
    done = target.prune(keep, print)
    removed = ", ".join(version.run_id for version in done[:5]) + (", ..." if len(done) > 5 else "")
    return f"{target.study}: {len(target.versions()):,} versions kept, {len(done):,} removed" + (f" ({removed})." if removed else ".")
