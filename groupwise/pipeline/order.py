"""The order of a run's steps, the same for a run in its own process and for a flow run: only how a step is called differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol

from groupwise.pipeline.step import Step
from groupwise.pipeline.steps import CHECK, COMPRESS, CONDENSE, COUNT, EXTRACT, FIT, LOOK, PUBLISH, RECORD, VALIDATE
from groupwise.run_folder import RunFolder
from groupwise.statistics.gather import Ask, gather_cells, gather_facts
from groupwise.statistics.job import Job, Statistics, divided
from groupwise.study.study import Study
from groupwise.supervision.news import tell


class Pending(Protocol):
    """A step that goes on beside the others."""

    def wait(self) -> None:
        """Return once it has ended, well or not."""

    def result(self) -> Any:
        """Its result; raises its error."""


class Mapper(Protocol):
    """Calls a step once for every argument."""

    def workers(self, study: Study) -> int:
        """How many arguments are worked at a time."""

    def map(self, study: Study, step: Step, arguments: Sequence[str]) -> list[Any]:
        """The results in the order of the arguments; raises the error of one of them."""


class Caller(Mapper, Protocol):
    """Calls steps, with their retries and time limits."""

    def call(self, step: Step, *arguments: Any) -> Any:
        """The step's result; raises its error once no further attempt is due."""

    def start(self, step: Step, *arguments: Any) -> Pending:
        """Start the step beside the ones that follow."""


@dataclass(frozen=True)
class Ended:
    """How a run ended well: ``published`` is the version's folder, which an earlier run has made where the run is ``unchanged``."""

    published: str
    unchanged: bool

    @property
    def run_id(self) -> str:
        """The run that published the version."""
        return self.published.rstrip("/").rpartition("rev=")[2]


def run_steps(caller: Caller, folder: str, as_of: date | None, today: date) -> Ended:
    """Every step of a run whose folder holds the study, up to its version; none further where that is there already.

    Parameters
    ----------
    folder : path of the run's folder. as_of : the day that the estimates speak for; None: what the study says. today : the day of the run.
    """
    for step in (LOOK, EXTRACT):
        tell(step=step.name)
        already = caller.call(step, folder, as_of, today)
        if already is not None:
            tell(published=already)
            return Ended(already, unchanged=True)
    run = RunFolder(Path(folder))
    gather_facts(run, asking(caller, COUNT))
    tell(step=VALIDATE.name)
    caller.call(VALIDATE, folder)
    recorded = caller.start(RECORD, folder)
    try:
        gather_cells(run, asking(caller, CONDENSE))
        for step in (COMPRESS, FIT, CHECK):
            tell(step=step.name)
            caller.call(step, folder)
    finally:
        recorded.wait()
    recorded.result()
    tell(step=PUBLISH.name)
    published = str(caller.call(PUBLISH, folder))
    tell(published=published)
    return Ended(published, unchanged=False)


def asking(caller: Mapper, step: Step) -> Ask:
    """Has jobs done by the step."""

    def ask(job: Job) -> list[Statistics]:
        tell(step=step.name)
        jobs = divided(job, caller.workers(job.study))
        return caller.map(job.study, step, [one.to_json() for one in jobs])

    return ask
