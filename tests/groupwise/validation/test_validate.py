"""Rules quarantine first, then exclusions and missing values, then the study's needs on what is left."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from groupwise.run_folder import RunFolder
from groupwise.source.relation import Relation, connect
from groupwise.study.study import Study
from groupwise.validation.validate import Validated, validate
from groupwise.validation.validation_page import write_validation_page
from multilevel.errors import DataError, SourceError, StudyError

type Change = Callable[[str], None]
type MakeStudy = Callable[..., Study]
type Describe = Callable[..., Relation]
type Run = Callable[..., Validated]

AMOUNT_POSITIVE: dict[str, Any] = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "amount", "min_value": 0}}
CATEGORY_PRESENT: dict[str, Any] = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "category"}}


def suite(*rules: tuple[dict[str, Any], str, str, float]) -> None:
    """Write ``expectations/rules.json`` from (rule, rule_id, severity, mostly)."""
    entries = [
        {**rule, "kwargs": {**rule["kwargs"], "mostly": mostly}, "severity": severity, "meta": {"rule_id": name, "why": f"Why {name}."}}
        for rule, name, severity, mostly in rules
    ]
    Path("expectations").mkdir(exist_ok=True)
    Path("expectations/rules.json").write_text(json.dumps({"expectations": entries}))


@pytest.fixture
def run(study: MakeStudy, described: Describe, shop: Path) -> Run:
    """Extract and validate a study over the shop, fields overridden."""

    def go(**fields: object) -> Validated:
        return validate(study(**fields), described(**fields), shop / "run")

    return go


def rows(relation: Relation, found: Validated, picks: str = "*") -> list[tuple[Any, ...]]:
    with connect(relation) as connection:
        return connection.sql(f"select {picks} from ({found.study_sql})").fetchall()


def quarantined(found: Validated) -> list[tuple[Any, ...]]:
    assert found.quarantine is not None
    return duckdb.sql(f"select id, broken_rules from read_parquet('{found.quarantine}') order by id").fetchall()


def messages(caught: pytest.ExceptionInfo[Exception]) -> Sequence[str]:
    """The lines of an error; at most six may reach a terminal."""
    lines = str(caught.value).split("\n")
    assert len(lines) <= 6
    assert lines[0].startswith("small: ")
    return lines


def test_clean_rows_all_pass(run: Run, described: Describe) -> None:
    found = run()
    assert (found.n_rows, found.n_left, found.n_quarantined, found.n_excluded, found.quarantine) == (400, 400, 0, 0, None)
    assert rows(described(), found, "count(*)") == [(400,)]


def test_broken_rows_are_quarantined_with_every_rule_they_broke(run: Run, described: Describe, change: Change) -> None:
    change("update lines set amount = -1 where id in (5, 9); update lines set category = null where id in (9, 11)")
    suite((AMOUNT_POSITIVE, "amount_ok", "critical", 0.99), (CATEGORY_PRESENT, "category_ok", "warning", 1.0))
    found = run(expectations="rules", quarantine_limit=0.05)
    assert quarantined(found) == [(5, "amount_ok"), (9, "amount_ok;category_ok"), (11, "category_ok")]
    assert (found.n_quarantined, found.n_left) == (3, 397)
    assert [(rule.rule_id, rule.checked, rule.unexpected, rule.success) for rule in found.rules] == [
        ("amount_ok", 400, 2, True),
        ("category_ok", 400, 2, False),
    ]
    kept = {row[0] for row in rows(described(), found, "id")}
    assert kept == set(range(400)) - {5, 9, 11}


def test_an_info_rule_only_reports(run: Run, change: Change) -> None:
    change("update lines set region = null")
    suite(({**CATEGORY_PRESENT, "kwargs": {"column": "region"}}, "region_known", "info", 0.5))
    found = run(expectations="rules")
    assert (found.n_quarantined, found.n_left, found.quarantine) == (0, 400, None)
    assert (found.rules[0].unexpected, found.rules[0].success) == (400, False)


def test_a_critical_rule_broken_by_too_many_rows_stops_the_run(run: Run, change: Change) -> None:
    change("update lines set amount = -1 where id < 8")
    suite((AMOUNT_POSITIVE, "amount_ok", "critical", 0.99))
    with pytest.raises(DataError, match=r"critical rule amount_ok failed: 8 of 400 .* of which 1.00% may \(Why amount_ok.\)") as caught:
        run(expectations="rules", quarantine_limit=0.5)
    assert "quarantine/part-0.parquet" in messages(caught)[1]


def test_a_warning_that_fails_does_not_stop_the_run(run: Run, change: Change) -> None:
    change("update lines set amount = -1 where id < 8")
    suite((AMOUNT_POSITIVE, "amount_ok", "warning", 0.99))
    found = run(expectations="rules", quarantine_limit=0.02)
    assert (found.rules[0].success, found.n_quarantined) == (False, 8)


def test_the_run_stops_above_the_quarantine_limit_and_not_at_it(run: Run, change: Change) -> None:
    change("update lines set amount = -1 where id < 4")
    suite((AMOUNT_POSITIVE, "amount_ok", "warning", 0.5))
    assert run(expectations="rules", quarantine_limit=0.01).n_quarantined == 4
    with pytest.raises(DataError, match=r"4 of 400 line items \(1.00%\) broke a rule; quarantine_limit is 0.99%. Most broke amount_ok"):
        run(expectations="rules", quarantine_limit=0.0099)


@pytest.mark.parametrize(
    ("limit", "message"), [(0.01, r"\(100.00%\) broke a rule"), (1.0, "no line items are left of 400: 400 quarantined")]
)
def test_all_rows_quarantined_is_an_error(run: Run, change: Change, limit: float, message: str) -> None:
    change("update lines set amount = -1")
    suite((AMOUNT_POSITIVE, "amount_ok", "warning", 0.5))
    with pytest.raises(DataError, match=message):
        run(expectations="rules", quarantine_limit=limit)


def test_uniqueness_quarantines_every_one_of_the_rows_alike(run: Run, described: Describe, change: Change) -> None:
    change("update lines set id = 7 where id = 8")
    suite(({"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}}, "id_unique", "critical", 0.9))
    found = run(expectations="rules")
    assert (found.n_quarantined, quarantined(found)) == (2, [(7, "id_unique"), (7, "id_unique")])
    assert rows(described(), found, "count(*), count(id)") == [(398, 398)]


def test_a_quarantined_row_is_not_counted_as_excluded(run: Run, change: Change) -> None:
    change("update lines set amount = -1, category = null where id < 3")
    suite((AMOUNT_POSITIVE, "amount_ok", "warning", 0.5))
    found = run(expectations="rules", where="amount > 1", missing={"category": "exclude"})
    ones = sum(1 + i % 7 == 1 for i in range(3, 400))
    assert (found.n_quarantined, found.n_excluded_where, found.n_excluded_missing, found.n_left) == (3, ones, 0, 397 - ones)


def test_where_excludes_rows_for_which_it_is_false_or_unknown(run: Run, described: Describe, change: Change) -> None:
    change("update lines set price = null where id < 10")
    found = run(where="price > 1")
    assert found.n_excluded_where == 10 + sum(i % 5 == 0 for i in range(10, 400))
    assert rows(described(), found, "min(price), count(*)") == [(2, found.n_left)]


def test_a_condition_that_fails_on_a_row_is_an_error_in_one_line(run: Run) -> None:
    with pytest.raises(DataError, match="the text 'C0' of the column category is no INTEGER") as caught:
        run(where="category::integer > 1")
    assert len(messages(caught)) == 1


def test_missing_level_makes_a_level(run: Run, described: Describe, change: Change) -> None:
    change("update lines set category = null where id < 10")
    found = run(missing={"category": "level"})
    assert found.n_left == 400
    assert rows(described(), found, "count(*) filter (category = '(missing)'), count(category)") == [(10, 400)]


def test_a_level_that_is_called_missing_already_is_not_mixed_with_the_missing(run: Run, change: Change) -> None:
    change("update lines set category = '(missing)' where id < 10")
    assert run(missing={"category": "level"}).n_left == 400
    change("update lines set category = null where id between 10 and 12")
    with pytest.raises(DataError, match=r"missing: category: level makes 3 rows .* the level \(missing\), but 10 rows hold that very text"):
        run(missing={"category": "level"})


def test_missing_level_of_a_number_and_a_boolean_is_text(run: Run, described: Describe, change: Change) -> None:
    change("update lines set is_sold = null where id = 0; alter table lines alter n type double; update lines set n = 'nan' where id = 1")
    found = run(missing={"is_sold": "level", "n": "level"}, formula="amount ~ is_sold + (1 | n) + (1 | category)")
    assert sorted(set(rows(described(), found, "is_sold, n"))) == [
        ("(missing)", "5.0"),
        ("false", "(missing)"),
        ("false", "5.0"),
        ("true", "5.0"),
    ]


def test_missing_exclude_drops_and_counts(run: Run, change: Change) -> None:
    change("update lines set category = null where id < 10; update lines set amount = 'nan' where id between 8 and 12")
    found = run(missing={"category": "exclude", "amount": "exclude"})
    assert (found.n_excluded_missing, found.n_left) == (13, 387)


def test_mean_and_indicator_fills_in_the_mean_of_the_rows_that_are_kept(run: Run, described: Describe, change: Change) -> None:
    change("update lines set price = null where id < 10; update lines set price = 1000 where region = 'R1'")
    fields = {
        "missing": {"price": "mean_and_indicator"},
        "formula": "amount ~ price + price_missing + (1 | category)",
        "where": "region = 'R0'",
    }
    found = run(**fields)
    mean = sum(1 + i % 5 for i in range(10, 400, 2)) / 195
    assert rows(described(**fields), found, "distinct price, price_missing, typeof(price)") != []
    filled = rows(described(**fields), found, "count(*), min(price), max(price)")
    kept = [row for row in rows(described(**fields), found, "price, price_missing") if row[1] == 1]
    assert kept == [(pytest.approx(mean), 1)] * 5
    assert filled == [(200, 1.0, 5.0)]


def test_mean_and_indicator_is_for_numbers_that_are_there(run: Run, change: Change) -> None:
    with pytest.raises(StudyError, match=r"missing: category: mean_and_indicator is for numbers, category is VARCHAR"):
        run(missing={"category": "mean_and_indicator"})
    change("update lines set price = null")
    with pytest.raises(DataError, match="price: mean_and_indicator needs at least one value"):
        run(missing={"price": "mean_and_indicator"}, formula="amount ~ price + (1 | category)")


def test_values_that_break_a_rule_do_not_enter_the_mean(run: Run, described: Describe, change: Change) -> None:
    change("update lines set price = 1; update lines set price = null where id < 2")
    change("update lines set price = 999, amount = -1 where id = 3")
    suite((AMOUNT_POSITIVE, "amount_ok", "warning", 0.5))
    fields = {"expectations": "rules", "missing": {"price": "mean_and_indicator"}, "formula": "amount ~ price + (1 | category)"}
    found = run(**fields)
    assert set(rows(described(**fields), found, "price")) == {(1.0,)}


def test_rules_come_before_needs(run: Run, change: Change) -> None:
    """A row that a rule sets aside does not break the study's needs as well."""
    change("update lines set category = null where id < 2")
    with pytest.raises(DataError, match="category is null"):
        run()
    suite((CATEGORY_PRESENT, "category_ok", "warning", 0.9))
    assert run(expectations="rules").n_left == 398


