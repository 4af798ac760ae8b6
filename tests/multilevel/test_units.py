"""No published number depends on the unit of a column, nor on its distance from zero, except as arithmetic says that it must.

The tables of a study are made twice, from the same rows in other units, and every column of every table is compared. What a shift of a
predictor must change (the intercepts, at another place then) is computed from the tables themselves where they say enough.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options

AS_OF = datetime.date(2026, 11, 1)

# a Wald number is a function of the optimum, found to about 1e-8; of a profile the limits are found to 1e-7 of their distance
CLOSE = 1e-6
CLOSE_INTERVALS = 1e-4

NO_DISPERSION = 1e8

SHAPES = {
    "intercept": "{y} ~ 1 + (1 | g)",
    "predictor": "{y} ~ 1 + x + (1 | g)",
    "slope": "{y} ~ 1 + x + (1 + x | g)",
    "uncorrelated": "{y} ~ 1 + x + (1 + x || g)",
    "crossed": "{y} ~ 1 + x + w + (1 + x | g) + (1 | h)",
    "nested": "{y} ~ 1 + x + (1 | h/g)",
    "interaction": "{y} ~ 1 + x * w + size + x:size + (1 + x | g)",
    "group_level": "{y} ~ 1 + x + u + (1 | g)",
    "split": "{y} ~ 1 + within(x, g) + between(x, g) + (1 | g)",
    "no_average": "{y} ~ 1 + w + (1 + x | g)",
}

OUTCOMES = {
    "gaussian": ("gaussian", "y"),
    "lognormal": ("gaussian", "log(e)"),
    "gamma": ("gamma", "e"),
    "poisson": ("poisson", "k"),
    "negative_binomial": ("negative_binomial", "k"),
    "binomial": ("binomial", "b"),
    "hurdle_gamma": ("hurdle_gamma", "z"),
    "hurdle_lognormal": ("hurdle_lognormal", "z"),
}


@dataclass(frozen=True)
class Change:
    """x becomes ``x_shift + x_unit x``; the outcome ``y_shift + y_unit y``."""

    x_unit: float = 1.0
    x_shift: float = 0.0
    y_unit: float = 1.0
    y_shift: float = 0.0

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(
            x=self.x_shift * self.x_unit + self.x_unit * frame.x,
            y=self.y_shift * self.y_unit + self.y_unit * frame.y,
            e=self.y_unit * frame.e,
            z=self.y_unit * frame.z,
        )


def rows(n: int = 240, seed: int = 11) -> pd.DataFrame:
    """x takes few values, w many; u belongs to the groups; y is normal, e and z (with zeros) are positive, k counts, b is true or false."""
    rng = np.random.default_rng(seed)
    g, h, x, w = np.arange(n) % 8, (np.arange(n) % 8) // 2, rng.choice([0.8, 1.2, 1.6, 2.0, 2.4], n), rng.normal(2, 1, n).round(1)
    u, level, slope = rng.normal(size=8).round(2), rng.normal(0, 0.8, 8), rng.normal(0, 0.7, 8)
    eta = 0.5 + 0.8 * x + 0.2 * w + 0.5 * u[g] + level[g] + slope[g] * (x - 1.6)
    y = eta + rng.normal(0, 0.7, n)
    e = rng.gamma(3.0, np.exp(eta / 2) / 3.0)
    return pd.DataFrame(
        {
            "g": [f"g{i}" for i in g],
            "h": [f"h{i}" for i in h],
            "size": rng.choice(["L", "M"], n),
            "x": x,
            "w": w,
            "u": u[g],
            "y": y,
            "e": e,
            "z": e * (rng.random(n) < 0.7),
            "k": rng.poisson(np.exp(eta / 2)),
            "b": rng.random(n) < 1 / (1 + np.exp(-(eta - 2.5))),
        }
    )


@cache
def plain(shape: str, outcome: str) -> StudyFit:
    """In the units of ``rows``."""
    return study(shape, outcome, Change())


def study(shape: str, outcome: str, change: Change, **options: object) -> StudyFit:
    family, response = OUTCOMES[outcome]
    formula = parse_formula(SHAPES[shape].format(y=response))
    given: dict[str, object] = {"engine": "likelihood", "seed": 1} | options
    return fit_study(formula, cells_from_frame(formula, change.of(rows()), family), fit_options("units", AS_OF, "run", **given))


def table(fit: StudyFit, name: str) -> pd.DataFrame:
    return pd.DataFrame(fit.tables[name].to_pylist(), columns=fit.tables[name].schema.names)


def powers_of_x(terms: pd.Series) -> np.ndarray:
    """How often x is in a term."""
    return terms.map(lambda term: sum(part == "x" or part.startswith(("within(x", "between(x")) for part in term.split(":"))).to_numpy()


def same(new: object, old: object, close: float, what: str, floor: float = 0.0) -> None:
    one, other = np.asarray(new, dtype=float), np.asarray(old, dtype=float)
    np.testing.assert_array_equal(np.isnan(one), np.isnan(other), err_msg=what)
    np.testing.assert_allclose(one, other, rtol=close, atol=close * floor, err_msg=what)


def check(before: StudyFit, after: StudyFit, change: Change, outcome: str, close: float = CLOSE, close_intervals: float = CLOSE) -> None:
    """Every column of every table."""
    is_linear = outcome == "gaussian"
    coefficient = change.y_unit if is_linear else 1.0
    moved = np.log(change.y_unit) if outcome in ("lognormal", "gamma", "hurdle_gamma", "hurdle_lognormal") else 0.0
    y_shift = change.y_shift * change.y_unit if is_linear else 0.0
    check_population(before, after, change, coefficient, y_shift, moved, close, close_intervals)
    check_components(before, after, change, coefficient, close, close_intervals)
    check_groups(before, after, change, coefficient, y_shift, moved, close)
    check_estimates(before, after, change, outcome, close)
    check_diagnostics(before, after)


def check_population(
    before: StudyFit,
    after: StudyFit,
    change: Change,
    coefficient: float,
    y_shift: float,
    moved: float,
    close: float,
    close_intervals: float,
) -> None:
    old, new = table(before, "population_coefficients"), table(after, "population_coefficients")
    for name in ("pooling", "part", "term", "kind", "grouping_factor"):
        assert new[name].tolist() == old[name].tolist()
    unit = coefficient / change.x_unit ** powers_of_x(old.term)
    has_x = {(p, part) for p, part, power in zip(old.pooling, old.part, powers_of_x(old.term), strict=True) if power}
    depends = change.x_shift != 0 and bool(has_x)
    still = ~((old.term == "Intercept") | old.term.isin(margins(old.term))) if depends else np.ones(len(old), dtype=bool)
    at_zero = (old.term == "Intercept") & ~((old.part == "occurrence") & (old.part.notna()))
    shift = np.where(at_zero, y_shift + moved, 0.0)
    scale = np.abs(old.std_error)
    for name in ("estimate", "std_error", "lower", "upper", "degrees_of_freedom", "estimate_without_group_predictors"):
        own_unit = np.where(name == "degrees_of_freedom", 1.0, unit)
        own_shift = 0.0 if name in ("std_error", "degrees_of_freedom") else shift
        back = (new[name].astype(float) - own_shift) / own_unit
        bound = close_intervals if name in ("lower", "upper") else close
        rounding = np.abs(own_shift / own_unit) * 1e-15 if np.ndim(own_shift) else 0.0
        there = still & old[name].notna() & (pd.isna(old.estimate_without_group_predictors) | ~depends | (name[-1] != "s"))
        floor = np.where(name == "degrees_of_freedom", 1.0, scale)
        differ = np.abs(back - old[name].astype(float))[there]
        allowed = (bound * (np.abs(old[name].astype(float)) + floor) + rounding)[there]
        assert new[name].isna().tolist() == old[name].isna().tolist(), name
        assert (differ <= allowed).all(), (
            name,
            old.term[there][differ > allowed].tolist(),
            back[there].tolist(),
            old[name][there].tolist(),
        )


def margins(terms: pd.Series) -> list[str]:
    """Terms that stand beside their own product with x: their coefficients are at x = 0."""
    with_x = [term for term, power in zip(terms, powers_of_x(terms), strict=True) if power]
    return [":".join(part for part in term.split(":") if part != "x") for term in with_x]


def check_components(before: StudyFit, after: StudyFit, change: Change, coefficient: float, close: float, close_intervals: float) -> None:
    old, new = table(before, "variance_components"), table(after, "variance_components")
    for found in (old, new):
        # such counts are Poisson's, and the likelihood no longer tells one phi from another
        found.loc[(found.term == "phi") & (found.estimate > NO_DISPERSION), "estimate"] = np.inf
    for name in ("grouping_factor", "term", "other_term", "quantity"):
        assert new[name].tolist() == old[name].tolist()
    is_sd = (old.quantity == "sd").to_numpy() & ~old.term.isin(["phi", "shape"]).to_numpy()
    unit = np.where(is_sd, coefficient / change.x_unit ** powers_of_x(old.term), 1.0)
    sloped = set(old.grouping_factor[powers_of_x(old.term) > 0]) if change.x_shift else set()
    still = ~(old.grouping_factor.isin(sloped) & ((old.term == "Intercept") | (old.other_term == "Intercept"))).to_numpy()
    for name in ("estimate", "std_error", "lower", "upper", "estimate_without_group_predictors"):
        same(new[name][still] / unit[still], old[name][still], close_intervals if name in ("lower", "upper") else 10 * close, name, 1e-3)
    for name in ("variance_share", "r_squared", "pooling_factor"):
        keep = np.ones(len(old), dtype=bool) if name == "variance_share" else still
        same(new[name][keep], old[name][keep], 10 * close, name, 1.0)


def check_groups(before: StudyFit, after: StudyFit, change: Change, coefficient: float, y_shift: float, moved: float, close: float) -> None:
    old, new = table(before, "group_coefficients"), table(after, "group_coefficients")
    for name in ("grouping_factor", "level", "parent_level", "term", "n", "is_new"):
        pd.testing.assert_series_equal(new[name], old[name])
    unit = coefficient / change.x_unit ** powers_of_x(old.term)
    # where x is in the model at all, an intercept is at x = 0
    with_x = powers_of_x(table(before, "population_coefficients").term).any() or powers_of_x(old.term).any()
    still = ~((old.term == "Intercept") & with_x).to_numpy() if change.x_shift else np.ones(len(old), dtype=bool)
    shift = np.where((old.term == "Intercept") & (old.part != "occurrence"), y_shift + moved, 0.0)
    for name in ("estimate", "std_error", "lower", "upper", "fitted_value"):
        own = 0.0 if name == "std_error" else shift
        same(((new[name] - own) / unit)[still], old[name][still], close, name, float(old.std_error.max()) + np.abs(own / unit).max() * 1e-9)
    slopes = set(old.grouping_factor[powers_of_x(old.term) > 0])
    still = ~((old.term == "Intercept") & old.grouping_factor.isin(slopes)).to_numpy() if change.x_shift else still
    for name in ("deviation", "deviation_std_error", "deviation_lower", "deviation_upper", "conditional_sd"):
        same((new[name] / unit)[still], old[name][still], 10 * close, name, float(old.deviation_std_error.max()))
    for name in ("shrinkage", "probability_above_average"):
        same(new[name][still], old[name][still], 10 * close, name, 1.0)


def check_estimates(before: StudyFit, after: StudyFit, change: Change, outcome: str, close: float) -> None:
    unit = change.y_unit if outcome not in ("poisson", "negative_binomial", "binomial") else 1.0
    shift = change.y_shift * change.y_unit if outcome == "gaussian" else 0.0
    for which in ("group_estimates", "cell_estimates"):
        old, new = table(before, which), table(after, which)
        assert len(old) == len(new)
        for name in old.columns:
            if name == "run_id" or not pd.api.types.is_float_dtype(old[name]) or old[name].isna().all():
                assert new[name].tolist() == old[name].tolist() or old[name].isna().all(), name
                continue
            if name.startswith("rank"):
                same(new[name], old[name], 0.0, name)
                continue
            if name == "probability_above_average":
                same(new[name], old[name], 10 * close, name, 1.0)
                continue
            own = 0.0 if name.endswith("std_error") else shift
            same((new[name] - own) / unit, old[name], 10 * close, f"{which}.{name}", float(old[name].abs().mean()) + abs(own / unit) * 1e-9)


def check_diagnostics(before: StudyFit, after: StudyFit) -> None:
    old, new = (table(fit, "diagnostics").set_index("check") for fit in (before, after))
    # what is said of the distance from zero is about that; a row that says it of one fit says something else, or nothing, of the other
    about = {name for found in (old, new) for name in found.index[found.message.str.contains("so far from 0")]}
    old, new = (found[~(found.index.str.startswith("far_from_zero") | found.index.isin(about))] for found in (old, new))
    assert new.index.tolist() == old.index.tolist()
    assert new.passed.tolist() == old.passed.tolist(), new[new.passed != old.passed].message.tolist()


UNITS = [1e-9, 1e-6, 1e-3, 1e3, 1e6, 1e9]
SHIFTS = [1e3, 1e6, 1e8]
FEW = [Change(x_unit=1e9), Change(x_unit=1e-9), Change(x_shift=1e8), Change(y_unit=1e-9, y_shift=1e8), Change(y_unit=1e9)]
MANY = [
    *(Change(x_unit=unit) for unit in UNITS),
    *(Change(x_shift=shift) for shift in SHIFTS),
    *(Change(y_unit=unit, y_shift=shift) for unit, shift in zip(UNITS, [0.0, 1e3, 1e6, 1e8, 0.0, 1e3], strict=True)),
    *(Change(y_unit=unit) for unit in UNITS),
]


def changes_of(outcome: str, changes: list[Change], shape: str = "slope") -> list[Change]:
    """Those that the model allows: counts have no unit, only a normal outcome may be moved, and x only beside a correlation."""
    if shape in ("uncorrelated", "no_average"):
        changes = [change for change in changes if not change.x_shift]
    if outcome in ("poisson", "negative_binomial", "binomial"):
        return [change for change in changes if change.y_unit == 1.0 and not change.y_shift]
    return [change for change in changes if outcome == "gaussian" or not change.y_shift]


def named(change: Change) -> str:
    return ",".join(f"{name}={value:g}" for name, value in vars(change).items() if value != Change.__dataclass_fields__[name].default)


@pytest.mark.parametrize("change", FEW, ids=named)
@pytest.mark.parametrize("shape", ["slope", "interaction", "split"])
def test_tables_of_a_normal_outcome_do_not_depend_on_units(shape: str, change: Change) -> None:
    check(plain(shape, "gaussian"), study(shape, "gaussian", change), change, "gaussian")


@pytest.mark.parametrize(
    "outcome", ["poisson", *(pytest.param(outcome, marks=pytest.mark.parity) for outcome in ("gamma", "binomial", "lognormal"))]
)
@pytest.mark.parity
def test_tables_of_every_other_family_do_not_depend_on_units(outcome: str) -> None:
    before = study("slope", outcome, Change())
    for change in changes_of(outcome, [Change(x_unit=1e9), Change(x_shift=1e8), Change(y_unit=1e-6)]):
        check(before, study("slope", outcome, change), change, outcome, close_intervals=CLOSE_INTERVALS)


@pytest.mark.parity
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_tables_do_not_depend_on_units_whatever_the_model(outcome: str, shape: str) -> None:
    before = study(shape, outcome, Change())
    for change in changes_of(outcome, MANY, shape):
        check(before, study(shape, outcome, change), change, outcome, 10 * CLOSE, CLOSE_INTERVALS)


FEWEST = {"draws": 200, "chains": 2, "tune": 150}


@pytest.mark.parametrize(
    "change",
    [pytest.param(Change(x_shift=1e8), marks=pytest.mark.parity), Change(x_unit=1e9, y_unit=1e-9, y_shift=1e8)],
    ids=named,
)
@pytest.mark.parity
def test_a_collapsed_posterior_has_the_same_draws_in_every_unit(change: Change) -> None:
    options = {"engine": "bayesian", "sampling": FEWEST}
    check(study("slope", "gaussian", Change(), **options), study("slope", "gaussian", change, **options), change, "gaussian")


@pytest.mark.parity
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("outcome", ["gaussian", "poisson", "binomial", "gamma"])
def test_nuts_has_the_same_draws_in_every_unit(outcome: str) -> None:
    options = {"engine": "bayesian", "sampling": FEWEST | {"form": "nuts"}}
    before = study("slope", outcome, Change(), **options)
    for change in changes_of(outcome, [Change(x_unit=1e9), Change(x_shift=1e8)]):
        # a trajectory magnifies rounding: the same draws, to fewer digits
        check(before, study("slope", outcome, change, **options), change, outcome, 1e-3, 1e-2)


FAR = Change(x_unit=1e-9, x_shift=1e8, y_unit=1e9, y_shift=1e8)


@pytest.mark.parity
def test_a_bootstrap_draws_the_same_outcomes_in_every_unit() -> None:
    options = {"intervals": "bootstrap", "bootstrap_samples": 12}
    before = study("slope", "gaussian", Change(), **options)
    check(before, study("slope", "gaussian", FAR, **options), FAR, "gaussian", close_intervals=CLOSE_INTERVALS)


@pytest.mark.parity
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("shape", ["crossed", "uncorrelated", "interaction", "split"])
def test_bootstraps_of_other_models_do_not_depend_on_units(shape: str) -> None:
    options = {"intervals": "bootstrap", "bootstrap_samples": 24}
    before = study(shape, "gaussian", Change(), **options)
    for change in changes_of("gaussian", [*FEW, Change(x_unit=1e-9, y_unit=1e-9), FAR], shape):
        check(before, study(shape, "gaussian", change, **options), change, "gaussian", close_intervals=CLOSE_INTERVALS)


@pytest.mark.parity
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("intervals", ["profile", "bootstrap"])
@pytest.mark.parametrize("outcome", ["gaussian", "binomial"])
def test_other_intervals_do_not_depend_on_units(outcome: str, intervals: str) -> None:
    options = {"intervals": intervals, "bootstrap_samples": 20}
    before = study("slope", outcome, Change(), **options)
    for change in changes_of(outcome, [Change(x_unit=1e9), Change(x_shift=1e8), Change(y_unit=1e-9, y_shift=1e8)]):
        check(before, study("slope", outcome, change, **options), change, outcome, close_intervals=CLOSE_INTERVALS)
