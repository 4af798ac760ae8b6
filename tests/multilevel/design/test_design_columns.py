"""The design over cells: coding of categories, labels, nesting, kinds of predictors, aliased columns."""

import numpy as np
import pandas as pd
import pytest

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.factors import full_labels
from multilevel.design.model import Design
from multilevel.errors import DataError, FitError
from multilevel.formula.parse import parse_formula


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 1_200
    category = rng.integers(0, 24, n)
    frame = pd.DataFrame(
        {
            "category": [f"C{c:02d}" for c in category],
            "department": [f"D{c % 4}" for c in category],
            "shelf": [f"S{c % 6}" for c in category],
            "region": rng.choice(["N", "S", "W"], n),
            "f": rng.choice(["a", "b", "c"], n),
            "h": rng.choice(["u", "v"], n),
            "sale": rng.random(n) < 0.5,
            "week": rng.choice([2, 10, 1], n),
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
        }
    )
    frame["u"] = rng.normal(size=24)[category]
    frame["y"] = rng.normal(size=n)
    return frame


def design(formula: str, rows: pd.DataFrame, family: str = "gaussian") -> Design:
    parsed = parse_formula(formula)
    return build_design(parsed, cells_from_frame(parsed, rows, family))


def labels(formula: str, rows: pd.DataFrame) -> list[str]:
    return [column.label for column in design(formula, rows).population]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("y ~ f", ["Intercept", "f[b]", "f[c]"]),
        ("y ~ sale", ["Intercept", "sale[true]"]),
        ("y ~ 0 + f", ["f[a]", "f[b]", "f[c]"]),
        ("y ~ 0 + f + h", ["f[a]", "f[b]", "f[c]", "h[v]"]),
        ("y ~ 0 + x + f", ["x", "f[a]", "f[b]", "f[c]"]),
        ("y ~ C(week)", ["Intercept", "C(week)[2]", "C(week)[10]"]),
        ("y ~ f*x", ["Intercept", "f[b]", "f[c]", "x", "f[b]:x", "f[c]:x"]),
        ("y ~ f:x", ["Intercept", "f[a]:x", "f[b]:x", "f[c]:x"]),
        ("y ~ x + x:f", ["Intercept", "x", "x:f[b]", "x:f[c]"]),
        ("y ~ f*h", ["Intercept", "f[b]", "f[c]", "h[v]", "f[b]:h[v]", "f[c]:h[v]"]),
        ("y ~ f/h", ["Intercept", "f[b]", "f[c]", "f[a]:h[v]", "f[b]:h[v]", "f[c]:h[v]"]),
        ("y ~ 0 + f:h", ["f[a]:h[u]", "f[b]:h[u]", "f[c]:h[u]", "f[a]:h[v]", "f[b]:h[v]", "f[c]:h[v]"]),
        ("y ~ x:z + I(x^2)", ["Intercept", "I(x^2)", "x:z"]),
    ],
)
def test_labels_and_coding_are_those_of_r(formula: str, expected: list[str], rows: pd.DataFrame) -> None:
    assert labels(formula, rows) == expected


def test_group_terms_are_coded_on_their_own(rows: pd.DataFrame) -> None:
    built = design("y ~ 1 + (f | region) + (0 + sale | department) + (1 + h || shelf)", rows)
    assert [[column.label for column in block.columns] for block in built.blocks] == [
        ["Intercept", "f[b]", "f[c]"],
        ["sale[false]", "sale[true]"],
        ["Intercept"],
        ["h[u]", "h[v]"],
    ]
    assert built.n_effects == 3 * 3 + 4 * 2 + 6 + 6 * 2
    assert built.starts == (0, 9, 17, 23)


def test_columns_multiply_what_the_key_fixes_with_what_varies(rows: pd.DataFrame) -> None:
    built = design("y ~ week:x + f:x + (1 | region)", rows)
    by_label = {column.label: column for column in built.population}
    assert by_label["week:x"].feature == by_label["x:f[a]"].feature == 1 + built.cells.features.index("x")
    np.testing.assert_array_equal(by_label["week:x"].multiplier, built.cells.numbers["week"])


def test_a_predictor_of_the_group_needs_no_feature(rows: pd.DataFrame) -> None:
    built = design("y ~ u + x + (1 | category)", rows)
    by_label = {column.label: column for column in built.population}
    assert (by_label["u"].feature, by_label["u"].kind, by_label["u"].constant_within) == (0, "group_level", "category")
    assert (by_label["x"].kind, by_label["x"].constant_within) == ("individual", None)


def test_kinds(rows: pd.DataFrame) -> None:
    built = design(
        "y ~ x*u + within(z, category) + between(z, category) + between(x, category) + department + (1 | category) + (1 | department)", rows
    )
    kinds = {column.label: (column.kind, column.constant_within) for column in built.population}
    assert kinds["within(z, category)"] == ("within", None)
    assert kinds["between(z, category)"] == ("between", "category")
    assert kinds["between(x, category)"] == ("contextual", "category")
    assert kinds["x:u"] == ("cross_level", None)
    assert kinds["department[D1]"] == ("group_level", "department")


