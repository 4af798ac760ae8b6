"""A version's data contract: the Open Data Contract Standard's YAML, kept by version and, for the latest one, at a fixed path."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from groupwise.publishing import durable
from groupwise.publishing.folder.own_files import kind_of, read_file
from groupwise.publishing.layout import Layout
from multilevel.catalogue.data_contract import open_data_contract

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""PyYAML's compiled writer where it was built with one: ten times as quick on a contract's thousands of nodes."""


def contract_text(study: str, definition: Mapping[str, Any], tables: Collection[str]) -> str:
    """The contract of ``tables`` as YAML; ``definition`` is the study as the manifest keeps it (title, unit and currency are read)."""
    contract = open_data_contract(
        study,
        tables=tables,
        title=definition.get("title") or None,
        unit=definition.get("unit"),
        currency=definition.get("currency"),
    )
    text: str = yaml.dump(contract, Dumper=DUMPER, sort_keys=False, allow_unicode=True, width=120)
    return text


def put_contract(layout: Layout, as_of: date | str, run_id: str) -> None:
    """Let ``contract.odcs.yaml`` be that of the version; removed for a version that has none, rather than left to speak of another."""
    content = _content(layout.version_contract(as_of, run_id))
    if content is None:
        durable.remove(layout.contract)
    elif kind_of(layout.contract) != "a file" or _content(layout.contract) != content:
        durable.replace_text(layout.contract, content.decode())


def _content(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except FileNotFoundError:
        return None
