"""One realistic example of every command, on a simulated shop: what is typed, and what fails. ``run_examples`` gives the sessions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sql import read_query

STUDY = """\
name: spend
title: Spend per line item by region and category
formula: log_amount ~ 1 + discount + (1 | region) + (1 | department/category)
source: {database: shop.duckdb, line_items: sql/simulated_line_items.sql}
window: {column: ts, days: 90}
cells: [region, category]
engine: likelihood
"""
ROWS = """\
region,department,category,discount
R001,D001,C0001,0
R001,D001,C0001,0.2
R777,D001,C0001,0
"""

type Run = Callable[[list[str]], str]
"""Runs ``groupwise`` with these arguments in the present folder and gives what it wrote to standard output."""


@dataclass(frozen=True)
class Example:
    """Lines to type after ``groupwise``, and what the command refuses.

    ``lines``: ``RUN1`` and ``RUN2`` stand for the ids of the first and second run. ``most``: lines of output shown. ``printed``: the output
    of an example that takes too long to run for a page. ``fails``: when the exit code is 1.
    """

    lines: tuple[str, ...]
    fails: str
    most: int | None = None
    printed: str | None = None


EXAMPLES: dict[str, Example] = {
    "load-shop": Example(
        ("load-shop",),
        "the extra `shop` is not installed, or the file is a database that this command did not make.",
        printed=(
            "data/shop.duckdb: loaded (customers 2,469, products 92,331, transactions 1,469,307, campaigns 27, campaign_customers 6,589, "
            "coupons 111,332, redemptions 2,102)\n"
        ),
    ),
    "simulate": Example(
        ("simulate --line-items 20000 --database shop.duckdb --customers 500 --products 300 --categories 40 --regions 6",),
        "a count is out of range, or the file is a database that this command did not make.",
    ),
    "init": Example(
        ("init shop.duckdb --line-items sql/simulated_line_items.sql --name first --output first.yaml",),
        "the data cannot be read, no column could be an outcome or divide the rows into groups, or a file that it would write is there.",
    ),
    "schema": Example(("schema --output .groupwise/study.schema.json",), "the file cannot be written."),
    "plan": Example(
        ("plan study.yaml",),
        "the run itself would be refused: an unreadable formula or field, a rule that too many rows break, a missing column, too many "
        "cells, a place where nothing can be published, or queries that do not end within `--time-limit`. What could be planned is printed "
        "all the same.",
        most=28,
    ),
    "estimate": Example(
        ("estimate study.yaml --as-of 2025-10-01", "estimate study.yaml --as-of 2026-01-01"),
        "validation, the fit, its gate or publishing refuses. Nothing is published then, and what was published before stays as it was; "
        "the details are in `.groupwise/runs/<run>/run.log`.",
    ),
    "show": Example(("show study.yaml --rows 2",), "nothing is published there.", most=26),
    "report": Example(("report study.yaml",), "nothing is published, or `publish_to` is in object storage."),
    "contrast": Example(
        ("contrast study.yaml R001 R003",),
        "a level is not in the published version, is in several factors and `--factor` does not say which, or the version has no saved "
        "joint distribution.",
    ),
    "predict": Example(
        ("predict study.yaml --at rows.csv",),
        "the table lacks a column of the formula or has a value that the model does not know, or the version has "
        "no saved joint distribution.",
    ),
    "compare": Example(
        ("compare study.yaml --reduced 'log_amount ~ 1 + discount + (1 | region) + (1 | department)' --folds 3",),
        "the two formulas do not speak of the same outcome, or a fit fails.",
    ),
    "diff": Example(("diff study.yaml --rows 3",), "there are not two versions, or no version of that run."),
    "versions": Example(
        ("versions study.yaml --format csv",),
        "the study cannot be read, or its place cannot be reached.",
        printed=(
            "as_of,run_id,published_at,is_latest,folder\n"
            "2026-01-01,RUN2,2026-01-01T06:00:09+00:00,True,published/spend/versions/dt=2026-01-01/rev=RUN2\n"
            "2025-10-01,RUN1,2026-01-01T05:59:41+00:00,False,published/spend/versions/dt=2025-10-01/rev=RUN1\n"
        ),
    ),
    "list": Example(
        ("list --format csv",),
        "there are no studies, or `--format` is none of the three.",
        printed=(
            "study,title,file,versions,as_of,published_at,problem\n"
            "spend,Spend per line item by region and category,study.yaml,2,2026-01-01,2026-01-01T06:00:09+00:00,\n"
        ),
    ),
    "export": Example(
        ("export study.yaml --table group_estimates --output groups.csv", "export study.yaml --output tables"),
        "nothing is published, there is no such table, a file is there already and `--force` is not given, a table has more rows than a "
        "sheet, or a workbook is asked for and the extra `excel` is not installed.",
    ),
    "doctor": Example(
        ("doctor study.yaml --format csv",),
        "something that it looked at is a fault: a package that is missing or of another version, a folder that cannot be written, a "
        "server that does not answer, a study that cannot be read.",
        printed=(
            "check,state,found,advice\n"
            "python,ok,3.13.0 at .venv/bin/python,\n"
            'packages,ok,"all that groupwise requires, in versions that it works with",\n'
            "extra dask,absent,for runs on a Dask cluster,\"pip install 'groupwise[dask]', where it is wanted\"\n"
            'resources,ok,"16.0 GB for a run, 4.0 GB for a query, 8 threads",\n'
            "prefect,ok,no server is configured: runs work in the command's own process,\n"
            "spend: publish_to,ok,published,\n"
        ),
    ),
    "rollback": Example(("rollback study.yaml --to RUN1",), "there is no version of that run."),
    "backfill": Example(
        ("backfill study.yaml --from 2024-10-31 --to 2024-12-31 --every month-end --dry-run",),
        "`--from` is after `--to`, the study has no window, or a day's run is refused; the days before it are published.",
    ),
    "statistics": Example(
        ("statistics kept.yaml --rebuild --as-of 2025-04-01 --format csv",),
        "the study keeps no statistics or its line items do not add, which is named, or the source cannot be read.",
        printed=(
            "partition,line_items,state,kept_at,kilobytes\n"
            "2025-01,1699,kept,2026-01-01T06:00:03+00:00,30\n"
            "2025-02,1534,kept,2026-01-01T06:00:03+00:00,29\n"
            "2025-03,1699,kept,2026-01-01T06:00:03+00:00,30\n"
        ),
    ),
    "prune": Example(("prune study.yaml --keep 1",), "`--keep` is below 1."),
    "clean": Example(("clean --dry-run",), "the folder of runs cannot be read."),
    "automations": Example(
        ("automations",),
        "`PREFECT_API_URL` is not set, or the server there does not answer.",
        printed="groupwise runs that died: made\n",
    ),
}

_RUN_ID = re.compile(r"\b\d{8}T\d{6}-[0-9a-f]{8}\b")
_SECONDS = re.compile(r"takes about .* on this machine")


def make_example_files(folder: Path) -> None:
    """The study, its SQL and a table to predict at."""
    (folder / "sql").mkdir(parents=True)
    (folder / "sql" / "simulated_line_items.sql").write_text(read_query("simulated_line_items"), encoding="utf-8")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    (folder / "rows.csv").write_text(ROWS, encoding="utf-8")


def run_examples(folder: Path, run: Run) -> dict[str, str]:
    """Every example as a session, what is typed and what it prints, by its command; ``folder``: where ``make_example_files`` has been."""
    runs: list[str] = []
    sessions = {}
    for name, example in EXAMPLES.items():
        sessions[name] = ""
        for line in example.lines:
            told = example.printed
            if told is None:
                told = run([_with_runs(word, runs) for word in shlex.split(line)])
                runs += [found for found in dict.fromkeys(_RUN_ID.findall(told)) if found not in runs]
            sessions[name] += f"$ groupwise {line}\n{_as_shown(told, folder, runs, example.most)}"
    return sessions


def _with_runs(word: str, runs: list[str]) -> str:
    return runs[int(word.removeprefix("RUN")) - 1] if re.fullmatch(r"RUN\d", word) else word


def _as_shown(out: str, folder: Path, runs: list[str], most: int | None) -> str:
    """The output as it would be in anybody's folder at any time."""
    for number, run_id in enumerate(runs, start=1):
        out = out.replace(run_id, f"RUN{number}")
    out = _SECONDS.sub("takes a few seconds on this machine", out.replace(f"{folder.resolve()}/", "").replace(f"{folder}/", ""))
    lines = [line.rstrip() for line in out.strip("\n").splitlines()]
    if most is not None and len(lines) > most:
        lines = ["\n".join(lines[:most]).rstrip(), "..."]
    return "\n".join(lines) + "\n"
