"""``docs/commands.md``, generated from the app and its examples: ``python -m groupwise.commands.command_page`` writes it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import typer

from groupwise.commands.command_examples import EXAMPLES, ROWS, STUDY, make_example_files, run_examples
from groupwise.commands.command_line import ENVIRONMENT, app

_OPENING = f"""# The commands

Generated from `groupwise/commands/command_line.py` and `groupwise/commands/command_examples.py` by `make docs`; a test fails when they
disagree with this page, and
another when a command no longer prints what stands here.

`groupwise --help` lists the commands, `groupwise COMMAND --help` the options of one, `groupwise --version` the version. Answers go to
standard output, progress and complaints to standard error. `RUN1` and `RUN2` stand for run ids such as `20260101T060000-0a1b2c3d`.

The examples are one session: they use a simulated shop, this `study.yaml`

```yaml
{STUDY}```

and, for `predict`, this `rows.csv`, whose last line is a region never seen:

```csv
{ROWS}```

## Exit codes

| code | what it means |
|---|---|
| 0 | done |
| 1 | refused or failed: one message on standard error names the study, field or column, the value, and what to do; nothing is published |
| 2 | the command line itself cannot be read: an unknown command or option, a missing argument |
| 130, 143, 129 | ended by ctrl-c, SIGTERM or SIGHUP within seconds, with one message; no process, lock or running flow run is left |
| 128 + n | a process of the command was killed by signal n, 137 by SIGKILL as a system does that has no memory left; the same holds |

A run that ends so has published nothing, unless the message says that it was publishing: the version is then there whole, or not at all.

## Environment variables

groupwise has none of its own: what a run does stands in its study and its options. These, of the libraries that it uses, matter:

| variable | what it does | where it is not set |
|---|---|---|
"""
_VARIABLES = {
    "DO_NOT_TRACK": "1: no library sends usage statistics",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false: nor does Prefect's server",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "how long `estimate --flow` waits for the server that it starts for itself",
    "PREFECT_API_URL": "a Prefect server: `estimate` is a flow run there (a profile or `prefect.toml` sets it as well)",
    "PREFECT_HOME": "where Prefect keeps its settings, and a temporary server keeps its database",
    "OMP_NUM_THREADS, OPENBLAS_NUM_THREADS": "threads of the linear algebra, where several runs share a machine",
    "TMPDIR": "where `plan` and `compare` put their working files; they leave none behind",
    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL": (
        "for `publish_to: s3://...`, as in [publishing-to-s3.md](publishing-to-s3.md)"
    ),
    "GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY": "for `gs://`, `az://`, on the same page",
}
_OTHERWISE = {
    "PREFECT_API_URL": "the run's steps run in its own process, no server",
    "PREFECT_HOME": "`~/.prefect`",
    "OMP_NUM_THREADS, OPENBLAS_NUM_THREADS": "all cores; one where more would cost time",
    "TMPDIR": "`/tmp`",
}


def command_page(sessions: Mapping[str, str]) -> str:
    """The whole page as Markdown; ``sessions``: what is typed and printed in each command's example."""
    variables = [f"| {_names(name)} | {what} | {_otherwise(name)} |" for name, what in _VARIABLES.items()]
    return _OPENING + "\n".join([*variables, "", *[_section(name, sessions.get(name)) for name in commands()]])


def commands() -> dict[str, typer.core.TyperCommand]:
    """Every command of the app by its name, in the order of its help."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return {name: command for name, command in group.commands.items() if isinstance(command, typer.core.TyperCommand)}


def sessions_on(page: str) -> dict[str, str]:
    """The sessions that stand on a page, by command."""
    sections = re.findall(r"^## `groupwise (\S+)`\n(.*?)(?=^## |\Z)", page, flags=re.M | re.S)
    return {name: found[1] for name, text in sections if (found := re.search(r"^```console\n(.*?)^```$", text, flags=re.M | re.S))}


def _section(name: str, session: str | None) -> str:
    command = commands()[name]
    context = typer.Context(command, info_name=f"groupwise {name}")
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context)) is not None]
    lines = [
        f"## `groupwise {name}`",
        "",
        str(command.help),
        "",
        "```",
        command.get_usage(context).removeprefix("Usage: "),
        "```",
        "",
        "| argument or option | what it is |",
        "|---|---|",
        *[f"| {_code(option)} | {_text(what)} |" for option, what in records if option != "--help"],
        "",
    ]
    example = EXAMPLES.get(name)
    if example is not None and session is not None:
        lines += ["```console", session + "```", "", f"Exit code 1 where {example.fails}", ""]
    return "\n".join(lines)


def _code(option: str) -> str:
    return f"`{option}`".replace("|", "\\|")


def _text(what: str) -> str:
    return what.replace("|", "\\|").replace("<", "&lt;")


def _names(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))


def _otherwise(name: str) -> str:
    return f"`{ENVIRONMENT[name]}`" if name in ENVIRONMENT else _OTHERWISE.get(name, "")


def _run(folder: Path, arguments: list[str]) -> str:
    command = [str(Path(sys.executable).with_name("groupwise")), *arguments]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def main(path: Path = Path("docs/commands.md")) -> None:
    """Run the examples in a folder of their own and write the page."""
    with tempfile.TemporaryDirectory(prefix="groupwise-docs-") as made:
        folder = Path(made)
        make_example_files(folder)
        sessions = run_examples(folder, lambda arguments: _run(folder, arguments))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(command_page(sessions), encoding="utf-8")


if __name__ == "__main__":
    main(*[Path(argument) for argument in sys.argv[1:2]])
