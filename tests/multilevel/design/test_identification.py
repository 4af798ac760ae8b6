"""Variances that no rows can tell apart are refused with the reason; those that some rows tell apart are not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space

from multilevel.cells.from_rows import cells_from_frame
from multilevel.design.build import build_design
from multilevel.design.checks import check_design
from multilevel.design.identification import written
from multilevel.design.model import Design
from multilevel.design.sketch import Dependence, find_unidentified
from multilevel.errors import FitError
from multilevel.formula.parse import parse_formula
from multilevel.study.designs import study_parts

N = 120


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    g, r = np.arange(N) % 3, np.arange(N) // 3 % 8
    frame = pd.DataFrame({"g": np.array(list("NSW"))[g], "r": np.array(list("abcdefgh"))[r]})
    frame["income"], frame["stores"] = np.array([1.0, 2.0, 4.0])[g], np.array([5.0, 3.0, 9.0])[g]
    frame["twin"] = frame["g"].map({"N": "n", "S": "s", "W": "w"})
    frame["pairs"] = np.array(list("AABBCCDD"))[r]
    frame["two_values"], frame["many_values"] = (r > 3) * 1.0, r * 1.0
    frame["x"] = rng.normal(size=N)
    frame["far"] = frame["x"] + 1e8
    frame["row"] = np.arange(N).astype(str)
    frame["y"] = rng.normal(size=N)
    frame["amount"] = np.exp(frame["y"])
    frame["count"] = rng.poisson(3, N)
    frame["success"] = rng.integers(0, 2, N)
    return frame


def design(formula: str, rows: pd.DataFrame, family: str = "gaussian") -> Design:
    parsed = parse_formula(formula)
    return build_design(parsed, cells_from_frame(parsed, rows, family))


def check(formula: str, rows: pd.DataFrame, family: str = "gaussian") -> list[str]:
    return [warning.check for warning in check_design(parse_formula(formula), design(formula, rows, family))]


OUTCOMES = [("y", "gaussian"), ("log(amount)", "gaussian"), ("amount", "gamma"), ("count", "poisson")]
OUTCOMES += [("count", "negative_binomial"), ("success", "binomial")]


@pytest.mark.parametrize(("outcome", "family"), OUTCOMES)
def test_levels_that_the_predictors_tell_apart_have_no_variance(outcome: str, family: str, rows: pd.DataFrame) -> None:
    with pytest.raises(FitError, match=r"^identified\[g\].*\(income, stores\) already determine.*all 3 levels.*Drop \(1 \| g\)"):
        check(f"{outcome} ~ 1 + income + stores + (1 | g)", rows, family)
    assert check(f"{outcome} ~ 1 + income + (1 | g)", rows, family) == []


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ g + (1 | g)", r"^identified\[g\].*\(g\[S\], g\[W\]\)"),
        ("y ~ 0 + g + (1 | g)", r"^identified\[g\]"),
        ("y ~ g + x + (1 + x | g)", r"^identified\[g\].*the intercepts differ.*Write \(0 \+ x \| g\) instead of \(1 \+ x \| g\)"),
        ("y ~ g * x + (1 + x | g)", r"^identified\[g\].*the intercepts and the slopes of x differ"),
        ("y ~ r + (1 | pairs)", r"^identified\[pairs\]"),
        ("y ~ pairs + (1 | pairs / r)", r"^identified\[pairs\].*\(pairs\[B\], pairs\[C\], pairs\[D\]\)"),
        ("y ~ g:r + (1 | g)", r"^identified\[g\]"),
        ("y ~ 1 + (1 + two_values | r)", r"^identified\[r\]: the standard deviations and correlations of \(1 \+ two_values \| r\)"),
        ("y ~ x + (1 + x + I(2 * x) | r)", r"^identified\[r\].*Leave one of the terms out"),
    ],
)
def test_what_no_rows_can_tell_is_refused(formula: str, message: str, rows: pd.DataFrame) -> None:
    with pytest.raises(FitError, match=message):
        check(formula, rows)


def test_the_same_partition_twice_is_refused(rows: pd.DataFrame) -> None:
    with pytest.raises(FitError, match="g and twin are the same in these data"):
        check("y ~ 1 + (1 | g) + (1 | twin)", rows)


def test_factors_that_only_the_population_columns_make_alike_are_refused(rows: pd.DataFrame) -> None:
    # h has the levels of g, one of them cut in two by what the dummy of r says
    cut = rows.assign(
        h=rows["g"].where((rows["g"] != "N") | (rows["r"] != "a"), "cut"), dummy=1.0 * ((rows["g"] == "N") & (rows["r"] == "a"))
    )
    with pytest.raises(FitError, match=r"^identified\[h\]: the variances of \(1 \| g\), \(1 \| h\) cannot be told apart"):
        check("y ~ dummy + (1 | g) + (1 | h)", cut)
    assert check("y ~ 1 + (1 | g) + (1 | h)", cut) == []


def test_levels_of_one_row_each_are_the_residual(rows: pd.DataFrame) -> None:
    # two rows share a level, and a dummy takes one of them
    nearly = rows.assign(row=rows["row"].replace({"119": "118"}), dummy=1.0 * (rows["row"] == "119"))
    assert find_unidentified(design("y ~ dummy + (1 | row)", nearly)) == Dependence((0,), residual=True)
    assert find_unidentified(design("y ~ 1 + (1 | row)", nearly)) is None


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ g + (1 | r)",
        "y ~ x + (1 + x | r)",
        "y ~ far + (1 + far | r)",
        "y ~ 1 + (1 | g / r)",
        "y ~ g + x + (0 + x | g)",
        "y ~ 1 + (1 | r) + (1 | g:r) + (1 | g)",
        "count ~ 1 + (1 | row)",
    ],
)
def test_what_some_rows_tell_is_not_refused(formula: str, rows: pd.DataFrame) -> None:
    assert find_unidentified(design(formula, rows, "poisson" if formula.startswith("count") else "gaussian")) is None


def test_slopes_of_what_is_constant_within_levels_fail_a_check(rows: pd.DataFrame) -> None:
    assert check("y ~ many_values + (1 + many_values | r)", rows) == ["constant_slope", "identified[r]"]


def test_either_part_of_a_hurdle_is_looked_at(rows: pd.DataFrame) -> None:
    spent = rows.assign(spend=np.where(rows["success"] == 1, rows["amount"], 0.0))
    formula = parse_formula("spend ~ g + (1 | g) + (1 | r)")
    with pytest.raises(FitError, match=r"^identified\[g\]"):
        study_parts(formula, cells_from_frame(formula, spent, "hurdle_lognormal"))
    # told apart by the predictors among the rows above zero only
    where = spent.assign(spend=np.where(spent["g"] == "W", 0.0, spent["spend"]))
    formula = parse_formula("spend ~ 1 + income + (1 | g) + (1 | r)")
    with pytest.raises(FitError, match=r"^identified\[g\].*all 2 levels.*an outcome above zero"):
        study_parts(formula, cells_from_frame(formula, where, "hurdle_lognormal"))


def test_amounts_in_one_level_alone_are_told_in_its_name(rows: pd.DataFrame) -> None:
    one = rows.assign(spend=np.where((rows["g"] == "S") & (rows["success"] == 1), rows["amount"], 0.0))
    formula = parse_formula("spend ~ 1 + (1 | g)")
    with pytest.raises(FitError, match=r"g has one level \(S\).*among the line items with an outcome above zero"):
        study_parts(formula, cells_from_frame(formula, one, "hurdle_gamma"))


def test_many_levels_cost_no_matrix_of_levels_by_levels() -> None:
    n = 42_000
    many = pd.DataFrame({"customer": np.arange(n) // 2, "region": np.arange(n) // 2 % 10, "y": np.random.default_rng(0).normal(size=n)})
    assert find_unidentified(design("y ~ 1 + (1 | customer) + (1 | region)", many)) is None
    assert find_unidentified(design("y ~ C(region) + (1 | customer) + (1 | region)", many)) is not None


def test_group_terms_are_written_as_lme4_does(rows: pd.DataFrame) -> None:
    found = design("y ~ x + (1 + x | r) + (0 + x | g)", rows)
    assert [written(block.columns, block.factor.name) for block in found.blocks] == ["(1 + x | r)", "(0 + x | g)"]


TERMS = ["(1 | a)", "(1 | b)", "(1 | c)", "(1 + x | a)", "(0 + x | b)", "(1 + z | c)"]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    levels=st.tuples(*[st.integers(2, 4)] * 3),
    fixed=st.sampled_from(["1", "1 + x", "1 + C(a)", "1 + z + C(b)", "1 + C(a):C(b)"]),
    terms=st.lists(st.sampled_from(TERMS), min_size=1, max_size=3, unique=True),
)
def test_dense_contrasts_say_the_same(seed: int, levels: tuple[int, int, int], fixed: str, terms: list[str]) -> None:
    if len({term for text in terms for term in (text[-2],) if "1" in text}) < sum("1" in text for text in terms):
        return  # a factor's intercepts twice
    rng = np.random.default_rng(seed)
    n = 14
    frame = pd.DataFrame({name: rng.permutation(np.arange(n) % k) for name, k in zip("abc", levels, strict=True)})
    frame["x"], frame["z"] = rng.normal(size=n), (frame["a"] % 2) * 1.0
    frame["y"] = rng.normal(size=n)
    found = find_unidentified(design(f"y ~ {fixed} + {' + '.join(terms)}", frame))
    assert (found is None) == _is_identified(frame, fixed, terms)


def _is_identified(frame: pd.DataFrame, fixed: str, terms: list[str]) -> bool:
    """Covariances of the contrasts that X leaves, row by row, entry by entry."""
    indicator = {name: np.equal.outer(frame[name].to_numpy(), np.unique(frame[name])).astype(float) for name in "abc"}
    both = np.einsum("ni,nj->nij", indicator["a"], indicator["b"]).reshape(len(frame), -1)
    x, z, ones = frame["x"].to_numpy()[:, None], frame["z"].to_numpy()[:, None], np.ones((len(frame), 1))
    parts = {
        "1": [ones],
        "1 + x": [ones, x],
        "1 + C(a)": [indicator["a"]],
        "1 + z + C(b)": [ones, z, indicator["b"]],
        "1 + C(a):C(b)": [both],
    }
    contrasts = null_space(np.hstack(parts[fixed]).T)
    matrices = [np.eye(contrasts.shape[1])]
    for term in terms:
        own = indicator[term[-2]]
        columns = [own * value for value, sign in ((ones, "1"), (x, "x"), (z, "z")) if sign in term]
        for i, left in enumerate(columns):
            for right in columns[i:]:
                product = contrasts.T @ left @ right.T @ contrasts
                matrices.append(product + product.T)
    stacked = np.stack([matrix.ravel() for matrix in matrices])
    return bool(np.linalg.matrix_rank(stacked, tol=1e-8) == len(stacked))
