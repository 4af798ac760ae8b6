"""Range, mix and behaviour of the change between two versions: against the definition written out, and for every kind of outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from multilevel.cells.from_rows import cells_from_frame
from multilevel.errors import DataError
from multilevel.estimands.fitted_part import expected_outcome
from multilevel.formula.parse import parse_formula
from multilevel.prediction import average_cells as kept
from multilevel.prediction.average_cells import average_cells
from multilevel.prediction.change_parts import ChangeParts, change_parts
from multilevel.prediction.saved_averages import published_estimates
from multilevel.prediction.saved_cells import CellSide, Level, SavedCells, cells_table, read_cells_table
from multilevel.study.fit_study import fit_study
from multilevel.study.options import StudyFit, fit_options

EXACT = 1e-9
"""What the parts may miss the difference of two published estimates by, relative to them."""

# --- the definition, on cells made by hand ---------------------------------------------------------------------------------------------


def side(names: Sequence[str], weight: Sequence[float], column: str = "item") -> CellSide:
    return CellSide((column,), tuple((name,) for name in names), np.array(weight) / np.sum(weight))


@st.composite
def version(draw: st.DrawFn) -> SavedCells:
    """One level with some of five members, over a mix of some of four products."""
    own = draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=5, unique=True))
    mix = draw(st.lists(st.sampled_from("pqrs"), min_size=1, max_size=4, unique=True))
    numbers = st.floats(0.1, 10.0)
    weights = [draw(st.lists(numbers, min_size=len(names), max_size=len(names))) for names in (own, mix)]
    values = np.array(draw(st.lists(st.floats(-10.0, 10.0), min_size=len(own) * len(mix), max_size=len(own) * len(mix))))
    joint: Any = values.reshape(len(own), len(mix))
    one, other = side(own, weights[0]), side(mix, weights[1], "product")
    distance = np.zeros(len(mix))
    if draw(st.booleans()):
        fitted, distance, joint = joint[:, 0], joint[0] - joint[0] @ other.weight, None
    else:
        fitted = joint @ other.weight
    return SavedCells("g", "members", ((None, "G"),), np.zeros(len(own), dtype=np.int64), one, other, fitted, distance, joint)


def by_definition(before: SavedCells, after: SavedCells) -> tuple[float, float]:
    """Mix and behaviour, cell by cell."""
    tables = []
    for cells in (before, after):
        joint = cells.joint if cells.joint is not None else cells.fitted[:, None] + cells.distance
        tables.append(
            {
                (i, j): (cells.own.weight[a] * cells.mix.weight[b], joint[a, b])
                for a, i in enumerate(cells.own.keys)
                for b, j in enumerate(cells.mix.keys)
            }
        )
    shared = tables[0].keys() & tables[1].keys()
    totals = [sum(table[cell][0] for cell in shared) for table in tables]
    mix = behaviour = 0.0
    for cell in shared:
        (w0, h0), (w1, h1) = (table[cell] for table in tables)
        w0, w1 = w0 / totals[0], w1 / totals[1]
        mix += (w1 - w0) * (h0 + h1) / 2
        behaviour += (w0 + w1) / 2 * (h1 - h0)
    return mix, behaviour


@given(version(), version())
def test_the_parts_are_those_of_the_definition_and_add_up(before: SavedCells, after: SavedCells) -> None:
    change = float(after.averages()[0] - before.averages()[0])
    parts = change_parts(before, after, {(None, "G"): change})[None, "G"]
    assert (parts.mix, parts.behaviour) == pytest.approx(by_definition(before, after), abs=1e-10)
    assert parts.range + parts.mix + parts.behaviour == pytest.approx(change, abs=1e-12)
    if set(before.own.keys) == set(after.own.keys) and set(before.mix.keys) == set(after.mix.keys):
        assert parts.range == pytest.approx(0.0, abs=1e-10)


@given(version(), version())
def test_backwards_every_part_changes_its_sign(before: SavedCells, after: SavedCells) -> None:
    there = change_parts(before, after, {(None, "G"): 1.0})[None, "G"]
    back = change_parts(after, before, {(None, "G"): -1.0})[None, "G"]
    assert (there.range, there.mix, there.behaviour) == pytest.approx((-back.range, -back.mix, -back.behaviour), abs=1e-10)


def test_a_number_that_one_version_has_alone_is_mix_and_not_range() -> None:
    def priced(numbers: Sequence[str], weight: Sequence[float], h: Sequence[float]) -> SavedCells:
        mix = CellSide(("product", "price"), tuple(("p", number) for number in numbers), np.array(weight), ("price",))
        own = CellSide((), ((),), np.ones(1))
        level, joint = np.zeros(1, dtype=np.int64), np.array([h])
        return SavedCells("g", "members", ((None, "G"),), level, own, mix, joint @ mix.weight, np.zeros(len(h)), joint)

    before, after = priced(["1", "5"], [0.5, 0.5], [1.0, 3.0]), priced(["1", "4", "5"], [0.2, 0.2, 0.6], [1.0, 3.0, 3.0])
    parts = change_parts(before, after, {(None, "G"): 0.6})[None, "G"]
    assert (parts.range, parts.mix, parts.behaviour) == pytest.approx((0.0, 0.6, 0.0), abs=1e-12)


def test_versions_told_apart_by_different_columns_are_split_over_those_that_both_have() -> None:
    coarse = SavedCells(
        "g", "members", ((None, "G"),), np.zeros(1, dtype=np.int64), CellSide((), ((),), np.ones(1)), side(["p"], [1.0], "product"),
        np.array([2.0]), np.zeros(1), None,
    )  # fmt: skip
    fine = SavedCells(
        "g", "members", ((None, "G"),), np.zeros(2, dtype=np.int64), side("ab", [1, 3]), side(["p"], [1.0], "product"),
        np.array([1.0, 5.0]), np.zeros(1), None,
    )  # fmt: skip
    assert change_parts(coarse, fine, {(None, "G"): 2.0})[None, "G"] == ChangeParts(0.0, 0.0, 2.0)


def test_versions_without_a_common_cell_differ_by_range_alone() -> None:
    def only(product: str) -> SavedCells:
        own = CellSide((), ((),), np.ones(1))
        return SavedCells(
            "g", "members", ((None, "G"),), np.zeros(1, dtype=np.int64), own, side([product], [1.0]), np.ones(1), np.zeros(1), None
        )

    assert change_parts(only("p"), only("q"), {(None, "G"): 0.5, (None, "H"): 1.0}) == {
        (None, "G"): ChangeParts(0.5, 0.0, 0.0),
        (None, "H"): ChangeParts(1.0, 0.0, 0.0),
    }


# --- fits of every kind ----------------------------------------------------------------------------------------------------------------


def rows(seed: int, n: int = 500, noise: float = 1.0) -> pd.DataFrame:
    """Households in bands that buy products of departments, at prices; the world is the same for every seed."""
    world, rng = np.random.default_rng(0), np.random.default_rng(seed)
    band_of, department_of = world.integers(0, 4, 24), world.integers(0, 3, 9)
    effects = [0.4 * world.normal(size=size) for size in (4, 24, 3, 9)]
    household, product = rng.integers(0, 24, n), rng.integers(0, 9, n)
    frame = pd.DataFrame({"household": household, "band": band_of[household], "product": product, "department": department_of[product]})
    frame["persons"] = world.integers(1, 5, 24)[household].astype(float)
    frame["sale"] = rng.random(n) < 0.3
    frame["price"] = np.round(rng.uniform(1.0, 9.0, n), 2)
    columns = ("band", "household", "department", "product")
    eta = np.asarray(sum(effect[frame[name]] for effect, name in zip(effects, columns, strict=True)))
    frame["eta"] = 1.0 + eta + 0.3 * frame.sale + 0.1 * frame.persons
    frame["count"] = rng.poisson(np.exp(0.5 * frame.eta) * rng.gamma(2.0, 0.5, n))
    frame["y"] = frame.eta + noise * rng.normal(size=n)
    frame["paid"] = np.exp(0.5 * frame.eta + 0.4 * noise * rng.normal(size=n))
    frame["bought"] = rng.random(n) < expit(frame.eta - 1.0)
    frame["spend"] = np.where(rng.random(n) < expit(frame.eta), frame.paid, 0.0)
    return frame


NESTED = "(1 | band/household) + (1 | department/product)"
CASES = {
    "gaussian, nested": ("y ~ sale + " + NESTED, "gaussian"),
    "gaussian, population": ("y ~ persons + sale + " + NESTED, "gaussian"),
    "gaussian, crossed with slopes": ("y ~ sale + price + (1 + sale | band) + (1 | product) + (1 | band:product)", "gaussian"),
    "log(y)": ("log(paid) ~ sale + " + NESTED, "gaussian"),
    "two parts": ("spend ~ sale + (1 | band) + (1 | product)", "hurdle_lognormal"),
    "weights": ("y | weights(persons) ~ sale + (1 | band) + (1 | department/product)", "gaussian"),
}
SLOW = {
    "share": ("bought ~ sale + (1 | band) + (1 | department/product)", "binomial"),
    "counts": ("count ~ sale + (1 | band) + (1 | product)", "poisson"),
    "counts by exposure": ("count ~ sale + offset(log(persons)) + (1 | band) + (1 | product)", "poisson"),
    "counts that vary more": ("count ~ sale + (1 | band) + (1 | product)", "negative_binomial"),
    "gamma": ("paid ~ sale + (1 | band) + (1 | product)", "gamma"),
    "gamma, population": ("paid ~ sale + (1 | band/household) + (1 | product)", "gamma"),
    "two parts, gamma": ("spend ~ sale + (1 | band) + (1 | product)", "hurdle_gamma"),
    "two parts, population": ("spend ~ sale + (1 | band/household) + (1 | product)", "hurdle_lognormal"),
}
DRAWN = {"log(y), population": ("log(paid) ~ sale + (1 | band/household) + (1 | product)", "gaussian")}
ALL = CASES | SLOW | DRAWN
LINEAR = {"gaussian, nested", "gaussian, population", "gaussian, crossed with slopes", "weights"}
QUICK = {"gaussian, nested", "gaussian, population", "two parts"}
EVERY = [case if case in QUICK else pytest.param(case, marks=pytest.mark.calibration) for case in [*CASES, *SLOW]]


@cache
def fitted(case: str, world: str, engine: Any = "likelihood") -> tuple[StudyFit, dict[tuple[str, str], SavedCells]]:
    """The study and its cells as they are read back; ``world``: which of ``FRAMES``."""
    return fitted_to(case, FRAMES[world](), engine)


def sampled_in(case: str) -> tuple[str, ...]:
    return ("household",) if "population" in case else ()


def fitted_to(case: str, frame: pd.DataFrame, engine: Any = "likelihood") -> tuple[StudyFit, dict[tuple[str, str], SavedCells]]:
    formula, family = ALL[case]
    parsed = parse_formula(formula)
    options = fit_options("s", date(2026, 1, 31), "r", engine, sampled=sampled_in(case))
    study = fit_study(parsed, cells_from_frame(parsed, frame, family), options)
    return study, cells_of(study, case)


def cells_of(study: StudyFit, case: str) -> dict[tuple[str, str], SavedCells]:
    assert study.tree is not None
    outcome, variance = expected_outcome(study.parts), study.parts[-1].variance
    cells = average_cells(outcome, study.tree, variance, study.tables["group_estimates"], sampled_in(case))
    return {(one.factor, one.of): one for one in read_cells_table(cells_table(cells))}


def dearer() -> pd.DataFrame:
    """The same line items with other outcomes under a sale, those of one product twice."""
    later = rows(3)
    later.loc[later.sale, ["y", "paid", "spend"]] *= 1.2
    later.loc[later.sale, "count"] += 1
    later.loc[later.sale & (later.band == 1), "bought"] = True
    return pd.concat([later, later[later["product"] == 2]])


FRAMES: dict[str, Callable[[], pd.DataFrame]] = {
    "first": lambda: rows(3),
    "dearer": dearer,
    "another": lambda: rows(4).query("product != 2"),
}


def estimates(study: StudyFit, cells: SavedCells) -> dict[Level, float]:
    published = published_estimates(study.tables["group_estimates"], cells.factor, cells.of)
    return {level: published[level][0] for level in cells.levels}


def changed(studies: Sequence[StudyFit], cells: Sequence[SavedCells]) -> dict[Level, float]:
    before, after = (estimates(study, one) for study, one in zip(studies, cells, strict=True))
    return {level: after[level] - before[level] for level in before.keys() & after.keys()}


@pytest.mark.parametrize("case", EVERY)
def test_weights_times_fitted_values_are_the_published_estimates(case: str) -> None:
    for world in ("first", "another"):
        study, found = fitted(case, world)
        assert (("band", "population") in found) is ("population" in case)
        for cells in found.values():
            np.testing.assert_allclose(cells.averages(), list(estimates(study, cells).values()), rtol=EXACT)
            for level in range(len(cells.levels)):
                assert cells.own.weight[cells.level == level].sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("case", EVERY)
def test_the_parts_add_up_to_the_difference_of_the_published_estimates(case: str) -> None:
    (study, old), (other, new) = fitted(case, "first"), fitted(case, "another")
    for key, cells in old.items():
        change = changed((study, other), (cells, new[key]))
        for name, each in change_parts(cells, new[key], change).items():
            assert np.isfinite([each.range, each.mix, each.behaviour]).all()
            assert each.range + each.mix + each.behaviour == pytest.approx(change[name], abs=EXACT)


@pytest.mark.parametrize("case", EVERY)
def test_range_is_zero_where_nobody_came_or_went(case: str) -> None:
    """It is then no remainder: both sums of w h are the published estimates."""
    (study, old), (other, new) = fitted(case, "first"), fitted(case, "dearer")
    for key, cells in old.items():
        change = changed((study, other), (cells, new[key]))
        assert max(map(abs, change.values())) > 1e-3
        for each in change_parts(cells, new[key], change).values():
            assert each.range == pytest.approx(0.0, abs=EXACT)


@pytest.mark.parametrize("case", EVERY)
def test_fitted_values_need_little_scaling_to_give_the_published_estimates(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tolerances: rounding under the identity link, else what bins and the logistic-normal mean miss."""
    unscaled: list[float] = []

    def looked_at(cells: SavedCells, target: np.ndarray, is_linear: bool) -> SavedCells:
        unscaled.extend(np.abs(cells.averages() / target - 1.0))
        return cells

    monkeypatch.setattr(kept, "_scaled", looked_at)
    cells_of(fitted(case, "first")[0], case)
    assert max(unscaled) < (1e-9 if case in LINEAR else 5e-3)


