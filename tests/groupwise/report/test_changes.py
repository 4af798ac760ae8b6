"""What changed, as it is told: who comes first, in which words, and which probability."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from groupwise.report import write_report
from groupwise.report.change_words import counted, first_sentence, part_amounts
from groupwise.report.changes import Changes, Count, Move, Published, changes_between, probability_moved
from groupwise.study.moved import read_threshold
from multilevel.catalogue.published_tables import TABLES, arrow_schema
from multilevel.prediction.change_parts import ChangeParts
from multilevel.prediction.saved_cells import CellSide, SavedCells, cells_table


def published(
    levels: dict[str, tuple[float, float]], *, engine: str = "likelihood", run: str = "r1", cells: Sequence[SavedCells] = ()
) -> Published:
    """One version with ``levels``: factor:label -> estimate and standard error."""
    common = {"study": "pizza", "as_of": date(2026, 1, 1), "run_id": run, "engine": engine, "pooling": "partial"}
    groups = [
        common
        | {"grouping_factor": name.rpartition("=")[0], "level": name.rpartition("=")[2], "is_new": False, "headline": "members"}
        | {"estimate": estimate, "std_error": error}
        for name, (estimate, error) in levels.items()
    ]
    rows: dict[str, list[dict[str, object]]] = {"group_estimates": groups, "diagnostics": [common | {"check": "c", "passed": True}]}
    tables = {name: pa.Table.from_pylist(rows.get(name, []), arrow_schema(name)) for name in TABLES}
    return Published(tables, cells_table(cells) if cells else None)


def one_product(h: float, *, item: str = "hawaiian", left_out: tuple[str, ...] = ()) -> SavedCells:
    """The cells of one product's average, in a mix of two segments."""
    own = CellSide((), ((),), np.ones(1))
    mix = CellSide(("segment",), (("family",), ("office",)), np.array([0.5, 0.5]), (), left_out)
    return SavedCells("product", "members", ((None, item),), np.zeros(1, np.int64), own, mix, np.array([h]), np.array([-1.0, 1.0]), None)


def moved(
    change: float, parts: ChangeParts | None, *, before: float = 100.0, probability: float = 1.0, is_relative: bool = True
) -> Changes:
    move = Move("product", None, "hawaiian", before, before + change, "members", True, probability, parts, is_relative, False)
    return Changes("2026-01-01", (move,), (Count("product", 12, 1, False),), read_threshold("2 %"), False, (), ())


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (moved(5.9, ChangeParts(0.0, 3.0, 2.9)), "hawaiian +5.9 %, 3 points of it mix and 2.9 points behaviour."),
        (moved(5.9, ChangeParts(0.5, 4.2, 1.2)), "hawaiian +5.9 %, 4.2 points of it mix."),
        (moved(10.0, ChangeParts(0.0, 0.1, 9.9)), "hawaiian +10 %, all of it behaviour."),
        (moved(-8.1, ChangeParts(-9.1, -0.2, 1.2)), "hawaiian -8.1 %: range -9.1 points."),
        (moved(3.0, ChangeParts(0.0, -6.0, 9.0)), "hawaiian +3 %: behaviour +9 points, mix -6 points."),
        (moved(5.9, None), "hawaiian +5.9 %."),
        (moved(5.9, None, probability=0.62), "hawaiian +5.9 %; the probability of more than 2 % is 62 %."),
        (moved(0.5, ChangeParts(0.0, 0.3, 0.2), before=-1.0, is_relative=False), "hawaiian +0.5, 0.3 of it mix and 0.2 behaviour."),
    ],
)
def test_one_sentence_says_who_changed_most_surely_and_why(found: Changes, sentence: str) -> None:
    assert first_sentence(found) == sentence


def test_rounding_is_no_part() -> None:
    [move] = moved(5.0, ChangeParts(3e-15, 0.0, 5.0)).moves
    assert [text for text, _ in part_amounts(move)] == ["0", "0", "+5"]


def test_levels_of_a_sample_come_last_and_lead_only_where_there_are_no_others() -> None:
    before = published({"product=hawaiian": (10.0, 0.1), "product=funghi": (10.0, 0.1), "segment:customer=c1": (10.0, 0.1)})
    after = published({"product=hawaiian": (11.0, 0.1), "product=funghi": (10.01, 0.1), "segment:customer=c1": (20.0, 0.1)}, run="r2")
    found = changes_between(before, after, sampled=["customer"])
    assert [(move.level, move.is_sampled) for move in found.moves] == [("hawaiian", False), ("c1", True)]
    assert first_sentence(found) == "hawaiian +10 %."
    assert counted(found).startswith(
        "2 of 3 groups moved by more than 2 % of the earlier estimate: 1 of 2 product, 1 of 1 segment:customer (a sample). "
    )
    assert first_sentence(changes_between(before, after)) == "c1 +100 %."
    still = changes_between(before, published({"product=hawaiian": (10.1, 0.1), "segment:customer=c1": (20.0, 0.1)}), sampled=["customer"])
    assert first_sentence(still) == "None of 1 groups moved by more than 2 % of the earlier estimate."
    alone = changes_between(published({"customer=c1": (10.0, 0.1)}), published({"customer=c1": (20.0, 0.1)}), sampled=["customer"])
    assert first_sentence(alone) == "c1 +100 %."


def test_all_levels_are_there_where_no_number_is_given_moved_or_not() -> None:
    before, after = published({"g=a": (1.0, 0.1), "g=b": (1.0, 0.1)}), published({"g=a": (1.0, 0.1), "g=b": (2.0, 0.1)})
    assert [(move.level, move.has_moved) for move in changes_between(before, after, most=None).moves] == [("b", True), ("a", False)]
    assert [move.level for move in changes_between(before, after).moves] == ["b"]


