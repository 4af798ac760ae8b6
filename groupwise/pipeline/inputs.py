"""What a run's tables follow from, as two keys: the same key means the same tables, so that nothing need be run again.

The key of the files is known before anything is opened: sizes, times and inodes. Where a file was touched or written again, the key of the
rows tells whether what the study reads of them is still the same. Where results go and what they may cost is part of neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import groupwise
import multilevel
from groupwise.compression.mix_query import mix_text, mix_words
from groupwise.source.declared_source import locate
from groupwise.source.relation import Relation
from groupwise.source.source_files import source_state
from groupwise.study.study import Study
from groupwise.validation.suite_file import suite_entries
from multilevel.catalogue.published_tables import CATALOGUE_VERSION
from sql import read_query

NO_INPUTS = frozenset({"publish_to", "resources", "runs", "statistics"})
"""Fields of a study that no number follows from."""
OWN_CODE = {"groupwise": groupwise.__file__, "multilevel": multilevel.__file__, "queries": read_query.__code__.co_filename}
"""A file of every folder that the numbers come from; in a wheel the queries have another parent."""
LIBRARIES = ("duckdb", "numpy", "scipy", "pyarrow", "great_expectations", "pymc", "nutpie")
"""What computes the numbers, besides our own code."""


def files_key(study: Study, as_of: date | None, today: date) -> str:
    """Key of the source's files as they are, and of the day as it was asked for.

    Raises
    ------
    SourceError, StudyError : a query, a suite or a file is not there.
    """
    mix = study.standardise_to
    source = locate(study)
    files = [source_state(source.database, source.files)]
    if mix is not None:
        files.append(source_state(mix.database, () if mix.parquet is None else (mix.parquet,)))
    wanted = as_of if as_of is not None else study.as_of
    day = None if study.window is None else str(today if wanted == "scheduled" else wanted)
    return _digest({**_declared(study), "files": files, "as_of": day})


def rows_key(study: Study, relation: Relation, folder: Path) -> str:
    """Key of the rows, as far as the study and its rules name columns, and of the day that the window ends at.

    Parameters
    ----------
    relation : what extract found. folder : the run's, which holds the mix that the study is standardised to.
    """
    rows = {"rows": relation.rows, "checksum": relation.checksum, "columns": dict(relation.columns)}
    day = None if study.window is None else str(relation.as_of)
    return _digest({**_declared(study), "line_items": rows, "mix": mix_words(study, folder), "as_of": day})


def _declared(study: Study) -> dict[str, Any]:
    """What both keys hold: the study, its queries and rules as they are written, and what computes."""
    mix = study.standardise_to
    return {
        "study": study.model_dump(mode="json", exclude=set(NO_INPUTS)),
        "line_items": locate(study).query,
        "standardise_to": None if mix is None or mix.parquet is not None else mix_text(mix, study.name),
        "rules": None if study.expectations is None else suite_entries(study.expectations),
        "code": code_digest(),
        "libraries": library_versions(),
        "tables": CATALOGUE_VERSION,
    }


@cache
def code_digest() -> str:
    """Digest of the project's own files, which tells apart two states of a checkout that have one version number."""
    digest = hashlib.sha256()
    for name, file in OWN_CODE.items():
        root = Path(file).parent
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"\n{name}/{path.relative_to(root).as_posix()}\t{hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()


@cache
def library_versions() -> Mapping[str, str | None]:
    """Versions of the libraries that compute; None: not installed."""
    return {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str | None:
    try:
        return installed_version(name)
    except PackageNotFoundError:
        return None


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