def test_a_unit_of_many_rules_reads_the_file_as_it_was_described(study: MakeStudy, described: Describe, change: Change, shop: Path) -> None:
    found = described()
    change("delete from lines where id = 1")
    with pytest.raises(SourceError, match="written to"):
        validate(study(), found, shop / "run")


def test_the_record_keeps_the_counts_also_of_a_run_that_stopped(run: Run, change: Change, shop: Path) -> None:
    change("update lines set category = null where id < 2")
    with pytest.raises(DataError):
        run()
    content = json.loads((shop / "run" / "validation.json").read_text())
    assert (content["rows"], content["left"], content["rules"]) == (400, 400, [])
    assert content["stopped"].startswith("small: 2 of 400 rows break what the study needs: category is null")


def test_a_second_try_leaves_no_quarantine_of_the_first(run: Run, change: Change, shop: Path) -> None:
    suite((AMOUNT_POSITIVE, "amount_ok", "warning", 0.5))
    change("update lines set amount = -1 where id < 3")
    assert run(expectations="rules").quarantine == shop / "run" / "quarantine" / "part-0.parquet"
    change("update lines set amount = 1 where id < 3")
    assert run(expectations="rules").quarantine is None
    assert not (shop / "run" / "quarantine").exists()


def test_a_column_called_like_ours_is_kept_apart(run: Run, change: Change) -> None:
    Path("lines.sql").write_text('select *, 1 as broken_rules, true as "groupwise is kept" from lines')
    change("update lines set amount = -1 where id < 3")
    suite((AMOUNT_POSITIVE, "amount_ok", "warning", 0.5))
    assert quarantined(run(expectations="rules"))[0] == (0, "amount_ok")


