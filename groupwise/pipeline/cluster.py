"""Jobs on the workers of a Dask cluster: each reads its own partitions with DuckDB, and sends back statistics.

Dask is asked for a result of every job; a worker that is lost has its jobs done by another. Nothing of a job is written but by the run that
asked for it, so that one that is done twice does no harm.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from groupwise.pipeline.attempts import attempts
from groupwise.pipeline.step import Step
from groupwise.pipeline.steps import CONDENSE, COUNT
from groupwise.study.study import Study
from multilevel.errors import ResourceError

SCHEDULER = "GROUPWISE_DASK"
CONNECT_SECONDS = 30
JOBS_A_THREAD = 2
"""So that a worker that is lost, or slow, leaves little to be done again."""
STEPS = {step.name: step for step in (COUNT, CONDENSE)}


def scheduler_of(study: Study) -> str | None:
    """The address of the scheduler whose workers make the statistics of partitions; None: this process does."""
    return (study.statistics.workers if study.statistics else None) or os.environ.get(SCHEDULER) or None


def cluster_threads(address: str) -> int:
    """How many jobs are asked for, so that every thread of every worker has some; ResourceError where there is no worker."""
    with _client(address) as client:
        threads = sum(int(worker["nthreads"]) for worker in client.scheduler_info(n_workers=-1)["workers"].values())
    if not threads:
        raise ResourceError(f"the Dask scheduler at {address} has no workers; start some (dask worker {address}).")
    return JOBS_A_THREAD * threads


def on_cluster(address: str, step: Step, jobs: Sequence[str]) -> list[Any]:
    """The step's result for every job, in order.

    Raises
    ------
    ResourceError : the cluster cannot be reached, or lost a worker over one job more often than it allows. Any error of the step itself.
    """
    from distributed import KilledWorker, wait

    with _client(address) as client:
        futures = client.map(_answer, [step.name] * len(jobs), jobs, pure=False)
        wait(futures)
        # the state of every one is looked at, and its error raised here
        failed = [future for future in futures if future.status != "finished"]
        for future in failed:
            error = future.exception()
            if isinstance(error, KilledWorker):
                raise ResourceError(f"{step.title}: the cluster at {address} lost its workers over one job: {error}") from error
            if isinstance(error, BaseException):
                raise error
            raise ResourceError(f"{step.title}: a job at {address} is {future.status}; start the run again.")
        return list(client.gather(futures))


def _answer(name: str, job: str) -> Any:
    """What a worker does."""
    return attempts(STEPS[name], job)


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ResourceError(
            f"workers at {address}: the library of Dask is not installed: pip install 'groupwise[dask]', here and on the workers."
        ) from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ResourceError(f"workers at {address}: no Dask scheduler answers there within {CONNECT_SECONDS} s ({error}).") from error
    with client, client.as_current():
        yield client
