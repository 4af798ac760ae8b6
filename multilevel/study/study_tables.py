"""The published tables of a study from its fitted parts; what is of one part only says which, what is of the outcome is of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from multilevel.catalogue.published_tables import EVERY_TABLE
from multilevel.cells.unit_sums import UnitSums
from multilevel.design.nesting import Nesting
from multilevel.estimands.expected_outcome import ExpectedOutcome
from multilevel.fit.coefficients import coefficients_of
from multilevel.fit.container import Fit
from multilevel.machine import give_back
from multilevel.pooling.free_intercepts import FreeIntercepts
from multilevel.study.fitted_parts import PartResults
from multilevel.study.options import FitOptions
from multilevel.tables.cell_estimates import cell_estimates
from multilevel.tables.draws import draws_table
from multilevel.tables.group_coefficients import group_coefficients
from multilevel.tables.group_estimates import group_estimates
from multilevel.tables.population_coefficients import population_coefficients
from multilevel.tables.variance_components import variance_components


def study_tables(
    results: Sequence[PartResults],
    outcome: ExpectedOutcome,
    tree: Nesting,
    options: FitOptions,
    units: Sequence[UnitSums] = (),
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, pa.Table]:
    """Every table but ``diagnostics``; ``draws`` where the study asks for them.

    ``units`` : sums of sampled columns that the formula leaves out. ``progress`` : called with the table that is being made and the share
    of all that is complete, 0 to 1.
    """

    def tell(table: str, share: float) -> None:
        give_back()
        if progress is not None:
            progress(table, share)

    heading, named, seed = options.heading, options.publishing.predict_for, options.model.seed
    population, components, groups = [], [], []
    for result in results:
        kinds = [coefficients_of(result.fit, "partial"), *result.pooling.coefficients]
        tell("coefficients and variance components", 0.0)
        population.append(population_coefficients(heading, kinds, result.without))
        components.append(variance_components(result.fit, heading, result.without))
        tell("coefficients of groups", 0.1)
        groups.append(group_coefficients(result.everywhere, tree, heading, named, seed, result.pooling.terms))
    # of a two-part outcome the amount alone may be a logarithm
    variance = results[-1].variance
    tables = {
        "population_coefficients": _one_table("population_coefficients", results, population),
        "variance_components": _one_table("variance_components", results, components),
        "group_coefficients": _one_table("group_coefficients", results, groups),
    }
    tell("estimates of groups", 0.3)
    tables["group_estimates"] = group_estimates(
        outcome,
        tree,
        heading,
        complete=_complete(results),
        free=_free(results),
        variance=variance,
        named=named,
        sampled=options.publishing.sampled,
        units=units,
        seed=seed,
    )
    tell("estimates of cells", 0.9)
    tables["cell_estimates"] = cell_estimates(outcome, tree, heading, options.publishing.cells_pair, variance, seed)
    if options.publishing.draws is not None:
        [result] = results
        tables["draws"] = draws_table(result.fit, tree, heading, options.publishing.draws, seed)
    return tables


def _one_table(name: str, results: Sequence[PartResults], tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of all parts in the order of the key, each with its part where there are two."""
    if len(tables) == 1:
        return tables[0]
    marked = []
    for result, table in zip(results, tables, strict=True):
        at = table.schema.get_field_index("part")
        marked.append(table.set_column(at, table.schema.field(at), pa.array([result.part.name] * table.num_rows, pa.string())))
    return pa.concat_tables(marked).sort_by([(key, "ascending") for key in EVERY_TABLE[name].sort_key])


def _complete(results: Sequence[PartResults]) -> list[Fit] | None:
    """Complete pooling of every part, None where one has none."""
    found = [result.pooling.complete for result in results if result.pooling.complete is not None]
    return found if len(found) == len(results) else None


def _free(results: Sequence[PartResults]) -> dict[str, list[Callable[[], FreeIntercepts]]]:
    """What makes no pooling of every part, by the factors that all of them have it of."""
    first = results[0].pooling.free
    return {
        name: [result.pooling.free[name] for result in results] for name in first if all(name in result.pooling.free for result in results)
    }
