"""Shops of few or small groups, for coverage: rows drawn with NumPy alone, and all that the tables, contrasts and predictions are of.

``estimate`` : what a level is expected to bring at the mix of all rows. ``new`` : the same of one more level. ``population`` : of a new
member. ``deviation``, ``coefficient`` : on the link scale. ``cell`` : two levels at the mix of all rows. ``prediction`` : a level's row at
x = 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

type Array = NDArray[np.float64]
type Key = tuple[str, ...]
type Codes = dict[str, NDArray[np.int64]]

MEMBERS, NODES = 5, 40


@dataclass(frozen=True)
class Side:
    """One linear predictor: an intercept, a slope (None without x), sds of intercepts and slopes by factor, and its inverse link."""

    intercept: float
    sds: dict[str, float]
    mean: Callable[[Array], Array]
    slope: float | None = None
    slope_sds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FewGroupDesign:
    """levels : by factor. sizes : rows of each level of the only factor, as drawn; or ``rows`` in all of crossed ones.

    scale : sigma, 1 / sqrt(phi), 1 / sqrt(shape); None without. member_sd : of members nested in the only factor's levels.
    """

    formula: str
    family: str
    levels: dict[str, int]
    sides: tuple[Side, ...]
    draw: Callable[[np.random.Generator, list[Array]], Array]
    scale: float | None
    sizes: Callable[[np.random.Generator], Array] | None = None
    rows: int = 0
    member_sd: float | None = None


@dataclass(frozen=True)
class FewGroupShop:
    """``truth`` : (kind, part or "", names ...) -> value."""

    design: FewGroupDesign
    frame: pd.DataFrame
    truth: dict[Key, float]


@dataclass(frozen=True)
class _Effects:
    """Of every side, by factor: (L,) intercepts and slopes; members' (M,) intercepts."""

    design: FewGroupDesign
    intercepts: list[dict[str, Array]]
    slopes: list[dict[str, Array]]
    members: Array

    def predictor(self, place: int, codes: Codes, x: Array) -> Array:
        side = self.design.sides[place]
        total = side.intercept + (side.slope or 0.0) * x
        for name, own in codes.items():
            total = total + (
                self.members[own] if name == "member" else self.intercepts[place][name][own] + self.slopes[place][name][own] * x
            )
        return total

    def expected(self, codes: Codes, x: Array) -> Array:
        found = np.ones(len(x))
        for place, side in enumerate(self.design.sides):
            found = found * side.mean(self.predictor(place, codes, x))
        return found

    def with_new(self, name: str, rng: np.random.Generator) -> _Effects:
        """One more level of a factor."""
        more = [
            ({**own, name: np.append(own[name], rng.normal(0, side.sds[name]))}, {**slope, name: np.append(slope[name], rng.normal(0, sd))})
            for side, own, slope in zip(self.design.sides, self.intercepts, self.slopes, strict=True)
            for sd in [side.slope_sds.get(name, 0.0)]
        ]
        return replace(self, intercepts=[first for first, _ in more], slopes=[second for _, second in more])


def few_group_shop(name: str, seed: int) -> FewGroupShop:
    """Shop number ``seed`` of a design."""
    design, rng = DESIGNS[name], np.random.default_rng([77, seed])
    codes = _codes(design, rng)
    n = len(next(iter(codes.values())))
    has_x = design.sides[0].slope is not None
    x = rng.integers(0, 3, n).astype(float) if has_x else np.zeros(n)
    intercepts = [{key: rng.normal(0, side.sds[key], size) for key, size in design.levels.items()} for side in design.sides]
    slopes = [{key: rng.normal(0, side.slope_sds.get(key, 0.0), size) for key, size in design.levels.items()} for side in design.sides]
    members = rng.normal(0, design.member_sd or 0.0, MEMBERS * design.levels.get("g", 0))
    effects = _Effects(design, intercepts, slopes, members)
    y = design.draw(rng, [effects.predictor(place, codes, x) for place in range(len(design.sides))])
    frame = pd.DataFrame({key: pd.Series(own).map("{:03d}".format) for key, own in codes.items()} | ({"x": x} if has_x else {}) | {"y": y})
    return FewGroupShop(design, frame, _truth(design, effects, codes, x, rng))


