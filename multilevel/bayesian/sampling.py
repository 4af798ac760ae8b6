"""How to sample: a study's ``sampling:`` mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from multilevel.errors import StudyError
from multilevel.machine import processors

type Form = Literal["auto", "collapsed", "importance", "nuts"]

FORMS = ("auto", "collapsed", "importance", "nuts")

_LEAST = {"draws": 100, "chains": 2, "tune": 100, "cores": 1}


@dataclass(frozen=True)
class Sampling:
    """draws and tune are per chain; cores None is all, up to four.

    ``form`` auto is importance where a table of draws of every level is not small; where it is, collapsed for gaussian and NUTS for the
    other families. ``tune`` is not used by the collapsed form, nor draws and chains by importance points, unless those fail.
    """

    draws: int = 1000
    chains: int = 4
    tune: int = 500
    form: Form = "auto"
    cores: int | None = None

    @property
    def threads(self) -> int:
        """Threads to sample on."""
        return self.cores or max(1, min(self.chains, processors(), 4))


def read_sampling(written: Sampling | Mapping[str, object] | None) -> Sampling:
    """Read a study's ``sampling:`` mapping.

    Raises
    ------
    StudyError
        An unknown key, a number that is not whole or too small, or a form that does not exist.
    """
    if isinstance(written, Sampling):
        return written
    if written is not None and not isinstance(written, Mapping):
        raise StudyError(f"sampling: {written!r} is not a mapping; write for example {{draws: 2000, chains: 4}}.")
    given: dict[str, Any] = {str(key): value for key, value in (written or {}).items() if value is not None}
    known = [field.name for field in fields(Sampling)]
    for key, value in given.items():
        if key not in known:
            raise StudyError(f"sampling: there is no {key!r}; the keys are {', '.join(known)}.")
        if key in _LEAST and (isinstance(value, bool) or not isinstance(value, int) or value < _LEAST[key]):
            raise StudyError(f"sampling: {key} is {value!r}; it is a whole number of at least {_LEAST[key]}.")
    if given.get("form", "auto") not in FORMS:
        raise StudyError(f"sampling: form is {given['form']!r}; it is auto, collapsed, importance or nuts.")
    return replace(Sampling(), **given)
