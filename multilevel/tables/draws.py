"""``draws``: joint draws of every coefficient, one row per quantity and draw, for those who need a function of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from multilevel.arrays import Floats, Integers
from multilevel.catalogue.published_tables import DRAWS
from multilevel.catalogue.table_assembly import Heading, published_table
from multilevel.design.effect_rows import add_population, deviation_rows, population_index, terms_of
from multilevel.design.model import Design
from multilevel.design.nesting import Nesting
from multilevel.errors import StudyError
from multilevel.fit.container import Fit
from multilevel.fit.drawn_fit import drawn_fit
from multilevel.fit.interval_estimates import joint_draws
from multilevel.fit.joint_draws import component_values, posterior_of

MOST_ROWS = 5_000_000
"""Rows of the table, which is held in memory: about 1 GB with its labels."""

_KEY = DRAWS.sort_key[:-1]


@dataclass(frozen=True)
class _Piece:
    """Quantities of one kind: labels (m,) by column, values (m, S)."""

    labels: dict[str, list[object]]
    values: Floats


def check_draws(design: Design, tree: Nesting, size: int) -> None:
    """Refuse, before anything is fitted, a table that would not fit into memory: StudyError with how many draws would."""
    width = len(design.population) + sum(len(terms_of(design, name)) * factor.n_levels for name, factor in tree.factors.items())
    if width * size > MOST_ROWS:
        fitting = MOST_ROWS // width
        cure = f"write {fitting} or fewer" if fitting >= 100 else "write draws: null; the model has too many coefficients for any"
        raise StudyError(f"draws: rows {size}: {size:,} draws of {width:,} coefficients are more than {MOST_ROWS:,} rows; {cure}.")


def draws_table(fit: Fit, tree: Nesting, heading: Heading, size: int, seed: int) -> pa.Table:
    """The whole table.

    Parameters
    ----------
    size : draws to publish: of a posterior's draws evenly thinned, of one that is kept without draws and of the likelihood engine's normal
        joint distribution as many as asked for. seed : of the latter two.

    Returns
    -------
    pa.Table
        Rows by key; those of one ``draw`` are one draw from the joint distribution. A bayesian fit's rows hold its variance components
        too; the likelihood engine's joint distribution integrates over them, so it has none.
    """
    if fit.is_posterior:
        fit = drawn_fit(fit, size, seed)
    joint = joint_draws(fit, size, seed)
    pieces = [_population(fit, joint), *_levels(fit, tree, joint), *_components(fit, size)]
    labels = {name: [label for piece in pieces for label in piece.labels[name]] for name in _KEY}
    values = np.concatenate([piece.values for piece in pieces])
    order, keys = _ordered(labels)
    n_draws = values.shape[1]
    places = pa.array(np.repeat(np.arange(len(order), dtype=np.int64), n_draws), type=pa.int64())
    return published_table(
        "draws",
        heading,
        {
            **{name: keys[name].combine_chunks().take(places) for name in _KEY},
            "draw": np.tile(np.arange(1, n_draws + 1), len(order)),
            "distribution": pa.repeat(pa.scalar("posterior" if fit.is_posterior else "normal_joint"), len(places)),
            "value": values[order].ravel(),
        },
        is_sorted=True,
    )


def _population(fit: Fit, joint: Floats) -> _Piece:
    terms = [column.label for column in fit.design.population]
    return _Piece(_labels("population_coefficients", len(terms), term=terms), joint[:, : len(terms)].T)


def _levels(fit: Fit, tree: Nesting, joint: Floats) -> Iterator[_Piece]:
    """Per factor and term what ``group_coefficients.estimate`` is: population coefficient, deviations of ancestors, its own."""
    for name, factor in tree.factors.items():
        for term in terms_of(fit.design, name):
            rows = deviation_rows(fit.design, tree.lineage(name), term)
            place = population_index(fit.design, term)
            rows = rows if place is None else add_population(fit.design, rows, {place: np.ones(1)})
            n = factor.n_levels
            parents: list[object] = [None] * n if factor.parents is None else list(factor.parents)
            labels = _labels(
                "group_coefficients", n, grouping_factor=[name] * n, level=list(factor.levels), parent_level=parents, term=[term] * n
            )
            yield _Piece(labels, np.asarray(rows @ joint.T))


def _components(fit: Fit, size: int) -> Iterator[_Piece]:
    posterior = posterior_of(fit)
    if posterior is None:
        return
    kept = posterior.kept(size)
    for component in fit.components:
        yield _Piece(
            _labels(
                "variance_components",
                1,
                grouping_factor=[component.grouping_factor],
                term=[component.term],
                other_term=[component.other_term],
                quantity=[component.quantity],
            ),
            component_values(fit, component)[kept][None, :],
        )


def _labels(source_table: str, n: int, **given: Sequence[object]) -> dict[str, list[object]]:
    plain: dict[str, list[object]] = {name: [None] * n for name in _KEY}
    return plain | {"source_table": [source_table] * n, "quantity": ["coefficient"] * n} | {name: list(v) for name, v in given.items()}


def _ordered(labels: dict[str, list[object]]) -> tuple[Integers, pa.Table]:
    """The quantities in the order of the key: where each stood, and their labels."""
    table = pa.table({name: pa.array(values, type=pa.string()) for name, values in labels.items()})
    table = table.append_column("place", pa.array(np.arange(table.num_rows))).sort_by([(name, "ascending") for name in _KEY])
    return np.asarray(table["place"].to_numpy()), table.combine_chunks()
