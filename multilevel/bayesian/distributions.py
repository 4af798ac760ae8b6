"""The distributions a prior may have: written ``half_normal(2.5)``, evaluated in NumPy and PyTensor alike."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from multilevel.arrays import Floats
from multilevel.errors import StudyError

type Name = Literal["normal", "half_normal", "half_student_t", "half_cauchy", "exponential", "log_normal", "lkj"]

POSITIVE: Final = ("half_normal", "half_student_t", "half_cauchy", "exponential", "log_normal")
"""Distributions of a standard deviation or of another positive parameter."""

_ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "normal": ("location", "scale"),
    "half_normal": ("scale",),
    "half_student_t": ("degrees of freedom", "scale"),
    "half_cauchy": ("scale",),
    "exponential": ("mean",),
    "log_normal": ("location", "scale"),
    "lkj": ("eta",),
}
_MAY_BE_NEGATIVE: Final = {("normal", "location"), ("log_normal", "location")}
_WRITTEN: Final = re.compile(r"\s*([a-z_]+)\s*\(([^()]*)\)\s*")


@dataclass(frozen=True)
class Prior:
    """A distribution by name with its arguments, in the unit of its parameter (``exponential`` takes its mean)."""

    name: Name
    arguments: tuple[float, ...]

    def __str__(self) -> str:
        """As it is written in a study."""
        return f"{self.name}({', '.join(f'{value:.4g}' for value in self.arguments)})"

    def log_density(self, x: Any, xp: Any = np) -> Any:
        """Normalised log density at ``x`` > 0 (any x for ``normal``); ``xp`` is ``numpy`` or ``pytensor.tensor``."""
        return _LOG_DENSITY[self.name](x, xp, *self.arguments)

    def sample(self, size: int, rng: np.random.Generator) -> Floats:
        """(size,) draws."""
        return _SAMPLE[self.name](size, rng, *self.arguments)


def parse_prior(written: object, parameter: str, allowed: tuple[str, ...]) -> Prior:
    """Read ``"half_normal(2.5)"``.

    Raises
    ------
    StudyError
        Not text, not of the form ``name(numbers)``, a distribution that this parameter cannot have, a wrong number of arguments or a
        scale that is not positive; the message names the parameter, the value and what would be right.
    """
    choices = " or ".join(f"{name}({', '.join(_ARGUMENTS[name])})" for name in allowed)
    if not isinstance(written, str) or (match := _WRITTEN.fullmatch(written)) is None or match[1] not in allowed:
        raise StudyError(f"priors: {parameter} is {written!r}; write {choices}.")
    name: Any = match[1]
    try:
        values = tuple(float(part) for part in match[2].split(",")) if match[2].strip() else ()
    except ValueError:
        raise StudyError(f"priors: {parameter} is {written!r}; the arguments of {name} are numbers: {choices}.") from None
    names = _ARGUMENTS[name]
    if len(values) != len(names):
        raise StudyError(f"priors: {parameter} is {written!r}; {name} takes {len(names)} argument(s): {', '.join(names)}.")
    for argument, value in zip(names, values, strict=True):
        if not math.isfinite(value) or (value <= 0 and (name, argument) not in _MAY_BE_NEGATIVE):
            raise StudyError(f"priors: {parameter} is {written!r}; the {argument} of {name} is a finite number above zero.")
    return Prior(name, values)


def _normal(x: Any, xp: Any, location: float, scale: float) -> Any:
    return -0.5 * ((x - location) / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)


def _half_normal(x: Any, xp: Any, scale: float) -> Any:
    return -0.5 * (x / scale) ** 2 - math.log(scale) + 0.5 * math.log(2 / math.pi)


def _half_student_t(x: Any, xp: Any, df: float, scale: float) -> Any:
    constant = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi) - math.log(scale) + math.log(2)
    return constant - 0.5 * (df + 1) * xp.log1p((x / scale) ** 2 / df)


def _half_cauchy(x: Any, xp: Any, scale: float) -> Any:
    return math.log(2 / math.pi / scale) - xp.log1p((x / scale) ** 2)


def _exponential(x: Any, xp: Any, mean: float) -> Any:
    return -x / mean - math.log(mean)


def _log_normal(x: Any, xp: Any, location: float, scale: float) -> Any:
    return _normal(xp.log(x), xp, location, scale) - xp.log(x)


_LOG_DENSITY: Final[dict[str, Callable[..., Any]]] = {
    "normal": _normal,
    "half_normal": _half_normal,
    "half_student_t": _half_student_t,
    "half_cauchy": _half_cauchy,
    "exponential": _exponential,
    "log_normal": _log_normal,
}
_SAMPLE: Final[dict[str, Callable[..., Floats]]] = {
    "normal": lambda size, rng, location, scale: rng.normal(location, scale, size),
    "half_normal": lambda size, rng, scale: np.abs(rng.normal(0.0, scale, size)),
    "half_student_t": lambda size, rng, df, scale: scale * np.abs(rng.standard_t(df, size)),
    "half_cauchy": lambda size, rng, scale: scale * np.abs(rng.standard_cauchy(size)),
    "exponential": lambda size, rng, mean: rng.exponential(mean, size),
    "log_normal": lambda size, rng, location, scale: rng.lognormal(location, scale, size),
}
