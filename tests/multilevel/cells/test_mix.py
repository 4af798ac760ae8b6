"""A table of weights in place of the data's mix: the averages are what one works out by hand, under both engines."""

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from multilevel.catalogue.table_assembly import Heading
from multilevel.cells.from_rows import cells_from_frame
from multilevel.cells.reference_mix import MixTable, with_mix
from multilevel.cells.statistics import CellStatistics, restrict_cells
from multilevel.design.nesting import nesting
from multilevel.errors import StudyError
from multilevel.estimands.one_response import OneResponse
from multilevel.fit.container import Engine
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import FitOptions, fit_options
from multilevel.tables.group_estimates import group_estimates

FORMULA = "y ~ 1 + sale + (1 | region) + (1 + sale | category)"
SHORT = {"draws": 150, "chains": 2, "tune": 150, "cores": 1}


def rows(family: str) -> pd.DataFrame:
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"region": rng.choice(["n", "s", "w"], 400), "category": rng.choice(list("abcdef"), 400)})
    frame["sale"] = (rng.random(400) < np.where(frame.region == "n", 0.7, 0.2)).astype(float)
    of_region = frame.region.map({"n": 0.4, "s": -0.3, "w": 0.0})
    eta = 0.3 + 0.6 * frame.sale + of_region + frame.category.map(dict(zip("abcdef", rng.normal(size=6), strict=True)))
    mean = {"gaussian": eta, "binomial": expit(eta), "poisson": np.exp(eta / 2)}[family]
    draw = {"gaussian": rng.normal, "binomial": lambda m: rng.binomial(1, m), "poisson": rng.poisson}[family]
    frame["y"] = draw(mean).astype(float)
    return frame


def options(engine: Engine = "likelihood", pair: tuple[str, str] | None = ("region", "category")) -> FitOptions:
    sampling = SHORT if engine == "bayesian" else None
    return fit_options("mix", date(2026, 1, 1), "run", engine, sampling=sampling, cells_pair=pair)


def tables(cells: CellStatistics, engine: Engine = "likelihood") -> dict[str, pd.DataFrame]:
    return {name: table.to_pandas() for name, table in fit_study(parse_formula(FORMULA), cells, options(engine)).tables.items()}


def coefficients(found: dict[str, pd.DataFrame]) -> tuple[pd.Series, pd.DataFrame]:
    population = found["population_coefficients"].query("pooling == 'partial'").set_index("term").estimate
    groups = found["group_coefficients"].query("not is_new").set_index(["grouping_factor", "level", "term"]).deviation
    return population, groups


def cells_of(family: str) -> CellStatistics:
    return cells_from_frame(parse_formula(FORMULA), rows(family), family)


SHARES = MixTable({"sale": ["0", "1", "0", "1", "0", "1"], "region": ["n", "n", "s", "s", "w", "w"]}, np.array([5.0, 1, 2, 2, 0, 4]))


@pytest.mark.parametrize(
    ("family", "engine"),
    [
        ("gaussian", "likelihood"),
        ("poisson", "likelihood"),
        pytest.param("binomial", "likelihood", marks=pytest.mark.parity),
        pytest.param("gaussian", "bayesian", marks=pytest.mark.parity),
    ],
)
def test_a_category_meets_the_regions_and_sales_of_the_table(family: str, engine: Engine) -> None:
    found = tables(with_mix(cells_of(family), SHARES), engine)
    beta, b = coefficients(found)
    mean = {"gaussian": lambda eta: eta, "poisson": np.exp, "binomial": expit}[family]
    estimates = found["group_estimates"].query("not is_new").set_index(["grouping_factor", "level"]).estimate
    pooled = found["group_estimates"].query("not is_new").set_index(["grouping_factor", "level"]).complete_pooling_estimate
    complete = found["population_coefficients"].query("pooling == 'complete'").set_index("term").estimate
    share = SHARES.weight / SHARES.weight.sum()
    sales = np.array(SHARES.columns["sale"], dtype=float)
    for category in "abcdef":
        eta = beta.Intercept + b["category", category, "Intercept"] + (beta.sale + b["category", category, "sale"]) * sales
        eta = eta + np.array([b["region", region, "Intercept"] for region in SHARES.columns["region"]])
        # the logistic-normal mean within a bin is good to about a thousandth
        assert estimates["category", category] == pytest.approx(share @ mean(eta), rel=2e-3 if family == "binomial" else 1e-6)
        by_hand = share @ mean(complete.Intercept + complete.sale * sales)
        assert pooled["category", category] == pytest.approx(by_hand, rel=2e-3 if family == "binomial" else 1e-6)


@pytest.mark.parity
def test_no_pooling_and_combinations_are_averaged_over_the_table_too() -> None:
    cells = cells_of("gaussian")
    found, sold, unsold = (
        tables(with_mix(cells, MixTable({"sale": ["0", "1"]}, np.array(weights)))) for weights in ([0.9, 0.1], [0.0, 1.0], [1.0, 0.0])
    )
    beta, b = coefficients(found)
    combination = found["cell_estimates"].set_index(["customer_group", "product_group"]).estimate["n", "a"]
    expected = beta.Intercept + b["region", "n", "Intercept"] + b["category", "a", "Intercept"]
    assert combination == pytest.approx(expected + 0.1 * (beta.sale + b["category", "a", "sale"]), rel=1e-9)
    separate = [entry["group_estimates"].no_pooling_estimate.dropna().to_numpy() for entry in (found, unsold, sold)]
    np.testing.assert_allclose(separate[0], 0.9 * separate[1] + 0.1 * separate[2], rtol=1e-9)
    assert np.max(np.abs(separate[1] - separate[2])) > 0.1


