"""A checksum changes when values move between line items, or when equal line items change in the same way."""

from __future__ import annotations

import duckdb
import pytest

from groupwise.source.fingerprint import fingerprint_of, fingerprint_sums

ROWS = "select i % 100000 as pair, i // 100000 as side, i * 3 + 0.5 as amount, 'c' || (i * 7 % 1009) as category from range(200000) as r(i)"
NAMES = ("side", "amount", "category")


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1]])
@pytest.mark.parametrize("name", ["amount", "category"])
def test_pairs_of_line_items_that_exchange_a_value_have_another_checksum(names: tuple[str, ...], name: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"create table lines as {ROWS}")
        other = f"first({name}) over (partition by pair order by side"
        swapped = f"case side when 0 then {other} desc) else {other}) end"
        connection.execute(f"create table swapped as select * replace ({swapped} as {name}) from lines")
        sums = fingerprint_sums(names, dict.fromkeys(names, ""))
        one, two = (f"(select pair, {sums} from {table} group by pair)" for table in ("lines", "swapped"))
        same = connection.execute(f"select count(*) from {one} as one join {two} as two using (pair, n_rows, hash_total)").fetchone()
        # those that have the same value twice
        alike = f"select count(*) from (select pair from lines group by pair having min({name}) = max({name}))"
        assert same == connection.execute(alike).fetchone()


def test_line_items_that_are_alike_and_change_alike_have_another_checksum() -> None:
    with duckdb.connect() as connection:
        found = set()
        for amount in (1, 2):
            sums = fingerprint_sums(("amount", "category"), {"amount": "", "category": ""})
            cursor = connection.execute(f"select {sums} from (select {amount} as amount, 'c' as category from range(2))")
            names = [column[0] for column in cursor.description or ()]
            found.add(fingerprint_of(dict(zip(names, cursor.fetchone() or (), strict=True))))
    assert len(found) == 2
