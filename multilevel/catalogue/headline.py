"""The estimate of a level that is told first: of its members as they are, or of the population that they are a sample of."""

from __future__ import annotations

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


def with_headline(table: pa.Table) -> pa.Table:
    """``group_estimates`` with the headline's numbers in the columns ``estimate`` to ``no_pooling_std_error``.

    A table published before there was a headline is returned as it is: it speaks of members.
    """
    if "headline" not in table.column_names:
        return table
    of_population = pc.equal(table["headline"], pa.scalar("population"))
    for members, population in TOLD.items():
        told = pc.if_else(of_population, table[population], table[members])
        table = table.set_column(table.column_names.index(members), table.schema.field(members), told)
    return table
