"""The ``groupwise`` command: all options in one file, since they are read side by side. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from groupwise.commands.ending import INTERRUPTED, fail, leave, message_of
from groupwise.supervision.news import is_supervised

ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
}
"""What is set for the libraries where the user has not set it."""

app = typer.Typer(
    name="groupwise",
    help="Multilevel estimates for every customer group and product group, from line items to Parquet tables.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyFile = Annotated[Path, typer.Argument(help="the study's YAML file", metavar="STUDY.yaml")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="override a field of the study; repeatable")]
TimeLimit = Annotated[
    float,
    typer.Option("--time-limit", min=1, metavar="SECONDS", help="end the queries on the source after so long; a run's steps have 3600"),
]
Style = Annotated[str, typer.Option("--format", metavar="table|json|csv", help="how it is printed; progress goes to standard error")]
Day = Annotated[datetime | None, typer.Option("--as-of", formats=["%Y-%m-%d"], metavar="DATE", help="the day the estimates speak for")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"groupwise {version('groupwise')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")] = False,
) -> None:
    """Multilevel estimates for every customer group and product group, from line items to Parquet tables."""


@app.command("load-shop")
def load_shop(
    database: Annotated[Path, typer.Option(help="DuckDB file to make")] = Path("data/shop.duckdb"),
) -> None:
    """Load the Complete Journey, a year of real transactions of 2,469 households, into a DuckDB file."""
    from groupwise.progress import counting_progress
    from groupwise.shop.load_shop import load_shop as load

    with counting_progress("loading the shop") as progress:
        loaded = load(database, progress)
    state = "loaded" if loaded.was_loaded else "already there"
    tables = ", ".join(f"{name} {count:,}" for name, count in loaded.rows.items())
    typer.echo(f"{loaded.database}: {state} ({tables})")


@app.command()
def simulate(
    line_items: Annotated[int, typer.Option(min=1, help="how many line items to make")],
    database: Annotated[Path, typer.Option(help="DuckDB file to make")],
    customers: Annotated[int, typer.Option(help="nested in regions")] = 10_000,
    products: Annotated[int, typer.Option(help="nested in categories")] = 5_000,
    categories: Annotated[int, typer.Option(help="nested in departments, ten to each")] = 200,
    regions: Annotated[int, typer.Option(help="crossed with categories")] = 50,
    seed: Annotated[int, typer.Option(help="the same seed gives the same shop")] = 1,
) -> None:
    """Make a synthetic shop inside DuckDB, with the true parameters in a table `truth`."""
    from groupwise.progress import counting_progress
    from groupwise.shop.simulate_shop import simulate_shop

    with counting_progress("simulating") as progress:
        shop = simulate_shop(
            database,
            line_items,
            customers=customers,
            products=products,
            categories=categories,
            regions=regions,
            seed=seed,
            progress=progress,
        )
    typer.echo(
        f"{shop.database}: {shop.line_items:,} line items, {shop.regions} regions, {shop.categories} categories (true values in `truth`)"
    )


@app.command("init")
def init(
    data: Annotated[str, typer.Argument(help="a .csv, .parquet, .json, .feather or .duckdb file, a glob, or a folder", metavar="DATA")],
    name: Annotated[str | None, typer.Option("--name", help="of the study; default: of the file")] = None,
    table: Annotated[str | None, typer.Option("--table", help="of a database with several tables")] = None,
    line_items: Annotated[
        Path | None, typer.Option("--line-items", metavar="FILE", help="a file with one SELECT on the data; of files it reads `source`")
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="the study file to write")] = Path("study.yaml"),
    force: Annotated[bool, typer.Option("--force", help="replace files that are there already")] = False,
    time_limit: TimeLimit = 3_600,
) -> None:
    """A first study for your data: looks at every column, proposes outcome, family, groups and window with a reason each, and writes a
    commented study.yaml, starter rules, and a query where types need casts."""
    from groupwise.commands.init import init_study

    init_study(data, name=name, table=table, line_items=line_items, output=output, force=force, seconds=time_limit)


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="write it there; default: print it")] = None,
) -> None:
    """The JSON Schema of study files, with which an editor completes and checks them."""
    from groupwise.commands.schema import show_schema

    show_schema(output)


@app.command()
def estimate(
    studies: Annotated[list[Path], typer.Argument(help="the study's YAML file; several run one by one", metavar="STUDY.yaml...")],
    as_of: Day = None,
    engine: Annotated[str | None, typer.Option(metavar="bayesian|likelihood", help="override the study's engine")] = None,
    publish_to: Annotated[str | None, typer.Option(metavar="PLACE", help="override publish_to: a folder, or s3://, gs://, az://")] = None,
    settings: Settings = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="the run's log on the console too, Prefect's with it in a flow run")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="run and publish although nothing has changed since the published version")
    ] = False,
    flow: Annotated[bool, typer.Option("--flow", help="a flow run; starts a temporary server where Prefect has none")] = False,
    style: Annotated[
        str, typer.Option("--format", metavar="table|json|csv", help="how the summary is printed; table: on standard error")
    ] = "table",
) -> None:
    """Validate, compress, fit, check, publish: in this process, or as a flow run where Prefect has a server. The last line printed is the
    published folder: an earlier run's, at once, where nothing has changed since. Of several studies a refused one stops no other."""
    from groupwise.commands.second_process import second_process

    day = as_of.date() if as_of else None
    if len(studies) > 1 or style != "table":
        from groupwise.commands.estimate_several import run_several

        folders, code = run_several(
            studies,
            as_of=day,
            engine=engine,
            publish_to=publish_to,
            settings=settings or [],
            verbose=verbose,
            as_flow=flow,
            force=force,
            style=style,
        )
        for folder in folders:
            typer.echo(folder)
        raise typer.Exit(code)
    with second_process(wanted=is_supervised() and not flow) as second:
        # takes seconds, which the second process uses
        from groupwise.commands.estimate import run_estimate

        folder = run_estimate(
            str(studies[0]),
            as_of=day,
            engine=engine,
            publish_to=publish_to,
            settings=settings or [],
            verbose=verbose,
            as_flow=flow,
            force=force,
            second=second,
        )
    typer.echo(folder)


