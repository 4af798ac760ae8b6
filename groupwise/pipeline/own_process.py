"""A run in its own process: the same steps, retries and time limits as a flow run, and no server."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import date
from typing import Any

from groupwise.pipeline.attempts import attempts
from groupwise.pipeline.cluster import cluster_threads, on_cluster, scheduler_of
from groupwise.pipeline.order import Ended, run_steps
from groupwise.pipeline.step import Step
from groupwise.pipeline.steps import EXTRACT, FIT, PUBLISH
from groupwise.progress import RunProgress
from groupwise.study.study import Study

logger = logging.getLogger("groupwise.run")


def nothing() -> None:
    """There is nothing to be done ahead."""


def run_here(
    folder: str,
    as_of: date | None,
    today: date,
    progress: RunProgress,
    *,
    ahead: Callable[[], None] = nothing,
    publish: Callable[[str], str] | None = None,
) -> Ended:
    """Run the steps of the run in ``folder`` in this process. Raises what a step raises.

    Parameters
    ----------
    progress : told of every step as it begins and ends.
    ahead : called once it is known that something has to be run.
    publish : runs the step that publishes, in another process; None for this one.
    """
    # one place, for the record beside the fit
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="beside") as beside:
        return run_steps(_Here(progress, beside, ahead, publish), folder, as_of, today)


@dataclass(frozen=True)
class _Pending:
    future: Future[Any]

    def wait(self) -> None:
        wait([self.future])

    def result(self) -> Any:
        return self.future.result()


class InTurn:
    """Calls a step in this process, or on the cluster that the study or the environment names."""

    def workers(self, study: Study) -> int:
        """One here, since DuckDB runs its own threads."""
        address = scheduler_of(study)
        return 1 if address is None else cluster_threads(address)

    def map(self, study: Study, step: Step, arguments: Sequence[str]) -> list[Any]:
        """The results, in order."""
        address = scheduler_of(study)
        return [attempts(step, argument) for argument in arguments] if address is None else on_cluster(address, step, arguments)


@dataclass(frozen=True)
class _Here:
    progress: RunProgress
    beside: ThreadPoolExecutor
    ahead: Callable[[], None]
    publish: Callable[[str], str] | None

    def call(self, step: Step, *arguments: Any) -> Any:
        began = time.monotonic()
        if step.name == EXTRACT.name:
            self.ahead()
        self.progress.begin(step.name, step.title)
        if step.name == PUBLISH.name:
            result: Any = self._published(*arguments)
        else:
            result = attempts(step, *arguments, *((self.progress.share,) if step.name == FIT.name else ()))
        self.progress.end(step.name)
        logger.info("%s: done in %.1f s", step.title, time.monotonic() - began)
        return result

    def _published(self, folder: str) -> str:
        return str(attempts(PUBLISH, folder).folder) if self.publish is None else self.publish(folder)

    def workers(self, study: Study) -> int:
        return InTurn().workers(study)

    def map(self, study: Study, step: Step, arguments: Sequence[str]) -> list[Any]:
        began = time.monotonic()
        self.progress.begin(step.name, step.title)
        results = InTurn().map(study, step, arguments)
        self.progress.end(step.name)
        logger.info("%s: done in %.1f s, %d jobs", step.title, time.monotonic() - began, len(arguments))
        return results

    def start(self, step: Step, *arguments: Any) -> _Pending:
        return _Pending(self.beside.submit(attempts, step, *arguments))