def test_a_predictor_is_read_at_the_coarsest_level(rows: pd.DataFrame) -> None:
    frame = rows.assign(v=rows["department"].map({"D0": 0.1, "D1": 0.7, "D2": -3.0, "D3": 0.0}))
    built = design("y ~ v + (1 | category) + (1 | department)", frame)
    assert built.population[1].constant_within == "department"


def test_nesting_as_written(rows: pd.DataFrame) -> None:
    built = design("y ~ 1 + (1 | department/category)", rows)
    factor = built.blocks[1].factor
    assert (factor.name, factor.columns, factor.parent_name) == ("department:category", ("department", "category"), "department")
    assert factor.n_levels == 24
    assert list(full_labels(factor)[:3]) == ["D0:C00", "D0:C04", "D0:C08"]
    cells = built.cells
    expected = cells.groups["category"].values[cells.groups["category"].codes]
    np.testing.assert_array_equal(factor.levels[factor.codes], expected)
    np.testing.assert_array_equal(
        np.asarray(factor.parents)[factor.codes], cells.groups["department"].values[cells.groups["department"].codes]
    )


def test_nesting_is_found_where_two_factors_stand_side_by_side(rows: pd.DataFrame) -> None:
    built = design("y ~ 1 + (1 | category) + (1 | department) + (1 | region)", rows)
    category, department, region = (block.factor for block in built.blocks)
    assert (category.name, category.parent_name) == ("category", "department")
    assert list(category.levels[:7]) == ["C00", "C04", "C08", "C12", "C16", "C20", "C01"]
    assert list(np.asarray(category.parents)[:7]) == ["D0"] * 6 + ["D1"]
    assert (department.parents, region.parents, region.parent_name) == (None, None, None)


def test_the_closest_of_several_parents_is_the_parent(rows: pd.DataFrame) -> None:
    frame = rows.assign(hall=rows["shelf"].map(lambda s: "H" + str(int(s[1]) % 2)))
    built = design("y ~ 1 + (1 | hall) + (1 | category) + (1 | shelf)", frame)
    parents = {block.factor.name: block.factor.parent_name for block in built.blocks}
    assert parents == {"hall": None, "shelf": "hall", "category": "shelf"}


def test_a_crossed_pair_of_columns_names_both_labels(rows: pd.DataFrame) -> None:
    factor = design("y ~ 1 + (1 | region:department)", rows).blocks[0].factor
    assert factor.parent_name is None
    assert list(zip(np.asarray(factor.parents), factor.levels, strict=True))[:5] == [
        ("N", "D0"),
        ("N", "D1"),
        ("N", "D2"),
        ("N", "D3"),
        ("S", "D0"),
    ]


def test_levels_that_are_numbers_sort_by_value(rows: pd.DataFrame) -> None:
    assert list(design("y ~ 1 + (1 | week)", rows).blocks[0].factor.levels) == ["1", "2", "10"]


@pytest.mark.parametrize(
    ("formula", "kept", "aliased"),
    [
        ("y ~ x + I(2*x + 1) + z", ["Intercept", "x", "z"], ("I(2*x + 1)",)),
        ("y ~ I(x - x) + x", ["Intercept", "x"], ("I(x - x)",)),
        ("y ~ one + x", ["Intercept", "x"], ("one",)),
        ("y ~ 0 + one + x", ["one", "x"], ()),
        ("y ~ within(x, category) + between(x, category) + x", ["Intercept", "within(x, category)", "between(x, category)"], ("x",)),
        ("y ~ department + category", None, ("category[C21]", "category[C22]", "category[C23]")),
        ("y ~ department:shelf", None, None),
    ],
)
def test_later_columns_that_earlier_ones_determine_are_left_out(
    formula: str, kept: list[str] | None, aliased: tuple[str, ...] | None, rows: pd.DataFrame
) -> None:
    built = design(formula.replace("I(2*x", "I(2 * x"), rows.assign(one=1.0))
    if kept is not None:
        assert [column.label for column in built.population] == kept
    if aliased is not None:
        assert tuple(label.replace("2 * x", "2*x") for label in built.aliased) == aliased
    else:
        assert built.aliased, "half of the combinations never occur"


def test_large_numbers_are_not_taken_for_constants(rows: pd.DataFrame) -> None:
    frame = rows.assign(big=1e8 + 26 * rows["x"], bigger=1e8 + 26 * rows["z"])
    assert design("y ~ big + bigger", frame).aliased == ()


def test_cells_of_another_formula_are_refused(rows: pd.DataFrame) -> None:
    cells = cells_from_frame(parse_formula("y ~ x + (1 | region)"), rows, "gaussian")
    with pytest.raises(FitError, match="carry no `z`"):
        build_design(parse_formula("y ~ z + (1 | region)"), cells)
    with pytest.raises(FitError, match="grouping column `shelf`"):
        build_design(parse_formula("y ~ x + (1 | shelf)"), cells)


def test_no_rows_are_refused(rows: pd.DataFrame) -> None:
    parsed = parse_formula("y ~ 1")
    with pytest.raises(DataError, match="no rows"):
        build_design(parsed, cells_from_frame(parsed, rows.iloc[:0], "gaussian"))