def test_a_threshold_in_units_counts_changes_in_units() -> None:
    before, after = published({"g=a": (1.0, 0.1), "g=b": (100.0, 0.1)}), published({"g=a": (1.4, 0.1), "g=b": (100.6, 0.1)})
    assert [move.level for move in changes_between(before, after, read_threshold(0.5)).moves] == ["b"]
    assert [move.level for move in changes_between(before, after, read_threshold("2 %")).moves] == ["a"]


@pytest.mark.parametrize(("change", "error", "limit"), [(0.3, 0.1, 0.2), (-0.3, 0.1, 0.2), (0.01, 5.0, 0.2), (-2.0, 1.0, 0.5)])
def test_the_probability_is_of_such_a_change_in_that_direction(change: float, error: float, limit: float) -> None:
    edges = (limit, np.inf) if change > 0 else (-np.inf, -limit)
    expected = quad(lambda x: norm.pdf(x, change, error), *edges)[0]
    [probability] = probability_moved(np.array([change]), np.array([error]), np.array([limit]))
    assert probability == pytest.approx(expected, abs=1e-8)


def test_what_is_known_exactly_moved_or_did_not() -> None:
    assert probability_moved(np.array([0.3, 0.1]), np.zeros(2), np.full(2, 0.2)).tolist() == [1.0, 0.0]


def test_parts_stand_beside_the_change_and_add_up_to_it() -> None:
    before = published({"product=hawaiian": (10.0, 0.1)}, cells=[one_product(10.0)])
    after = published({"product=hawaiian": (11.0, 0.1)}, run="r2", cells=[one_product(11.0)])
    found = changes_between(before, after)
    [move] = found.moves
    assert move.parts == ChangeParts(0.0, 0.0, 1.0) and found.notes == ()
    assert first_sentence(found) == "hawaiian +10 %, all of it behaviour."


def test_versions_that_cannot_be_split_are_compared_and_told_why() -> None:
    whole = published({"product=hawaiian": (11.0, 0.1)}, run="r2", cells=[one_product(11.0)])
    old = published({"product=hawaiian": (10.0, 0.1)})
    [note] = changes_between(old, whole).notes
    assert note == (
        "Changes are not split into range, mix and behaviour: run r1 keeps no cells of the averages (published under privacy, or before "
        "groupwise kept them)."
    )
    assert whole.cells is not None
    foreign = Published(old.tables, whole.cells.drop_columns(["left_out"]))
    [note] = changes_between(foreign, whole).notes
    assert note.startswith("Changes are not split into range, mix and behaviour: run r1: its kept cells were written by another release")
    other = published({"product=hawaiian": (10.0, 0.1)}, cells=[one_product(10.0)])
    assert other.cells is not None
    elsewhere = pa.array(["elsewhere"] * other.cells.num_rows)
    many = Published(other.tables, other.cells.set_column(0, other.cells.schema.field(0), elsewhere))
    found = changes_between(many, whole)
    assert found.notes == ("product: changes are not split, since one of the versions keeps no cells of so many levels.",)
    assert found.moves[0].parts is None and found.moves[0].change == 1.0


def test_columns_that_do_not_tell_cells_apart_are_named() -> None:
    before = published({"product=hawaiian": (10.0, 0.1)}, cells=[one_product(10.0, left_out=("price",))])
    after = published({"product=hawaiian": (11.0, 0.1)}, cells=[one_product(11.0)])
    [note] = changes_between(before, after).notes
    assert note.startswith("product: the split is coarse. There are too many cells to keep them by price")


def test_another_engine_is_named_and_posteriors_only_where_both_are() -> None:
    plain, posterior = published({"g=a": (1.0, 0.1)}), published({"g=a": (2.0, 0.1)}, engine="bayesian")
    mixed = changes_between(plain, posterior)
    assert mixed.notes[0] == "The engine changed from likelihood to bayesian: what that changes counts as behaviour."
    assert "standard errors" in counted(mixed) and "posterior" not in counted(mixed)
    assert "posterior sds" in counted(changes_between(posterior, posterior))


def test_the_report_tells_the_parts(make_tables, study, tmp_path) -> None:
    tables = make_tables(20)
    told = tables["group_estimates"]
    place = told.column_names.index("estimate")
    estimates = pc.multiply(told["estimate"], pc.if_else(pc.equal(told["level"], pa.scalar("250K+")), 1.1, 1.0))
    later = {**tables, "group_estimates": told.set_column(place, told.schema.field(place), estimates)}
    [before] = told.filter(pc.equal(told["level"], pa.scalar("250K+")))["estimate"].to_pylist()

    def cells(h: float) -> pa.Table:
        own = CellSide((), ((),), np.ones(1))
        levels = ((None, "250K+"),)
        return cells_table(
            [SavedCells("income_group", "members", levels, np.zeros(1, np.int64), own, own, np.array([h]), np.zeros(1), None)]
        )

    page = write_report(
        later, {}, {}, tmp_path / "r.html", study=study, previous_tables=tables, cells=cells(1.1 * before), previous_cells=cells(before)
    ).read_text(encoding="utf-8")
    assert "250K+ +10 %, all of it behaviour." in page.replace("<wbr>", "").replace("\N{NO-BREAK SPACE}", " ")
    assert "A change is the sum of three parts" in page


@pytest.mark.parametrize("wrong", ["two percent", "2 % of it", "-1 %", 0, -3, True, "nan", None])
def test_what_is_no_threshold_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="2 %"):
        read_threshold(wrong)