def _codes(design: FewGroupDesign, rng: np.random.Generator) -> Codes:
    if design.sizes is None:
        return {key: rng.integers(size, size=design.rows) for key, size in design.levels.items()}
    g = np.repeat(np.arange(design.levels["g"]), design.sizes(rng).astype(int))
    if design.member_sd is None:
        return {"g": g}
    return {"g": g, "member": MEMBERS * g + np.arange(len(g)) % MEMBERS}


def _truth(design: FewGroupDesign, effects: _Effects, codes: Codes, x: Array, rng: np.random.Generator) -> dict[Key, float]:
    found: dict[Key, float] = {}
    parts = ("",) if len(design.sides) == 1 else ("occurrence", "amount")
    for part, side, intercepts, slopes in zip(parts, design.sides, effects.intercepts, effects.slopes, strict=True):
        found["coefficient", part, "Intercept"] = side.intercept
        if side.slope is not None:
            found["coefficient", part, "x"] = side.slope
        for key in design.levels:
            for level in range(design.levels[key]):
                found["deviation", part, key, f"{level:03d}", "Intercept"] = float(intercepts[key][level])
                if key in side.slope_sds:
                    found["deviation", part, key, f"{level:03d}", "x"] = float(slopes[key][level])
    if design.member_sd is not None:
        return found | _of_members(design, effects, codes)
    for key, size in design.levels.items():
        for level in range(size):
            there = codes | {key: np.full(len(x), level)}
            found["estimate", "", key, f"{level:03d}"] = float(np.mean(effects.expected(there, x)))
        more = effects.with_new(key, rng)
        found["new", "", key] = float(np.mean(more.expected(codes | {key: np.full(len(x), size)}, x)))
    if len(design.levels) > 1:
        for g, h in np.ndindex(*design.levels.values()):
            there = {"g": np.full(len(x), g), "h": np.full(len(x), h)}
            found["cell", "", f"{g:03d}", f"{h:03d}"] = float(np.mean(effects.expected(there, x)))
    one = np.ones(1) if design.sides[0].slope is not None else np.zeros(1)
    for level in range(design.levels["g"]):
        there = {key: np.full(1, level if key == "g" else 0) for key in design.levels}
        found["prediction", "", f"{level:03d}"] = float(effects.expected(there, one)[0])
    return found


def _of_members(design: FewGroupDesign, effects: _Effects, codes: Codes) -> dict[Key, float]:
    """Estimates of the members that are there, and of a new member, whose effect is integrated."""
    [side] = design.sides
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    found: dict[Key, float] = {}
    expected = effects.expected(codes, np.zeros(len(codes["g"])))
    for level in range(design.levels["g"]):
        centre = side.intercept + effects.intercepts[0]["g"][level]
        of_new = side.mean(centre + (design.member_sd or 0.0) * nodes) @ weights / weights.sum()
        found["estimate", "", "g", f"{level:03d}"] = float(expected[codes["g"] == level].mean())
        found["population", "", "g", f"{level:03d}"] = float(of_new)
    return found


def _fixed(*sizes: int) -> Callable[[np.random.Generator], Array]:
    return lambda rng: np.array(sizes, float)


def _between(low: int, high: int, levels: int) -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.integers(low, high, levels).astype(float)


def _normal(sigma: float) -> Callable[[np.random.Generator, list[Array]], Array]:
    return lambda rng, eta: rng.normal(eta[0], sigma)


def _bought(rng: np.random.Generator, eta: list[Array]) -> Array:
    return (rng.random(len(eta[0])) < expit(eta[0])).astype(float)


def _overdispersed(phi: float) -> Callable[[np.random.Generator, list[Array]], Array]:
    return lambda rng, eta: rng.negative_binomial(phi, phi / (phi + np.exp(eta[0]))).astype(float)


def _gamma(shape: float) -> Callable[[np.random.Generator, list[Array]], Array]:
    return lambda rng, eta: rng.gamma(shape, np.exp(eta[-1]) / shape)


def _where_bought(amount: Callable[[np.random.Generator, list[Array]], Array]) -> Callable[[np.random.Generator, list[Array]], Array]:
    def draw(rng: np.random.Generator, eta: list[Array]) -> Array:
        paid = amount(rng, eta)
        return np.where(rng.random(len(paid)) < expit(eta[0]), paid, 0.0)

    return draw


def _identity(eta: Array) -> Array:
    return eta


def _of_log(sigma: float) -> Callable[[Array], Array]:
    return lambda eta: np.exp(eta + sigma**2 / 2.0)