@pytest.mark.calibration
@pytest.mark.parametrize("case", ["gaussian, crossed with slopes", *DRAWN])
def test_posteriors_are_split_too(case: str) -> None:
    (study, old), (other, new) = (fitted(case, world, "bayesian") for world in ("first", "dearer"))
    for key, cells in old.items():
        change = changed((study, other), (cells, new[key]))
        assert all(abs(each.range) < EXACT for each in change_parts(cells, new[key], change).values())


# --- what moves which part: outcomes almost without noise, so that a second fit finds the same effects --------------------------------


type Version = tuple[StudyFit, dict[tuple[str, str], SavedCells]]


def version_of(frame: pd.DataFrame) -> Version:
    return fitted_to("gaussian, nested", frame)


@pytest.fixture(scope="module")
def first() -> pd.DataFrame:
    return rows(7, 3_000, noise=1e-3)


@pytest.fixture(scope="module")
def dearest(first: pd.DataFrame) -> pd.Series:
    """Rows of the product with the largest mean."""
    return first["product"] == first.groupby("product").y.mean().idxmax()


@pytest.fixture(scope="module")
def before(first: pd.DataFrame) -> Version:
    return version_of(first)


def parts_of(before: Version, after: Version, factor: str = "band") -> list[ChangeParts]:
    (study, old), (other, new) = before, after
    key = (factor, "members")
    return list(change_parts(old[key], new[key], changed((study, other), (old[key], new[key]))).values())


