"""The tables' own part of privacy: what lies inside a suppressed level, people as levels, names in messages."""

from __future__ import annotations

from multilevel.redaction.redacted_tables import Protection, all_suppressed, without_names


def test_levels_inside_a_suppressed_one_are_suppressed_and_people_themselves_always() -> None:
    found = all_suppressed(
        Protection(
            "customer",
            10,
            {"region": ("region",), "region:city": ("region", "city"), "customer": ("customer",)},
            {
                "region": {("north",): 4, ("south",): 30, ("west",): 50},
                "region:city": {("north", "a"): 4, ("south", "b"): 18, ("south", "c"): 20, ("west", "d"): 25, ("west", "e"): 30},
                "customer": {("1",): 1, ("2",): 1},
            },
            {"region": 1, "region:city": 2, "customer": 1},
        )
    )
    assert found["region"] == {("north",), ("south",)}
    assert found["region:city"] == {("north", "a"), ("south", "b"), ("south", "c")}
    assert found["customer"] == {("1",), ("2",)}


def test_names_are_redacted_longest_first() -> None:
    assert without_names("region[north-west, x] and north", {"north", "north-west"}) == "region[(withheld), x] and (withheld)"


def test_a_number_is_redacted_as_a_name_and_kept_as_a_figure() -> None:
    text = "R-hat of 17 parameters is that of customer[17, Intercept]; not within 17, 23 and 17 more: 17 levels"
    assert without_names(text, {"17"}) == (
        "R-hat of 17 parameters is that of customer[(withheld), Intercept]; not within (withheld), 23 and 17 more: 17 levels"
    )


def test_a_name_inside_another_word_stays() -> None:
    assert without_names("line items of tem", {"tem"}) == "line items of (withheld)"