@app.command()
def backfill(
    study: StudyFile,
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], metavar="DATE", help="the first day")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], metavar="DATE", help="the last day, if the steps meet it")],
    every: Annotated[str, typer.Option(metavar="day|week|month|month-end", help="the steps; month-end: the last day of every month")],
    publish_to: Annotated[str | None, typer.Option(metavar="PLACE", help="override publish_to")] = None,
    settings: Settings = None,
    force: Annotated[bool, typer.Option("--force", help="run days that are published from the same inputs, too")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list the days and what is published of each; run nothing")] = False,
) -> None:
    """Estimates of many days, oldest first, each its own version; days published from the same inputs are skipped, so that the same
    command goes on after one that was ended."""
    from groupwise.commands.backfill import run_backfill

    days = first.date(), last.date(), every
    for line in run_backfill(str(study), *days, publish_to=publish_to, settings=settings or [], force=force, dry_run=dry_run):
        typer.echo(line)


@app.command()
def plan(
    study: StudyFile,
    as_of: Day = None,
    settings: Settings = None,
    prior_predictive: Annotated[bool, typer.Option("--prior-predictive", help="the priors in words, and what they expect")] = False,
    style: Style = "table",
    time_limit: TimeLimit = 3_600,
) -> None:
    """Dry run: the model in words, the SQL, rows, cells, what would be estimated at what cost, and every refusal. Fits nothing."""
    from groupwise.commands.plan import show_plan

    day, overrides = as_of.date() if as_of else None, settings or []
    show_plan(str(study), as_of=day, settings=overrides, with_priors=prior_predictive, style=style, seconds=time_limit)


@app.command()
def show(
    target: Annotated[str, typer.Argument(help="a study's YAML file or a published folder", metavar="STUDY_OR_FOLDER")],
    rows: Annotated[int, typer.Option(min=1, help="rows shown of each long table; in json and csv all")] = 10,
    tables: Annotated[list[str] | None, typer.Option("--table", metavar="NAME", help="only this table; repeatable, in csv one")] = None,
    style: Style = "table",
) -> None:
    """The latest published tables, readable in a terminal: coefficients as the formula has them, variances, groups, failed checks."""
    from groupwise.commands.show import show_tables

    show_tables(target, rows, style, tables or [])