def test_the_page_reads_without_a_network(run: Run, study: MakeStudy, change: Change, shop: Path) -> None:
    change("update lines set amount = -1, region = '<script>alert(1)</script>' where id < 3")
    suite((AMOUNT_POSITIVE, "amount_ok", "warning", 0.5))
    run(expectations="rules")
    folder = RunFolder(shop / "run")
    folder.write_study(study(expectations="rules", title="A <b>title</b>"), "small.yaml")
    page = write_validation_page(folder)
    assert page is not None
    text = page.read_text()
    assert "http:" not in text and "https:" not in text
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "amount_ok" in text
    assert "Why amount_ok." in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_of_a_run_that_stopped_says_why(run: Run, study: MakeStudy, change: Change, shop: Path) -> None:
    change("update lines set category = null where id < 2")
    with pytest.raises(DataError):
        run()
    folder = RunFolder(shop / "run")
    folder.write_study(study(), "small.yaml")
    page = write_validation_page(folder)
    assert page is not None
    assert "The run stopped here." in page.read_text()
    assert "category is null" in page.read_text()


def test_the_page_shows_a_row_of_every_kind_of_breach(run: Run, change: Change, shop: Path) -> None:
    change("update lines set amount = -1 where id < 30; update lines set category = null where id = 399")
    suite((AMOUNT_POSITIVE, "amount_ok", "warning", 0.5), (CATEGORY_PRESENT, "category_ok", "warning", 0.5))
    run(expectations="rules", quarantine_limit=0.5)
    examples = json.loads((shop / "run" / "validation.json").read_text())["examples"]
    assert [row["broken_rules"] for row in examples[:2]] == ["amount_ok", "category_ok"]
    assert len(examples) == 10
    assert next(iter(examples[0])) == "broken_rules"