def test_a_product_that_leaves_is_range(first: pd.DataFrame, dearest: pd.Series, before: Version) -> None:
    after = version_of(first[~dearest])
    for parts in parts_of(before, after):
        assert abs(parts.range) > 0.02
        assert abs(parts.behaviour) < 1e-3
        # households bought different shares of it: weights of those that stay hardly change
        assert abs(parts.mix) < 0.1 * abs(parts.range)
    [moved] = [parts for parts in parts_of(before, after, factor="department") if abs(parts.range) > 1e-9]
    assert abs(moved.behaviour) < 1e-3 and abs(moved.mix) < 5e-3


def test_other_weights_of_the_same_members_are_mix(first: pd.DataFrame, dearest: pd.Series, before: Version) -> None:
    for parts in parts_of(before, version_of(pd.concat([first, *[first[dearest]] * 4]))):
        assert parts.mix > 0.05
        assert abs(parts.behaviour) < 1e-3 and abs(parts.range) < EXACT


def test_other_outcomes_of_the_same_line_items_are_behaviour() -> None:
    first = rows(7, 1_000)
    later = first.assign(y=first.y + 0.5 * (first["product"] == 1) + 0.2)
    for parts in parts_of(version_of(first), version_of(later)):
        assert parts.behaviour > 0.15
        assert abs(parts.mix) < EXACT and abs(parts.range) < EXACT


# --- bounds and files ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [pytest.param("two parts", marks=pytest.mark.parity), "gaussian, crossed with slopes"])
def test_above_the_bounds_columns_are_left_out_and_sums_stay(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_PAIRS", 20)
    study, found = fitted_to(case, rows(4))
    for cells in found.values():
        assert cells.mix.left_out or cells.joint is None or cells.joint.size <= 20
        assert cells.joint is not None and (cells.joint.size <= 20 or cells.mix.columns == ())
        np.testing.assert_allclose(cells.averages(), list(estimates(study, cells).values()), rtol=EXACT)
    monkeypatch.setattr(kept, "MOST_CELLS", 3)
    assert all(len(cells.levels) <= 3 for cells in fitted_to(case, rows(4))[1].values())


def test_a_table_of_another_program_is_refused() -> None:
    with pytest.raises(DataError, match="written by another release of groupwise"):
        read_cells_table(cells_table([]).drop_columns(["numbers"]))
    assert read_cells_table(cells_table([])) == ()