@app.command()
def report(
    study: StudyFile,
    show: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
    index: Annotated[bool, typer.Option("--index", help="the page over all studies and dates instead")] = False,
) -> None:
    """Where the latest published report is; the last line printed is its path."""
    from groupwise.commands.report import find_report

    typer.echo(find_report(str(study), index=index, show=show))


@app.command()
def contrast(
    study: StudyFile,
    levels: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LEVEL", help="two levels of one factor, or more; parent:level where a name alone is not unique", show_default=False
        ),
    ] = None,
    factor: Annotated[str | None, typer.Option(help="the grouping factor, where several have all levels")] = None,
    of: Annotated[
        str | None,
        typer.Option(
            "--of",
            metavar="members|population|coefficient",
            help="of the groups as they are, of new members, or of coefficients on the link scale; default: the headline",
        ),
    ] = None,
    within: Annotated[str | None, typer.Option(metavar="PARENT", help="in place of levels: all that lie inside this one")] = None,
    top: Annotated[int | None, typer.Option(min=2, max=100, help="in place of levels: so many with the highest averages")] = None,
    style: Style = "table",
    run: Annotated[str | None, typer.Option(metavar="RUN", help="run id of a published version; default: the latest")] = None,
) -> None:
    """The first level minus the second, as the tables have them, with its interval and probability; of several levels, all pairs."""
    from groupwise.commands.contrast import show_contrast
    from groupwise.predictions import Chosen

    chosen = Chosen(tuple(levels or ()), factor, of, within, top)
    show_contrast(str(study), chosen, style=style, run_id=run)


@app.command()
def predict(
    study: StudyFile,
    at: Annotated[
        str,
        typer.Option("--at", metavar="TABLE", help="Parquet, CSV, JSON or Arrow, with the columns that the formula takes"),
    ],
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="write the rows there: .parquet or .csv; default: print them")] = None,
    interval: Annotated[
        str | None,
        typer.Option(
            metavar="P|next|next:P",
            help="probability of the intervals, such as 0.9; next: of the next outcome and not of its expectation; default: the study's",
        ),
    ] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="run id of a published version; default: the latest")] = None,
    style: Style = "table",
) -> None:
    """The expected outcome at every row of a table, groups never seen included. Reads what the published version keeps, no line items."""
    from groupwise.commands.predict import show_predictions

    show_predictions(str(study), at, output=output, interval=interval, run_id=run, style=style)


@app.command()
def compare(
    study: StudyFile,
    reduced: Annotated[
        str | None,
        typer.Option("--reduced", metavar="FORMULA", help="the study's formula with terms left out; default: complete pooling"),
    ] = None,
    as_of: Day = None,
    factor: Annotated[str | None, typer.Option(help="whose levels are left out; default: the first whose levels can be")] = None,
    folds: Annotated[int, typer.Option(min=0, help="0: no cross-validation; as many as levels, or more: one left out at a time")] = 10,
    seed: Annotated[int | None, typer.Option(help="of the folds; default: the study's")] = None,
    settings: Settings = None,
    style: Style = "table",
    time_limit: TimeLimit = 3_600,
) -> None:
    """The study's model against a smaller one on the same rows: likelihood-ratio test, AIC, BIC, cross-validation over groups."""
    from groupwise.commands.compare import show_comparison

    day = as_of.date() if as_of else None
    asked: dict[str, Any] = {"factor": factor, "folds": folds, "seed": seed, "settings": settings or [], "style": style}
    show_comparison(str(study), reduced, as_of=day, **asked, seconds=time_limit)


@app.command("diff")
def show_diff(
    study: StudyFile,
    earlier: Annotated[str | None, typer.Option("--from", metavar="RUN", help="run id; default: the version before")] = None,
    later: Annotated[str | None, typer.Option("--to", metavar="RUN", help="run id; default: the latest version")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="groups named; default: 12, in json and csv all")] = None,
    style: Style = "table",
) -> None:
    """What changed between two published versions, and why: range, mix and behaviour of groups that moved, coefficients, checks."""
    from groupwise.commands.diff import show_difference

    show_difference(str(study), earlier, later, rows, style)


