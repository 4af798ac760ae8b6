"""What queries may take: memory, threads, and the folder for what does not fit.

The study's words come first, then the environment's, then what the container allows. None of it changes what is estimated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from multilevel.errors import ResourceError
from multilevel.machine import memory_bytes, processors
from multilevel.text import shorten

MEMORY, THREADS, SPILL = "GROUPWISE_MEMORY", "GROUPWISE_THREADS", "GROUPWISE_SPILL"
SIZE = re.compile(r"(?P<number>\d{1,15}(?:[.]\d{1,6})?)\s*(?P<unit>[KMGT]i?B?|B)?", re.IGNORECASE)
POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
LEAST_BYTES = 250_000_000
MOST_THREADS = 1_024
SIZE_WORDS = "write a size such as 4GB or 512MB (at least 250MB)"
QUERY_SHARE = 0.4
UNASKED_BYTES = 4_000_000_000
"""What queries take at most where nobody says what a run may take."""


@dataclass(frozen=True)
class Wishes:
    """What a study says its run may take: bytes of memory, threads, a folder to spill to. None: it does not say."""

    memory: int | None = None
    threads: int | None = None
    spill: str | None = None


NO_WISHES = Wishes()


@dataclass(frozen=True)
class Resources:
    """What a run may take: ``memory`` in bytes, ``query_memory`` the part of it that a query may; ``spill`` None: the run's own folder."""

    memory: int
    query_memory: int
    threads: int
    spill: Path | None


def resources(wishes: Wishes = NO_WISHES, environment: Mapping[str, str] | None = None) -> Resources:
    """What a run may take here and now.

    More memory than the machine or the container has is never promised: who asks for it is killed. A query gets 40 % of the memory, since
    Python, the other steps and what DuckDB does not count need room beside it; where nobody says how much there is, 4 GB at most.

    Raises
    ------
    ResourceError : a variable of the environment cannot be read.
    """
    environment = os.environ if environment is None else environment
    asked = wishes.memory if wishes.memory is not None else _of_environment(environment, MEMORY)
    there = memory_bytes()
    memory = there if asked is None else min(asked, there)
    query = int(QUERY_SHARE * memory)
    threads = wishes.threads if wishes.threads is not None else _of_environment(environment, THREADS)
    spill = wishes.spill if wishes.spill is not None else environment.get(SPILL) or None
    return Resources(
        memory,
        query if asked is not None else min(query, UNASKED_BYTES),
        threads if threads is not None else processors(),
        None if spill is None else Path(spill),
    )


def read_size(value: object) -> int:
    """Bytes of a size as people write it; K, M, G, T are powers of 1000, Ki and so on of 1024. ValueError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        found = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None:
            raise ValueError(SIZE_WORDS)
        unit = (found["unit"] or "").upper().removesuffix("B")
        size = int(float(found["number"]) * (1024 if unit.endswith("I") else 1000) ** POWERS[unit.removesuffix("I")])
    if size < LEAST_BYTES:
        raise ValueError(SIZE_WORDS)
    return size


def _of_environment(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    try:
        if name == MEMORY:
            return read_size(text)
        if not re.fullmatch(r"\d{1,4}", text) or not 1 <= int(text) <= MOST_THREADS:
            raise ValueError(f"write a whole number from 1 to {MOST_THREADS:,}")
        return int(text)
    except ValueError as error:
        raise ResourceError(f"{name}={shorten(text, 40)} (environment): {error}, or unset it.") from error
