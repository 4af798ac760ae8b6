"""``groupwise versions`` and ``list``: what is published of a study, and of every study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from groupwise.commands.history import target_of
from groupwise.commands.plain_rows import check_style, write_rows
from groupwise.publishing.target import open_target
from groupwise.study.study_file import load_study
from multilevel.errors import GroupwiseError, StudyError

VERSION = ("as_of", "run_id", "published_at", "is_latest", "folder")
STUDY = ("study", "title", "file", "versions", "as_of", "published_at", "problem")
USUAL = ("studies/*.yaml", "*.yaml")


def show_versions(study_file: str, style: str) -> None:
    """Every version of a study, the newest first."""
    check_style(style)
    found = target_of(study_file).versions()
    rows = [
        {
            "as_of": version.as_of,
            "run_id": version.run_id,
            "published_at": version.published_at,
            "is_latest": version.is_latest,
            "folder": str(version.folder),
        }
        for version in found
    ]
    write_rows(rows, VERSION, style, text=VERSION)


def list_studies(files: Sequence[str], style: str) -> None:
    """Every study file with what is published of it; a file that is no study has a row that says why.

    ``files``: study files; without any, those of ``studies/`` and of the working directory.
    """
    check_style(style)
    named = [Path(file) for file in files] or sorted({path for pattern in USUAL for path in Path().glob(pattern)})
    if not named:
        raise StudyError(f"there are no studies in {Path.cwd()} ({', '.join(USUAL)}); name files, or write one with groupwise init.")
    write_rows([_row(path) for path in named], STUDY, style, text=[name for name in STUDY if name != "versions"])


def _row(path: Path) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(STUDY) | {"file": str(path)}
    try:
        study = load_study(path)
        row |= {"study": study.name, "title": study.title}
        versions = open_target(study.publish_to, study.name).versions()
        latest = next((version for version in versions if version.is_latest), None)
        row["versions"] = len(versions)
        if latest is not None:
            row |= {"as_of": latest.as_of, "published_at": latest.published_at}
    except GroupwiseError as error:
        row["problem"] = str(error).split("\n", maxsplit=1)[0]
    return row