@app.command()
def versions(study: StudyFile, style: Style = "table") -> None:
    """Every published version of a study, the newest first: day, run id, when it was published, where it is."""
    from groupwise.commands.versions import show_versions

    show_versions(str(study), style)


@app.command("list")
def list_studies(
    studies: Annotated[list[str] | None, typer.Argument(metavar="STUDY.yaml", help="default: studies/*.yaml and *.yaml")] = None,
    style: Style = "table",
) -> None:
    """Every study with its latest version; a file that is no study says why."""
    from groupwise.commands.versions import list_studies as show

    show(studies or [], style)


@app.command()
def export(
    target: Annotated[str, typer.Argument(help="a study's YAML file or a published folder", metavar="STUDY_OR_FOLDER")],
    output: Annotated[
        Path,
        typer.Option("--output", metavar="PLACE", help="a folder (one CSV a table), a .csv (of one table), or an .xlsx"),
    ],
    tables: Annotated[list[str] | None, typer.Option("--table", metavar="NAME", help="only this table; repeatable")] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="run id of a published version; default: the latest")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace files that are there already")] = False,
) -> None:
    """The published tables for a spreadsheet, exactly as published; prints the files written."""
    from groupwise.commands.export import export_tables

    for file in export_tables(target, output, tables or [], run_id=run, force=force):
        typer.echo(file)


@app.command()
def doctor(
    studies: Annotated[list[str] | None, typer.Argument(metavar="STUDY.yaml", help="whose data and place are looked at too")] = None,
    style: Style = "table",
) -> None:
    """Whether runs can work here: Python, packages, extras, memory, folders, Prefect's server, and the places of studies."""
    from groupwise.commands.doctor import examine

    raise typer.Exit(examine(studies or [], style))


@app.command()
def rollback(study: StudyFile, to: Annotated[str, typer.Option("--to", metavar="RUN", help="run id of the version to point at")]) -> None:
    """Make an earlier version the latest again; nothing is removed."""
    from groupwise.commands.history import roll_back

    typer.echo(roll_back(str(study), to))


@app.command()
def prune(study: StudyFile, keep: Annotated[int, typer.Option(help="how many of the newest versions stay")]) -> None:
    """Remove old versions with their reports and manifests; the latest always stays."""
    from groupwise.commands.history import prune_versions

    typer.echo(prune_versions(str(study), keep))


@app.command()
def clean(dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be removed, and remove nothing")] = False) -> None:
    """Remove what need not stay of runs in .groupwise/runs, as every run does: their studies' `runs` say for how many days."""
    from groupwise.commands.clean import clean_runs

    for line in clean_runs(dry_run=dry_run):
        typer.echo(line)


@app.command("statistics")
def show_statistics(
    study: StudyFile,
    as_of: Day = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="remove what is kept, and make that of the window's partitions anew")] = False,
    style: Style = "table",
    time_limit: TimeLimit = 3_600,
) -> None:
    """The partitions whose statistics a study keeps: how many line items, since when, what is stale and why."""
    from groupwise.commands.partition_list import show_partitions

    show_partitions(str(study), as_of=as_of.date() if as_of else None, rebuild=rebuild, style=style, seconds=time_limit)


@app.command()
def automations() -> None:
    """Write to the Prefect server what it does about runs that died; once or twice, each automation is there once."""
    from groupwise.commands.flow_runs import WRITE_AUTOMATIONS, load

    for line in load(WRITE_AUTOMATIONS)():
        typer.echo(line)


def main() -> NoReturn:
    """Run the command in this process; every failure is one clear message on stderr and a non-zero exit."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    leave(_run())


def _run() -> int:
    try:
        # typer answers with the exit code where a command was left or interrupted, with None where it came to its end
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last line of defence: told in one message, the traceback is in the run's log
        return fail(message_of(error), getattr(error, "exit_code", 1) or 1)
    return fail("interrupted; nothing was published", INTERRUPTED) if code == INTERRUPTED else code
