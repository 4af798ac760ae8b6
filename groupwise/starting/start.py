"""From data to files: read, profile, propose, try the proposal as ``plan`` would, and write what holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from groupwise.faults import told
from groupwise.pipeline.line_items import read_line_items
from groupwise.planning.dry_run import plan
from groupwise.source.time_limit import close
from groupwise.starting.data_source import Data, declared, open_data, told_error
from groupwise.starting.proposal import Proposal, proposals
from groupwise.starting.study_text import starter_rules, study_fields, study_text
from groupwise.starting.table_profile import ID_WORDS, TableProfile, profile
from groupwise.study.study import Study
from groupwise.study.study_schema import NAME, first_line, schema_text
from groupwise.whole_files import write_whole
from multilevel.errors import DataError, GroupwiseError, SourceError, StudyError

SCHEMA = Path(".groupwise") / NAME
FEW_COLUMNS = 5


@dataclass(frozen=True)
class Started:
    """What ``init`` made. files : path -> text, in the order in which they are written. notes : what was read how."""

    profile: TableProfile
    proposal: Proposal
    fields: Mapping[str, Any]
    files: Mapping[Path, str]
    notes: tuple[str, ...] = ()


@told("the data cannot be profiled")
def start(
    data: str,
    *,
    name: str | None,
    output: Path,
    folder: Path,
    tell: Callable[[str], None],
    table: str | None = None,
    line_items: str | None = None,
) -> Started:
    """Profile the data and propose a study that ``plan`` accepts; nothing outside ``folder`` is written.

    Parameters
    ----------
    data : a file, glob or folder. name : of the study; None: of the file. output : the study file. folder : for files in between.
    tell : told what is done. table : of a database with several. line_items : a file with one SELECT on the data.

    Raises
    ------
    SourceError : the data cannot be read. DataError : no study fits it.
    """
    own = name if name is not None else study_name(data)
    tell("reading the data")
    source = declared(data) | ({} if line_items is None else {"line_items": line_items})
    connection, found = open_data(source, own, folder, table=table)
    try:
        tell("looking at the columns")
        made = profile(connection, found.sql, found.types)
        if not made.rows:
            raise DataError(f"{own}: {data} has no rows.")
        if _loaded_twice(made):
            # copies say nothing about levels and ids
            once = profile(connection, f"select distinct * from (\n{found.sql}\n)", found.types)
            made = replace(once, copies=made.duplicates)
    except duckdb.Error as error:
        raise told_error(error, own, data) from error
    finally:
        close(connection)
    query = None
    if found.query is not None:
        query = output.with_name("line_items.sql")
        query = query.with_name(f"{output.stem}_line_items.sql") if line_items == str(query) else query
    source = dict(found.source) | ({} if query is None else {"line_items": str(query)})
    tell("trying a study")
    chosen = _first_that_fits(own, found, made, folder)
    fields = study_fields(own, source, chosen, starter_rules(made, chosen))
    notes = list(found.notes)
    if made.copies:
        notes.append(f"The {made.copies:,} copies are dropped by a rule: ids or times show that the rows were loaded twice")
    if made.duplicates:
        notes.append("Repeated rows are kept: nothing says that they are copies. To drop them, add a rule with keep: one")
    files = {output: f"{first_line(output, SCHEMA)}\n{study_text(fields, chosen, made, data, notes)}"}
    if query is not None and found.query is not None:
        files[query] = found.query
    return Started(made, chosen, fields, files, tuple(notes))


def write_started(started: Started, *, force: bool) -> None:
    """Write the files; StudyError where one is there already and ``force`` does not say so."""
    there = [path for path in started.files if path.exists()]
    if there and not force:
        raise StudyError(f"{', '.join(map(str, there))}: already there; move it away, choose --output, or write --force to replace it.")
    # of this version, whatever was there
    for path, text in {**started.files, SCHEMA: schema_text()}.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)


def study_name(data: str) -> str:
    """A study's name from a path."""
    stem = Path(data.split("*", maxsplit=1)[0].rstrip("/")).name if "*" in data else Path(data.rstrip("/")).name.split(".")[0]
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-")
    return (plain if re.match(r"[A-Za-z]", plain) else f"study_{plain}")[:50].rstrip("_-") or "study"


def _loaded_twice(table: TableProfile) -> bool:
    """Whether rows that are alike are copies: they share an id, or a day and much else."""
    if not table.duplicates or table.duplicates > 0.2 * table.rows:
        return False
    columns = table.columns.values()
    has_id = any(ID_WORDS.search(one.name) and one.levels >= 0.8 * one.n and one.kind in ("text", "number", "other") for one in columns)
    return has_id or (any(one.kind == "time" for one in columns) and len(table.columns) >= FEW_COLUMNS)


def _first_that_fits(name: str, found: Data, table: TableProfile, folder: Path) -> Proposal:
    """The first proposal whose plan has no refusal."""
    why = "no column divides the rows into groups of at least two"
    source = dict(found.source)
    if found.query is not None:
        tried = folder / "line_items.sql"
        tried.write_text(found.query, encoding="utf-8")
        source["line_items"] = str(tried)
    for number, made in enumerate(proposals(table)):
        trial = folder / f"trial-{number}"
        trial.mkdir()
        try:
            study = Study.model_validate(study_fields(name, source, made, ()))
            items = read_line_items(study, None, trial, lambda step: None)
            refusals = plan(study, items.relation, items.validated.study_sql, folder=trial).refusals
        except SourceError:
            raise
        except (GroupwiseError, ValueError) as error:
            why = str(error).split("\n")[0]
            continue
        if not refusals:
            return made
        why = refusals[0].split("\n")[0]
    raise DataError(f"{name}: no study could be proposed: {why}. Write one by hand; `groupwise plan` says what does not fit.")
