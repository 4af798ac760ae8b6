"""How to run it again: the command with every override, and the same as a call in Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from groupwise.report.subject import Subject
from groupwise.study.study import Study
from groupwise.study.study_file import study_fields, study_from
from multilevel.errors import StudyError

BY_OPTION = ("engine", "as_of", "publish_to")
"""Fields that a command has options for."""


def reproducing(subject: Subject) -> tuple[str, ...]:
    """The command, where the study came from a file, and the call in Python."""
    made = subject.study.get("made_by")
    file = subject.text("file") or ("" if made else f"studies/{subject.constant('study')}.yaml")
    found = subject.study.get("overrides")
    overrides = {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}
    command = (_command(subject, file, overrides),) if file else ()
    study = _study(subject)
    return command if study is None else (*command, _call(subject, study, file, overrides, str(made or "")))


def _command(subject: Subject, file: str, overrides: Mapping[str, str]) -> str:
    words = ["groupwise", "estimate", file, "--as-of", subject.constant("as_of"), "--engine", subject.constant("engine")]
    if "publish_to" in overrides:
        words += ["--publish-to", subject.text("publish_to")]
    for field, value in overrides.items():
        words += ["--set", f"{field}={value}"] if field not in BY_OPTION else []
    return shlex.join(words)


def _call(subject: Subject, study: Study, file: str, overrides: Mapping[str, str], made: str) -> str:
    """In Python a field is overridden whole: of ``sampling.draws`` that is ``sampling``, as the run had it."""
    of_day = {"as_of": subject.constant("as_of")}
    if file:
        plain = study.model_dump(mode="json", exclude_none=False)
        changed = {
            "engine": study.engine,
            **{name: plain[name] for name in (field.partition(".")[0] for field in overrides) if name in plain},
        }
        return _python("gw.run", [repr(file)], changed | of_day)
    fields = study_fields(study)
    if made == "gw.fit":
        own = fields.pop("source")["parquet"]
        data = "data" if subject.study.get("in_memory") else repr(own[0] if len(own) == 1 else own)
        return _python("gw.fit", [repr(fields.pop("formula")), data], {"engine": study.engine} | fields | of_day)
    return _python("gw.run", [_python("gw.Study", [], fields, prefix="")], of_day)


def _python(function: str, arguments: list[str], fields: Mapping[str, Any], *, prefix: str = "import groupwise as gw\n\n") -> str:
    return f"{prefix}{function}({', '.join([*arguments, *(f'{name}={value!r}' for name, value in fields.items())])})"


def _study(subject: Subject) -> Study | None:
    """The study of the run; None of tables that came without one."""
    fields = {name: value for name, value in subject.study.items() if name in Study.model_fields}
    try:
        return study_from(fields, "report")
    except StudyError:
        return None
