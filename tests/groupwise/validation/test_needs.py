"""Without a suite nothing is dropped: a row that breaks the study's needs is an error that counts and shows such rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from groupwise.source.relation import Relation
from groupwise.study.study import Study
from groupwise.validation.validate import Validated, validate
from multilevel.errors import DataError, StudyError

type Change = Callable[[str], None]
type MakeStudy = Callable[..., Study]
type Describe = Callable[..., Relation]
type Run = Callable[..., Validated]

COUNTS = "n ~ 1 + (1 | category)"


@pytest.fixture
def run(study: MakeStudy, described: Describe, shop: Path) -> Run:
    def go(**fields: object) -> Validated:
        return validate(study(**fields), described(**fields), shop / "run")

    return go


BAD_ROWS = [
    ("amount = null", {}, "amount is null, NaN or infinite; say what to do with them under missing"),
    pytest.param("amount = 'nan'", {}, "amount is null, NaN or infinite", marks=pytest.mark.operations),
    ("amount = 'inf'", {}, "amount is null, NaN or infinite"),
    pytest.param("amount = '-inf'", {}, "amount is null, NaN or infinite", marks=pytest.mark.operations),
    ("price = null", {}, "price is null"),
    ("category = null", {}, r"category is null; .*category: exclude or level"),
    ("amount = 0", {"formula": "log(amount) ~ 1 + (1 | category)"}, r"log\(y\) needs an outcome above zero"),
    pytest.param(
        "amount = -2",
        {"formula": "log(amount) ~ 1 + (1 | category)"},
        r"log\(y\) needs an outcome above zero",
        marks=pytest.mark.operations,
    ),
    ("amount = 0", {"family": "gamma"}, "family gamma needs an outcome above zero"),
    ("n = -1", {"formula": COUNTS, "family": "poisson"}, "family poisson needs counts: 0, 1, 2"),
    ("amount = 1.5", {"formula": "amount ~ 1 + (1 | category)", "family": "poisson"}, "family poisson needs counts"),
    pytest.param(
        "n = -1", {"formula": COUNTS, "family": "negative_binomial"}, "family negative_binomial needs counts", marks=pytest.mark.operations
    ),
    ("k = 9", {"formula": "p(k, n) ~ 1 + (1 | category)", "family": "binomial"}, "0 <= successes <= trials"),
    pytest.param(
        "k = -1",
        {"formula": "p(k, n) ~ 1 + (1 | category)", "family": "binomial"},
        "0 <= successes <= trials",
        marks=pytest.mark.operations,
    ),
    ("n = null", {"formula": "p(k, n) ~ 1 + (1 | category)", "family": "binomial"}, "n is null"),
    ("price = 0", {"formula": "amount ~ log(price) + (1 | category)"}, r"log\(price\) is not a finite number: look for zeros"),
    pytest.param(
        "price = -4",
        {"formula": "amount ~ sqrt(price) + (1 | category)"},
        r"sqrt\(price\) is not a finite number",
        marks=pytest.mark.operations,
    ),
    ("price = 0", {"formula": "amount ~ I(1 / price) + (1 | category)"}, "is not a finite number"),
    ("price = 0", {"formula": "amount ~ center(log(price)) + (1 | category)"}, r"log\(price\) is not a finite number"),
    pytest.param(
        "price = 0",
        {"formula": "amount ~ within(log(price), category) + (1 | category)"},
        r"log\(price\) is not a finite number",
        marks=pytest.mark.operations,
    ),
    ("price = 0", {"formula": COUNTS.replace("1 +", "offset(log(price)) +"), "family": "poisson"}, r"log\(price\) is not a finite number"),
    ("price = 0", {"formula": "amount | weights(price) ~ 1 + (1 | category)"}, r"weights\(price\) must be above zero"),
    ("price = 0", {"formula": "amount | se(price) ~ 1 + (1 | category)"}, r"se\(price\) must be above zero"),
]


@pytest.mark.parametrize(("change_of_rows", "fields", "message"), BAD_ROWS)
def test_rows_that_break_a_need_are_counted_and_shown(
    run: Run, change: Change, change_of_rows: str, fields: dict[str, object], message: str
) -> None:
    change("update lines set k = 3, n = 5 + id % 2")
    assert run(**fields).n_left == 400, "before the change every row is fine"
    change(f"update lines set {change_of_rows} where id between 10 and 14")
    with pytest.raises(DataError, match=message) as caught:
        run(**fields)
    lines = str(caught.value).split("\n")
    assert lines[0].startswith("small: 5 of 400 rows break what the study needs: ")
    assert len(lines) == 4, "the count and the first three rows"
    assert change_of_rows.partition(" = ")[0] in lines[1]


def test_one_row_is_enough(run: Run, change: Change) -> None:
    change("update lines set category = null where id = 17")
    with pytest.raises(DataError, match=r"1 of 400 rows breaks .*\n  category = null, amount = 4.0, price = 3.00"):
        run()


@pytest.mark.parametrize("column", ["is_sold", "k"])
def test_zero_one_true_and_false_are_binomial_outcomes(run: Run, change: Change, column: str) -> None:
    change("update lines set k = id % 2")
    assert run(formula=f"{column} ~ 1 + (1 | category)", family="binomial").n_left == 400


def test_other_numbers_are_no_binomial_outcome(run: Run) -> None:
    with pytest.raises(DataError, match="family binomial needs 0 or 1, true or false"):
        run(formula="k ~ 1 + (1 | category)", family="binomial")


def test_log_of_a_positive_outcome_is_fine_whatever_its_type(run: Run) -> None:
    assert run(formula="log(price) ~ 1 + (1 | category)").n_left == 400


@pytest.mark.parametrize(
    ("formula", "family", "message"),
    [
        ("category ~ 1 + (1 | region)", "gaussian", "the outcome category is VARCHAR; family gaussian needs a number"),
        ("category ~ 1 + (1 | region)", "binomial", "needs a number or true and false"),
        ("is_sold ~ 1 + (1 | region)", "gaussian", "the outcome is_sold is BOOLEAN"),
        ("day ~ 1 + (1 | region)", "poisson", "the outcome day is TIMESTAMP"),
        ("amount ~ log(category) + (1 | region)", "gaussian", "category is VARCHAR; the formula calculates with it"),
        ("amount ~ scale(region) + (1 | category)", "gaussian", "region is VARCHAR; the formula calculates with it"),
        ("amount ~ I(day * 2) + (1 | category)", "gaussian", "day is TIMESTAMP; the formula calculates with it"),
        ("amount ~ within(region, category) + (1 | category)", "gaussian", "region is VARCHAR"),
        ("n ~ offset(region) + (1 | category)", "poisson", "region is VARCHAR"),
        ("amount | weights(region) ~ 1 + (1 | category)", "gaussian", "region is VARCHAR"),
    ],
)
def test_a_type_that_cannot_fit_is_refused(run: Run, formula: str, family: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        run(formula=formula, family=family)


@pytest.mark.parametrize(
    "formula",
    [
        "amount ~ region + (1 | category)",
        "amount ~ is_sold + C(n) + (1 | k)",
        "amount ~ within(price, category) + between(price, category) + (1 | category)",
    ],
)
def test_any_column_may_group_and_text_may_be_a_predictor(run: Run, change: Change, formula: str) -> None:
    change("update lines set n = id % 3")
    assert run(formula=formula).n_left == 400


def test_a_factor_with_one_level_is_refused(run: Run, change: Change) -> None:
    change("update lines set category = 'only'")
    with pytest.raises(
        DataError, match=r"the grouping factor category has one level only; .* Drop its group term \(all rows have category = only\)"
    ):
        run()


def test_a_factor_with_one_level_left_is_refused(run: Run) -> None:
    with pytest.raises(DataError, match="grouping factor category has one level only"):
        run(where="category = 'C1'")


def test_an_interaction_counts_its_combinations(run: Run, change: Change) -> None:
    change("update lines set region = 'R'")
    assert run(formula="amount ~ 1 + (1 | region:category)").n_left == 400
    with pytest.raises(DataError, match="the grouping factor region has one level only"):
        run(formula="amount ~ 1 + (1 | region/category)")


@pytest.mark.parametrize(("column", "value"), [("region", "'R'"), ("is_sold", "false")])
def test_a_categorical_predictor_with_one_level_is_refused(run: Run, change: Change, column: str, value: str) -> None:
    change(f"update lines set {column} = {value}")
    with pytest.raises(DataError, match=f"the predictor {column} has one level only"):
        run(formula=f"amount ~ {column} + (1 | category)")


def test_an_outcome_that_never_differs_is_refused(run: Run, change: Change) -> None:
    change("update lines set amount = 3")
    with pytest.raises(DataError, match="the outcome is the same in every row"):
        run()


@pytest.mark.parametrize("name", ['quo"te', "semi; drop table lines", "it's"])
def test_any_column_name_is_data(run: Run, change: Change, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    Path("lines.sql").write_text(f"select amount, price, category, region as {quoted} from lines")
    assert run(missing={name: "level"}, where=f"{quoted} = 'R0'").n_left == 200
