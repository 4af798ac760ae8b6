"""Which published version a folder, an address or a study means."""

from __future__ import annotations

from pathlib import Path

from groupwise.publishing.address import has_scheme
from groupwise.publishing.layout import STUDY_NAME
from groupwise.publishing.target import Target, open_target
from groupwise.publishing.version import Version, find_version
from groupwise.study.study import Study
from groupwise.study.study_file import load_study
from multilevel.errors import SourceError


def locate(place: str | Study, run_id: str | None = None) -> tuple[Target, Version]:
    """The publications of a study, and one version of them: the latest, that of ``run_id``, or the one whose folder is named.

    Parameters
    ----------
    place : a study or its YAML file; ``publish_to/<study>`` or the folder of a version below it, in a folder or in object storage.

    Raises
    ------
    SourceError : nothing is published there. PublishError : no such version, or what is there is damaged.
    """
    if isinstance(place, Study) or not (has_scheme(place) or Path(place).is_dir()):
        study = place if isinstance(place, Study) else _study_at(place)
        words = f"{study.name}: nothing is published in {study.publish_to} yet; run: groupwise estimate"
        words += " STUDY" if isinstance(place, Study) else f" {place}"
        return _version(open_target(study.publish_to, study.name), run_id, words)
    return _by_address(place, run_id) if has_scheme(place) else _by_folder(Path(place), run_id)


def _study_at(place: str) -> Study:
    """The study of a file; SourceError where the path leads nowhere and may as well have been meant for a folder."""
    if not Path(place).exists() and not place.lower().endswith((".yaml", ".yml")):
        raise SourceError(
            f"{place}: there is no such folder or file (working directory {Path.cwd()}); name publish_to/<study>, such as published/sales, "
            "or a study's YAML file."
        )
    return load_study(place)


def _version(target: Target, run_id: str | None, nothing: str) -> tuple[Target, Version]:
    if run_id is not None:
        return target, find_version(target.versions(), target.study, run_id)
    latest = target.latest()
    if latest is None:
        raise SourceError(nothing)
    return target, latest


def _by_folder(folder: Path, run_id: str | None) -> tuple[Target, Version]:
    """``publish_to/<study>``, its latest version, or ``.../versions/dt=.../rev=<run_id>`` (or ``current``)."""
    nothing = f"{folder}: no published tables here; name a study file, publish_to/<study>, or .../rev=<run_id>."
    place = folder.resolve()
    if place.name.startswith("rev=") and place.parent.name.startswith("dt="):
        home = place.parents[2]
        as_of, own = place.parent.name.removeprefix("dt="), place.name.removeprefix("rev=")
        return open_target(str(home.parent), home.name), Version(as_of, own, "", folder, is_latest=False)
    if not STUDY_NAME.fullmatch(place.name):
        raise SourceError(nothing)
    return _version(open_target(str(place.parent), place.name), run_id, nothing)


def _by_address(address: str, run_id: str | None) -> tuple[Target, Version]:
    """``s3://.../<study>``, its latest version, or ``s3://.../<study>/versions/dt=.../rev=<run_id>``."""
    nothing = f"{address}: no published version here; name s3://.../<study>, or a folder .../rev=<run_id> below it."
    home, _, inside = address.rstrip("/").partition("/versions/")
    root, _, study = home.rpartition("/")
    target = open_target(root, study)
    if not inside:
        return _version(target, run_id, nothing)
    found = next((known for known in target.versions() if str(known.folder) == address.rstrip("/")), None)
    if found is None:
        raise SourceError(nothing)
    return target, found
