"""Begin a run: read the study with its overrides, and make the run's working folder. Nothing has been read or spent before this passes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from groupwise.run_folder import make_run_folder, new_run_id
from groupwise.study.study import Study
from groupwise.study.study_file import load_study
from multilevel.errors import StudyError


def begin(
    study: str, *, engine: str | None, publish_to: str | None, settings: Sequence[str], run_id: str | None, force: bool = False
) -> str:
    """Path of the run's folder, holding ``study.json``; raises StudyError or PublishError where anything is wrong.

    ``force``: the run publishes although a version was made from the same inputs.
    """
    overrides = overrides_of(engine=engine, publish_to=publish_to, settings=settings)
    return begin_study(load_study(study, overrides), study, run_id, force=force, overrides=overrides)


def begin_study(study: Study, file: str, run_id: str | None, *, force: bool = False, **origin: object) -> str:
    """``begin`` of a study that has been read; ``file``: where from, or empty. ``origin``: as ``write_study``."""
    # pyarrow comes with it, which a command that only parses settings need not wait for
    from groupwise.publishing.target import open_target

    started_at = datetime.now(UTC)
    # a place that cannot be read or written is found out now, not after an hour of sampling
    open_target(study.publish_to, study.name).check()
    run = make_run_folder(run_id or new_run_id())
    run.write_study(study, file, **origin)
    run.write_json("start", {"started_at": started_at.isoformat(timespec="microseconds"), "force": force})
    return str(run.path)


def overrides_of(*, engine: str | None, publish_to: str | None, settings: Sequence[str]) -> dict[str, str]:
    """A run's overrides as ``load_study`` takes them; StudyError for a setting that is none."""
    overrides = parse_settings(settings)
    if engine is not None:
        overrides["engine"] = engine
    if publish_to is not None:
        overrides["publish_to"] = _as_yaml(publish_to)
    return overrides


def parse_settings(settings: Sequence[str]) -> dict[str, str]:
    """``FIELD=VALUE`` texts as a mapping; StudyError for one without ``=``."""
    pairs = {}
    for setting in settings:
        field, separator, value = setting.partition("=")
        if not separator or not field.strip():
            raise StudyError(f"--set {setting}: write FIELD=VALUE, such as --set interval=0.9 or --set sampling.draws=2000.")
        pairs[field.strip()] = value
    return pairs


def _as_yaml(text: str) -> str:
    import json

    return json.dumps(text)
