"""What follows the pointer in object storage: the contract at its fixed path, and ``catalog.sql``, whose views look the pointer up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groupwise.publishing.catalog_sql import CATALOG, trend, views
from groupwise.publishing.object_store.store import ObjectStore
from groupwise.publishing.object_store.store_pointer import TRIES, ObjectLayout
from groupwise.source.relation import literal, quote
from multilevel.errors import PublishError

HEAD = (
    "-- Latest version of every study. In DuckDB, once a session:",
    "--   {session}",
    "-- then run this file, and select * from <study>.group_estimates. Run it again to move on to versions published since.",
)


def follow_pointer(layout: ObjectLayout) -> None:
    """Bring contract and catalog to the pointer's version; a run that moved it meanwhile is followed too."""
    for _ in range(TRIES):
        latest, tag = layout.latest()
        _put_contract(layout, latest)
        _put_catalog(layout.store)
        if layout.latest()[1] == tag:
            return
    raise PublishError(f"{layout.study}: other runs kept moving the pointer while contract and catalog were written.")


def _put_contract(layout: ObjectLayout, latest: Mapping[str, Any] | None) -> None:
    place = layout.paths.contract.as_posix()
    kept = None if latest is None else layout.store.read(layout.paths.version_contract(latest["as_of"], latest["run_id"]).as_posix())
    if kept is None:
        layout.store.remove(place)
        return
    _replace(layout.store, place, kept.data)


def _put_catalog(store: ObjectStore) -> None:
    for _ in range(TRIES):
        found = store.read(CATALOG)
        text = catalog_text(store).encode()
        if found is not None and found.data == text:
            return
        if store.swap(CATALOG, text, None if found is None else found.tag):
            return
    raise PublishError(f"{store.address(CATALOG)}: other runs replaced it at each of {TRIES} tries.")


def _replace(store: ObjectStore, name: str, data: bytes) -> None:
    found = store.read(name)
    if found is None or found.data != data:
        # losing to another run is no failure: whoever is last finds the pointer moved, and comes again
        store.swap(name, data, None if found is None else found.tag)


def catalog_text(store: ObjectStore) -> str:
    """A schema a study and a view a table. A variable holds the version that the pointer names when the file is run."""
    lines = [line.format(session=store.root.kind.duckdb) for line in HEAD]
    for study in store.folders():
        latest, _ = ObjectLayout(store, study).latest()
        if latest is None:
            continue
        home, variable = str(store.address(study)), f"groupwise_{study}"
        pointer = literal(f"{home}/_latest.json")
        lines.append(f"set variable {quote(variable)} = (select {literal(home + '/')} || version from read_json({pointer}));")
        lines.append(f"create schema if not exists {quote(study)};")
        for table in latest["tables"]:
            file = f"getvariable({literal(variable)}) || {literal(f'/{table}.parquet')}"
            lines += views(study, table, f"read_parquet({file}, hive_partitioning = false)")
        lines.append(trend(study, home))
    return "\n".join(lines) + "\n"
