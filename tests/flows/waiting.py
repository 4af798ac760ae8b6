"""Waiting for servers and runs that other processes start."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import pytest


def is_healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def wait_for[T](found: Callable[[], T], seconds: float, otherwise: str) -> T:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.5)
    pytest.fail(otherwise)