ONE, CROSSED, SLOPES, NESTED = "y ~ 1 + (1 | g)", "y ~ 1 + (1 | g) + (1 | h)", "y ~ 1 + x + (1 + x | g)", "y ~ 1 + (1 | g/member)"
OCCURRENCE, AMOUNT = Side(0.3, {"g": 0.6}, expit), Side(1.0, {"g": 0.4}, np.exp)

DESIGNS = {
    "gaussian, 4 groups": FewGroupDesign(
        ONE, "gaussian", {"g": 4}, (Side(1.0, {"g": 0.7}, _identity),), _normal(1.0), 1.0, _fixed(3, 6, 30, 60)
    ),
    "gaussian, 15 groups of 1 to 8 rows, slopes": FewGroupDesign(
        SLOPES, "gaussian", {"g": 15}, (Side(1.0, {"g": 0.7}, _identity, 0.5, {"g": 0.4}),), _normal(1.0), 1.0, _between(1, 9, 15)
    ),
    "gaussian, 12 x 5 crossed": FewGroupDesign(
        CROSSED, "gaussian", {"g": 12, "h": 5}, (Side(1.0, {"g": 0.6, "h": 0.6}, _identity),), _normal(1.0), 1.0, rows=150
    ),
    "gaussian, 12 groups of 5 members": FewGroupDesign(
        NESTED, "gaussian", {"g": 12}, (Side(1.0, {"g": 0.6}, _identity),), _normal(1.0), 1.0, _fixed(*[20] * 12), member_sd=0.6
    ),
    "negative binomial, 15 groups, mean 0.3": FewGroupDesign(
        ONE,
        "negative_binomial",
        {"g": 15},
        (Side(float(np.log(0.3)), {"g": 0.5}, np.exp),),
        _overdispersed(1.5),
        1.5**-0.5,
        _between(3, 30, 15),
    ),
    "rare binomial, 15 x 4": FewGroupDesign(
        CROSSED, "binomial", {"g": 15, "h": 4}, (Side(-2.5, {"g": 0.6, "h": 0.6}, expit),), _bought, None, rows=600
    ),
    "binomial, 4 groups": FewGroupDesign(
        ONE, "binomial", {"g": 4}, (Side(-1.0, {"g": 0.6}, expit),), _bought, None, _fixed(5, 10, 40, 100)
    ),
    "binomial, 12 groups of 5 members": FewGroupDesign(
        NESTED, "binomial", {"g": 12}, (Side(-0.5, {"g": 0.6}, expit),), _bought, None, _fixed(*[60] * 12), member_sd=0.8
    ),
    "Poisson, slopes, 15 groups": FewGroupDesign(
        SLOPES,
        "poisson",
        {"g": 15},
        (Side(0.3, {"g": 0.5}, np.exp, 0.2, {"g": 0.3}),),
        lambda rng, eta: rng.poisson(np.exp(eta[0])).astype(float),
        None,
        _between(1, 9, 15),
    ),
    "gamma, 12 groups": FewGroupDesign(
        ONE, "gamma", {"g": 12}, (Side(1.0, {"g": 0.4}, np.exp),), _gamma(2.0), 2.0**-0.5, _between(2, 15, 12)
    ),
    "log(y), 12 groups": FewGroupDesign(
        "log(y) ~ 1 + (1 | g)",
        "gaussian",
        {"g": 12},
        (Side(1.0, {"g": 0.4}, _of_log(0.6)),),
        lambda rng, eta: np.exp(rng.normal(eta[0], 0.6)),
        0.6,
        _between(2, 15, 12),
    ),
    "hurdle_gamma, 12 groups": FewGroupDesign(
        ONE,
        "hurdle_gamma",
        {"g": 12},
        (OCCURRENCE, Side(1.0, {"g": 0.4}, np.exp)),
        _where_bought(_gamma(2.0)),
        2.0**-0.5,
        _between(4, 25, 12),
    ),
    "hurdle_lognormal, 12 groups": FewGroupDesign(
        ONE,
        "hurdle_lognormal",
        {"g": 12},
        (OCCURRENCE, Side(1.0, {"g": 0.4}, _of_log(0.6))),
        _where_bought(lambda rng, eta: np.exp(rng.normal(eta[1], 0.6))),
        0.6,
        _between(4, 25, 12),
    ),
}
