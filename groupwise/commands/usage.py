"""What is said of a command line that cannot be read: what to type instead."""

from __future__ import annotations

import re
from typing import Any

OTHER_NAMES = {
    **dict.fromkeys(("fit", "run", "train"), "estimate"),
    **dict.fromkeys(("start", "new", "create"), "init"),
    **dict.fromkeys(("check", "validate", "dry-run"), "plan"),
    **dict.fromkeys(("summary", "results"), "show"),
    **dict.fromkeys(("delete", "remove"), "prune"),
    "ls": "list",
    "schedule": "backfill",
}
"""Words of other programs, and the command that does it here."""

SETTINGS = frozenset({"engine", "interval", "family", "formula", "seed", "publish-to", "method", "where", "sampled", "window"})
"""Options that are fields of a study: a command takes them with ``--set``."""

_UNKNOWN = re.compile(r"^No such command '(.+?)'")
_NO_OPTION = re.compile(r"^No such option: --([a-z-]+)")


def usage_message(error: Any, said: str) -> str:
    """The message of a usage error, and how the command is written."""
    context = getattr(error, "ctx", None)
    return f"{_instead(said, context)}\nTry: {_written(context)} --help"


def _written(context: Any) -> str:
    """The command as one types it, however the program was started."""
    names: list[str] = []
    while context is not None and context.parent is not None:
        names.insert(0, str(context.info_name))
        context = context.parent
    return " ".join(["groupwise", *names])


def _instead(said: str, context: Any) -> str:
    if unknown := _UNKNOWN.match(said):
        return _of_command(unknown[1], said)
    if (option := _NO_OPTION.match(said)) and option[1] in SETTINGS and _takes_settings(context):
        field = option[1].replace("-", "_")
        return f"No such option: --{option[1]}; {field} is a field of the study: --set {field}=..."
    return said


def _takes_settings(context: Any) -> bool:
    return context is not None and any("--set" in parameter.opts for parameter in context.command.params)


def _of_command(word: str, said: str) -> str:
    """What was meant by a word that is no command: a file, or another program's name for one."""
    from groupwise.source.file_kinds import kind_of

    if word.lower().endswith((".yaml", ".yml")):
        return f"{word} stands where a command should: groupwise estimate {word} estimates the study."
    if kind_of(word) is not None:
        return f"{word} stands where a command should: groupwise init {word} writes a study for the data."
    meant = OTHER_NAMES.get(word.lower())
    return said if meant is None else f"No such command '{word}'; it is called {meant}: groupwise {meant}."