@pytest.mark.parity
def test_the_datas_own_mix_as_a_table_changes_nothing() -> None:
    for family in ("gaussian", "poisson", "binomial"):
        cells = cells_of(family)
        frame = rows(family).groupby(["region", "category", "sale"]).size().reset_index(name="weight")
        columns = {name: frame[name].astype(str).tolist() for name in ("region", "category", "sale")}
        named, plain = tables(with_mix(cells, MixTable(columns, frame.weight.to_numpy(float) * 7.0))), tables(cells)
        for table in ("group_estimates", "cell_estimates"):
            np.testing.assert_allclose(named[table].estimate, plain[table].estimate, rtol=1e-10)
            np.testing.assert_allclose(named[table].std_error, plain[table].std_error, rtol=1e-10)


def test_what_the_table_does_not_name_stays_as_in_the_data() -> None:
    cells = cells_of("gaussian")
    mix = with_mix(cells, MixTable({"region": ["n", "s"]}, np.array([3.0, 1.0]))).common_weight
    region = cells.groups["region"].values[cells.groups["region"].codes]
    assert mix.sum() == pytest.approx(400)
    assert mix[region == "n"].sum() == pytest.approx(300)
    assert np.all(mix[region == "w"] == 0)
    np.testing.assert_allclose(mix[region == "s"] / 100, cells.n[region == "s"] / cells.n[region == "s"].sum())


def test_rows_of_one_combination_add_up() -> None:
    cells = cells_of("gaussian")
    once = with_mix(cells, MixTable({"sale": ["0", "1"]}, np.array([3.0, 1.0])))
    twice = with_mix(cells, MixTable({"sale": ["0", "1", "0.0"]}, np.array([1.0, 1.0, 2.0])))
    np.testing.assert_allclose(once.common_weight, twice.common_weight)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"regoin": ["n"]}, "no regoin; did you mean region"),
        ({"region": ["north"]}, "region north: no line item of the fit has it"),
        ({"sale": ["2"]}, "sale 2.0: no line item"),
        ({"sale": ["often"]}, "sale often: this predictor is a number"),
        ({}, "no column besides weight"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_name(columns: dict[str, list[str]], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        with_mix(cells_of("gaussian"), MixTable(columns, np.ones(1)))


def test_a_combination_with_weight_but_without_line_items_is_named() -> None:
    frame = rows("gaussian")
    frame = frame[(frame.region != "w") | (frame.category != "b")]
    cells = cells_from_frame(parse_formula(FORMULA), frame, "gaussian")
    with pytest.raises(StudyError, match="no line item has region w, category b"):
        with_mix(cells, MixTable({"region": ["w"], "category": ["b"]}, np.ones(1)))
    assert with_mix(cells, MixTable({"region": ["w", "n"], "category": ["b", "a"]}, np.array([0.0, 1.0]))).mix is not None


def test_a_continuous_predictor_has_no_mix() -> None:
    frame = rows("gaussian").assign(price=np.random.default_rng(1).normal(size=400))
    cells = cells_from_frame(parse_formula("y ~ 1 + price + (1 | region)"), frame, "gaussian")
    with pytest.raises(StudyError, match="price is continuous"):
        with_mix(cells, MixTable({"price": ["1"]}, np.ones(1)))


MIXED, NEVER, ALWAYS = (MixTable({"sale": ["0", "1"]}, np.array(weights)) for weights in ([1.0, 3.0], [1.0, 0.0], [0.0, 1.0]))


@pytest.mark.parity
def test_a_posterior_average_over_a_mixture_is_the_mixture_of_averages() -> None:
    formula = parse_formula("y ~ 1 + sale + (1 | category)")
    cells = cells_from_frame(formula, rows("poisson"), "poisson")
    fit = fit_study(formula, cells, options("bayesian", None)).fit
    assert fit is not None

    def estimates(table: MixTable) -> np.ndarray:
        mixed = replace(fit, design=replace(fit.design, cells=with_mix(cells, table)))
        heading = Heading("mix", date(2026, 1, 1), "run", "bayesian")
        found = group_estimates(OneResponse.of_fit(mixed), nesting(mixed.design), heading)
        return found.column("estimate").to_numpy()

    np.testing.assert_allclose(estimates(MIXED), 0.25 * estimates(NEVER) + 0.75 * estimates(ALWAYS), rtol=1e-8)
    assert np.all(estimates(NEVER) < estimates(ALWAYS))


@pytest.mark.parity
def test_a_hurdle_averages_its_expected_value_over_the_table() -> None:
    frame, formula = rows("gaussian"), parse_formula("y ~ 1 + sale + (1 | category)")
    frame["y"] = np.where(np.random.default_rng(2).random(400) < 0.4, 0.0, np.exp(frame.y / 3))
    cells = cells_from_frame(formula, frame, "hurdle_gamma")
    mixed, never, always = (
        fit_study(formula, with_mix(cells, table), options(pair=None)).tables["group_estimates"].column("estimate").to_numpy()
        for table in (MIXED, NEVER, ALWAYS)
    )
    np.testing.assert_allclose(mixed, 0.25 * never + 0.75 * always, rtol=1e-8)
    assert np.all(never != always)


def test_a_part_of_the_cells_keeps_its_part_of_the_mix() -> None:
    cells = with_mix(cells_of("gaussian"), SHARES)
    kept = restrict_cells(cells, np.arange(10))
    np.testing.assert_array_equal(kept.common_weight, cells.common_weight[:10])
