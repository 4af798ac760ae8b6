"""Machine code for densities, made when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any


@cache
def compiled(function: Callable[..., Any], *helpers: Callable[..., Any]) -> Any:
    """Compile ``function`` and the module-level ``helpers`` that it calls with numba, whose cache lies next to their files.

    numba is imported here because it takes much longer to load than a family's file.
    """
    from numba import njit

    known = {helper.__name__: njit(cache=True, nogil=True)(helper) for helper in helpers}
    bound = FunctionType(function.__code__, {**function.__globals__, **known}, function.__name__)
    bound.__qualname__, bound.__module__ = function.__qualname__, function.__module__
    return njit(cache=True, nogil=True)(bound)
