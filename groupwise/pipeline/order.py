"""The order of a run's steps, the same for a run in its own process and for a flow run: only how a step is called differs."""

from __future__ import annotations

from datetime import date
from typing import Any, Protocol

from groupwise.pipeline.step import Step
from groupwise.pipeline.steps import CHECK, COMPRESS, EXTRACT, FIT, PUBLISH, RECORD, VALIDATE
from groupwise.supervision.news import tell


class Pending(Protocol):
    """A step that goes on beside the others."""

    def wait(self) -> None:
        """Return once it has ended, well or not."""

    def result(self) -> Any:
        """Its result; raises its error."""


class Caller(Protocol):
    """Calls steps, with their retries and time limits."""

    def call(self, step: Step, *arguments: Any) -> Any:
        """The step's result; raises its error once no further attempt is due."""

    def start(self, step: Step, *arguments: Any) -> Pending:
        """Start the step beside the ones that follow."""


def run_steps(caller: Caller, folder: str, as_of: date | None, today: date) -> str:
    """Every step of a run whose folder holds the study: the published folder.

    Parameters
    ----------
    folder : path of the run's folder. as_of : the day that the estimates speak for; None: what the study says. today : the day of the run.
    """
    tell(step=EXTRACT.name)
    caller.call(EXTRACT, folder, as_of, today)
    tell(step=VALIDATE.name)
    caller.call(VALIDATE, folder)
    recorded = caller.start(RECORD, folder)
    try:
        for step in (COMPRESS, FIT, CHECK):
            tell(step=step.name)
            caller.call(step, folder)
    finally:
        recorded.wait()
    recorded.result()
    tell(step=PUBLISH.name)
    published = str(caller.call(PUBLISH, folder))
    tell(published=published)
    return published
