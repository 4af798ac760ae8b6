"""No published table, nor any difference of published totals, tells of a group below k."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from multilevel.tables.suppression import Protection, all_withheld, withheld, without_names

COUNTS = st.dictionaries(st.tuples(st.sampled_from("abcd"), st.sampled_from("vwxyz")), st.integers(1, 40), min_size=1)


@given(counts=COUNTS, k=st.integers(2, 20))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_what_is_left_after_subtraction_holds_k_people(counts: dict[tuple[str, ...], int], k: int) -> None:
    hidden = withheld(counts, k)
    assert {level for level, count in counts.items() if count < k} <= hidden
    scopes = [list(counts)]
    for place in (0, 1):
        scopes += [[level for level in counts if level[place] == value] for value in {level[place] for level in counts}]
    for scope in scopes:
        inside = [level for level in scope if level in hidden]
        if inside and len(inside) < len(scope):  # the scope's total less its published levels
            assert max(counts[level] for level in inside) >= k


@given(counts=COUNTS, k=st.integers(2, 20))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_nothing_is_withheld_without_need(counts: dict[tuple[str, ...], int], k: int) -> None:
    if min(counts.values()) >= k:
        assert withheld(counts, k) == frozenset()


def test_levels_inside_a_withheld_one_are_withheld_and_people_themselves_always() -> None:
    found = all_withheld(
        Protection(
            "customer",
            10,
            {"region": ("region",), "region:city": ("region", "city"), "customer": ("customer",)},
            {
                "region": {("north",): 4, ("south",): 30, ("west",): 50},
                "region:city": {("north", "a"): 4, ("south", "b"): 18, ("south", "c"): 20, ("west", "d"): 25, ("west", "e"): 30},
                "customer": {("1",): 1, ("2",): 1},
            },
        )
    )
    assert found["region"] == {("north",), ("south",)}
    assert found["region:city"] == {("north", "a"), ("south", "b"), ("south", "c")}
    assert found["customer"] == {("1",), ("2",)}


def test_names_are_blotted_out_longest_first() -> None:
    assert without_names("region[north-west, x] and north", {"north", "north-west"}) == "region[(withheld), x] and (withheld)"
