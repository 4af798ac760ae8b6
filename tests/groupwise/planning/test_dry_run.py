"""The dry run says what would be estimated, and every refusal, without fitting."""

from datetime import date
from pathlib import Path

import duckdb
import pytest

from groupwise.planning.dry_run import plan
from groupwise.planning.planned import Plan
from groupwise.source.relation import Relation
from groupwise.study.study import Study
from multilevel.errors import StudyError


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "shop.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute(
            "create table lines as select i % 12 as category, 'D' || (i % 12 % 3) as department, 'only' as chain, "
            "i % 5 = 0 as on_sale, i % 5 = 0 as is_sold, exp(sin(i)) as amount, i * 1e0 as clock from range(5000) as r(i)"
        )
    return path


def plan_of(database: Path, formula: str, *, with_priors: bool = False, **fields: object) -> Plan:
    study = Study.model_validate({"name": "spend", "formula": formula, "source": {"parquet": "unused.parquet"}, **fields})
    return plan(
        study, Relation("spend", str(database), (), "select * from lines", date(2026, 1, 1)), "select * from lines", with_priors=with_priors
    )


def test_a_plan_counts_cells_parameters_and_effects(database: Path) -> None:
    found = plan_of(database, "log(amount) ~ on_sale + (1 + on_sale | department/category)")
    assert (found.n_rows, found.n_cells, found.compression_ratio) == (5000, 24, pytest.approx(5000 / 24))
    assert [(term.label, term.kind) for term in found.terms] == [("Intercept", "individual"), ("on_sale[true]", "individual")]
    assert [(group.factor, group.n_levels, group.terms, group.parent) for group in found.groups] == [
        ("department", 3, ("Intercept", "on_sale[true]"), None),
        ("department:category", 12, ("Intercept", "on_sale[true]"), "department"),
    ]
    assert (found.n_parameters, found.n_effects) == (2 + 3 + 3 + 1, 30)
    assert found.sql is not None
    assert "group by all" in found.sql
    assert (found.warnings, found.notes, found.refusals) == ((), (), ())


def test_changes_that_diff_will_not_split_are_said(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groupwise.planning.planned.MOST_CELLS", 10)
    [note] = plan_of(database, "amount ~ on_sale + (1 | department/category)").notes
    assert note == "department:category has 12 levels: `diff` compares them, and splits no changes of more than 10."


def test_little_compression_is_said(database: Path) -> None:
    found = plan_of(database, "on_sale ~ clock + (1 | category)", family="binomial")
    assert found.n_cells == 5000
    assert "hardly any compression" in found.notes[0]


@pytest.mark.parametrize(
    ("formula", "fields", "message"),
    [
        ("amount ~ 1 + (1 | chain)", {}, "one level"),
        ("amount ~ 1 + (1 | category/department)", {}, "wrong way round"),
        ("amount ~ department + (1 | department)", {}, "identified[department]"),
        ("amount ~ 1 + (1 | category)", {"predict_for": {"category": [99, "99"]}}, "'99' of category twice"),
        ("amount ~ 1 + (1 | category)", {"predict_for": {"shop": ["new"]}}, "names the grouping factor 'shop'"),
        ("amount ~ 1 + (1 | category)", {"cells": ("category", "department")}, "not a grouping column"),
        ("amount ~ price + (1 | category)", {}, "no column `price`"),
        ("on_sale ~ clock + (1 | category)", {"family": "binomial", "max_cells": 100}, "max_cells = 100"),
        ("is_sold ~ on_sale + (1 | category)", {"family": "binomial"}, "or make it a group term: (1 | on_sale)"),
    ],
)
def test_a_plan_lists_what_would_stop_the_run(database: Path, formula: str, fields: dict[str, object], message: str) -> None:
    found = plan_of(database, formula, **fields)
    assert len(found.refusals) == 1
    assert message in found.refusals[0]


def test_a_plan_says_what_the_fit_will_cost_and_what_the_priors_expect(database: Path) -> None:
    made = plan_of(database, "log(amount) ~ 1 + on_sale + (1 | category)", with_priors=True)
    assert "by the collapsed form" in str(made.cost)
    assert not made.takes_hours
    assert any(line.startswith("sd(category, Intercept) ~ ") for line in made.priors)
    assert "observed mean" in made.prior_predictive[-1]


def test_a_plan_says_when_a_posterior_is_kept_without_draws(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multilevel.bayesian.memory.MOST_DRAWN", 10)
    assert "by the importance form" in str(plan_of(database, "log(amount) ~ 1 + on_sale + (1 | category)").cost)
    drawn = plan_of(database, "log(amount) ~ 1 + on_sale + (1 | category)", sampling={"form": "collapsed"})
    assert "by the collapsed form" in str(drawn.cost)
    # nothing is refused for draws that nobody makes
    monkeypatch.setattr("multilevel.bayesian.memory.machine_bytes", lambda: 1_000_000)
    assert plan_of(database, "log(amount) ~ 1 + on_sale + (1 | category)").refusals == ()


def test_the_likelihood_engine_has_a_cost_and_no_priors(database: Path) -> None:
    made = plan_of(database, "log(amount) ~ 1 + (1 | category)", engine="likelihood")
    assert "by the linear form" in str(made.cost)
    with pytest.raises(StudyError, match="has no priors"):
        plan_of(database, "log(amount) ~ 1 + (1 | category)", engine="likelihood", with_priors=True)


def test_a_posterior_that_does_not_fit_into_memory_is_refused(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multilevel.bayesian.memory.machine_bytes", lambda: 1_000_000)
    found = plan_of(database, "log(amount) ~ on_sale + (1 | department/category)")
    assert "17 coefficients with 4,000 joint draws take about" in found.refusals[0]
    assert "department:category (12): leave it out of the formula, write engine: likelihood" in found.refusals[0]
    # half of what the tables leave of a million bytes, which alone would hold twice 306 draws
    offered = int(found.refusals[0].split("sampling: {draws: ")[1].split("}")[0])
    assert 250 < offered < 306
    assert plan_of(database, "log(amount) ~ on_sale + (1 | department/category)", engine="likelihood").refusals == ()


def test_a_likelihood_fit_that_does_not_fit_into_memory_is_refused(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multilevel.linear.footprint.memory_bytes", lambda: 1_000_000)
    found = plan_of(database, "log(amount) ~ on_sale + (1 | department/category)", engine="likelihood")
    assert "Most effects are of department:category (12 levels)" in found.refusals[0]
    assert found.cost is None


def test_a_second_factor_too_large_for_the_dense_factor_is_refused_by_name(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multilevel.linear.assemble.DENSE_LIMIT", 1)
    found = plan_of(database, "log(amount) ~ on_sale + (1 | department/category)", engine="likelihood")
    assert "Beside department:category" in found.refusals[0]
    assert "(department: " in found.refusals[0]
