"""``groupwise report``: where the latest report is, and the index over all of them."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from groupwise.publishing.address import has_scheme
from groupwise.publishing.folder.repair import repair
from groupwise.publishing.folder.report_index import latest_report, write_index
from groupwise.publishing.layout import open_layout
from groupwise.study.study_file import load_study
from multilevel.errors import PublishError


def find_report(study_file: str, *, index: bool, show: bool) -> Path:
    """The study's latest report, or the index of its ``publish_to``; opened in a browser where ``show``.

    Raises PublishError where nothing has been published, or the place is no folder.
    """
    study = load_study(study_file)
    if has_scheme(study.publish_to):
        raise PublishError(f"{study.name}: reports in {study.publish_to} are in object storage; the manifest names the latest one.")
    layout = open_layout(study.publish_to, study.name)
    repair(layout)
    found = write_index(layout.root) if index and layout.root.is_dir() else latest_report(layout)
    if found is None:
        raise PublishError(f"{study.name}: no report in {layout.home}; run `groupwise estimate {study_file}` first.")
    if show:
        webbrowser.open(found.resolve().as_uri())
    return found
