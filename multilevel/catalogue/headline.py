"""The estimate of a level that is told first: of its members as they are, or of the population that they are a sample of."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

TOLD = {
    "estimate": "population_estimate",
    "std_error": "population_std_error",
    "lower": "population_lower",
    "upper": "population_upper",
    "no_pooling_estimate": "population_no_pooling_estimate",
    "no_pooling_std_error": "population_no_pooling_std_error",
}
"""Columns of ``group_estimates``, and those that take their place where the headline is the population."""


def population_factors(table: pa.Table) -> frozenset[str]:
    """Grouping factors of ``group_estimates`` whose headline is the population; none in a table published before there was a headline."""
    if "headline" not in table.column_names:
        return frozenset()
    told = table.filter(pc.equal(table["headline"], pa.scalar("population")))
    return frozenset(str(name) for name in pc.unique(told["grouping_factor"]).to_pylist())


def with_headline(table: pa.Table, factors: Collection[str] | None = None) -> pa.Table:
    """``group_estimates`` with the headline's numbers in the columns ``estimate`` to ``no_pooling_std_error``.

    ``factors`` whose headline may be the population; None: all. The others, and a table published before there was a headline, speak of
    members.
    """
    told = population_factors(table) if factors is None else population_factors(table) & set(factors)
    if not told:
        return table
    of_population = pc.is_in(table["grouping_factor"], value_set=pa.array(sorted(told)))
    of_population = pc.and_(of_population, pc.equal(table["headline"], pa.scalar("population")))
    for members, population in TOLD.items():
        told = pc.if_else(of_population, table[population], table[members])
        table = table.set_column(table.column_names.index(members), table.schema.field(members), told)
    return table
