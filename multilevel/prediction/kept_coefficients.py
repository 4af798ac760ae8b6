"""The coefficients of one saved model, read where they are needed: the joint distribution of some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import block_diag, csr_array, eye_array, kron

from multilevel.arrays import Floats, Integers
from multilevel.fit.arrow_form import ArrowForm, Step
from multilevel.fit.theta_spread import ThetaMixture
from multilevel.linear.joint_normal import square_root
from multilevel.prediction.joint_rows import ARROW, DRAWS
from multilevel.prediction.parquet_rows import Table, flat, list_starts, read_all, read_at
from multilevel.prediction.saved_joint import KeptArrow, KeptDeviations, KeptMixture, SavedJoint

NAMED = ("place", "estimate", "level", "parent_level")
REGRESSIONS = ("location", "step", "variance", "given", "weights", "directions")


class KeptCoefficients:
    """``coefficients`` and ``core`` of the model in row ``head`` of ``models``, whose first coordinate is row ``start`` of the file."""

    def __init__(self, folder: Path, head: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]], start: int) -> None:
        self._folder, self._head, self._start = folder, head, start
        self.n_population = len(head["population"])
        self.sizes = [len(block["terms"]) for block in blocks]
        self.starts = [int(block["start"]) for block in blocks]
        self.population_map = np.array(head["population_map"]).reshape(self.n_population, self.n_population)
        self.maps = tuple(np.array(block["map"]).reshape(k, k) for block, k in zip(blocks, self.sizes, strict=True))

    @property
    def point_weights(self) -> Floats:
        """(K,) of the points of theta."""
        return np.array(self._head["point_weights"], dtype=np.float64)

    def places(self, levels: Sequence[Integers]) -> Integers:
        """(p + q,) coordinates of the population coefficients and of the effects of ``levels``, one array of levels a block."""
        effects = [(start + own[:, None] * k + np.arange(k)).ravel() for own, k, start in zip(levels, self.sizes, self.starts, strict=True)]
        return np.concatenate([np.arange(self.n_population), *effects]).astype(np.int64)

    def at(self, levels: Sequence[Integers]) -> tuple[Floats, SavedJoint]:
        """Estimates (p + q,) of those coefficients, and their joint distribution."""
        places = self.places(levels)
        written = self._written([len(own) for own in levels])
        mean = self._rows(places, ("estimate",))["estimate"].to_numpy()
        if self._head["distribution"] == DRAWS:
            return mean, KeptDeviations(self._draws(places), written, True)
        if self._head["distribution"] == ARROW:
            coordinates, arrow = self._arrow(places)
            return mean, KeptArrow(arrow.form, arrow.location, arrow.directions, _onto(written, places, coordinates))
        return mean, KeptMixture(replace(self._points(places), matrix=written))

    def spread(self, rows: csr_array) -> Floats:
        """(m, S) deviations of ``rows`` (m, coordinates), as ``SavedJoint.spread``."""
        needed = np.unique(rows.indices).astype(np.int64)
        inner = csr_array((rows.data, np.searchsorted(needed, rows.indices), rows.indptr), shape=(rows.shape[0], len(needed)))
        whole = csr_array(eye_array(len(needed), format="csr"))
        if self._head["distribution"] == DRAWS:
            return KeptDeviations(self._draws(needed), whole, True).spread(inner)
        if self._head["distribution"] == ARROW:
            coordinates, arrow = self._arrow(needed)
            moved = _onto(whole, needed, coordinates)
            return KeptArrow(arrow.form, arrow.location, arrow.directions, moved).spread(inner)
        return KeptMixture(replace(self._points(needed), matrix=whole)).spread(inner)

    def labels(self, block: int, levels: Integers) -> tuple[list[str], list[str | None]]:
        """Level and parent level of some of a block's levels."""
        rows = self._rows(self.starts[block] + levels * self.sizes[block], ("level", "parent_level"))
        return rows["level"].to_pylist(), rows["parent_level"].to_pylist()

    def _rows(self, places: Integers, columns: Sequence[str]) -> Table:
        return read_at(self._folder / "coefficients.parquet", self._start + places, columns)

    def _written(self, counts: Sequence[int]) -> csr_array:
        """From unit-free coefficients to those as written, of so many levels of each block."""
        parts = [csr_array(self.population_map)]
        parts += [csr_array(kron(eye_array(n, format="csr"), csr_array(own))) for n, own in zip(counts, self.maps, strict=True)]
        return csr_array(block_diag(parts, format="csr"))

    def _draws(self, places: Integers) -> Any:
        return flat(self._rows(places, ("draws",))["draws"]).reshape(len(places), -1).T

    @cached_property
    def _core(self) -> tuple[Integers, Floats]:
        """(c,) places and (c, c) covariance."""
        rows = self._core_rows()
        return rows["place"].to_numpy(), _matrix(rows["covariance"], rows.num_rows)

    def _core_rows(self) -> Table:
        rows = read_all(self._folder / "core.parquet")
        return rows.filter(pc.field("model") == self._head["place"])

    @cached_property
    def _every_point(self) -> tuple[Floats, Floats]:
        """(K, w) locations and (K, w, w) covariances of all coordinates at the points of the variances."""
        rows, n = self._core_rows(), len(self._head["point_weights"])
        width = rows.num_rows // n
        return rows["location"].to_numpy().reshape(n, width), _matrix(rows["covariance"], rows.num_rows).reshape(n, width, width)

    def _points(self, places: Integers) -> ThetaMixture:
        """The distribution of the coordinates at ``places``."""
        locations, covariances = self._every_point
        roots = np.stack([square_root(own[np.ix_(places, places)]) for own in covariances], axis=1)
        return ThetaMixture(locations[:, places], roots, (), self.point_weights)

    def _arrow(self, places: Integers) -> tuple[Integers, KeptArrow]:
        """The distribution of those coordinates, of the core, and of whatever lies between; which they are, ascending."""
        core, covariance = self._core
        columns = ("place", *REGRESSIONS)
        tables = []
        known, wanted = np.zeros(0, np.int64), np.union1d(places, core)
        while len(wanted):
            read = self._rows(wanted, columns)
            tables.append(read)
            known = np.union1d(known, wanted)
            wanted = np.setdiff1d(flat(read["given"]), known).astype(np.int64)
        table: Table = pa.concat_tables(tables).sort_by("place")
        step = table["step"].to_numpy()
        own = [np.flatnonzero(step == each) for each in np.unique(step[~np.isnan(step)])]
        given = _entries(table, known)
        variance = table["variance"].to_numpy()
        steps = tuple(Step(rows, csr_array(given[rows]), variance[rows]) for rows in own)
        form = ArrowForm(len(known), steps, np.searchsorted(known, core), covariance)
        directions = _matrix(table["directions"], len(known))
        return known, KeptArrow(form, table["location"].to_numpy(), directions, csr_array((0, len(known))))


def _entries(table: Table, known: Integers) -> csr_array:
    """(n, n) weights on the coordinates ``known`` (n,)."""
    columns = np.searchsorted(known, flat(table["given"]))
    return csr_array((flat(table["weights"]), columns, list_starts(table["given"])), shape=(len(known), len(known)))


def _onto(rows: csr_array, places: Integers, coordinates: Integers) -> csr_array:
    """The rows (m, n) of coordinates ``places`` (n,) as rows of all ``coordinates`` (v,)."""
    columns = np.searchsorted(coordinates, places)[rows.indices]
    return csr_array((rows.data, columns, rows.indptr), shape=(rows.shape[0], len(coordinates)))


def _matrix(column: Any, n_rows: int) -> Floats:
    """(n, m) from lists of m doubles."""
    values: Floats = flat(column)
    return values.reshape(n_rows, len(values) // n_rows if n_rows else 0)
