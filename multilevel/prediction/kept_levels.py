"""Levels of a saved model's grouping factors, found by the labels that name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from multilevel.arrays import Integers
from multilevel.prediction.joint_rows import plain_forms
from multilevel.prediction.parquet_rows import read_at, read_between

type Texts = Mapping[str, Sequence[str | None]]
"""Column -> the labels of N rows, None where unknown."""

BETWEEN = "\x1f"


@dataclass(frozen=True)
class Levels:
    """Some levels of a factor. places : (n,) ascending. keys : per column of the factor (n,) labels, and so on as in ``SavedFactor``."""

    places: Integers
    levels: tuple[str, ...]
    parents: tuple[str, ...] | None
    keys: tuple[tuple[str, ...], ...]
    log_variances: tuple[float, ...] = ()
    log_variance_errors: tuple[float, ...] = ()


def _joined(*texts: Any) -> Any:
    """Texts put together, by the last."""
    join: Any = pc.binary_join_element_wise
    return join(*texts)


class KeptLevels:
    """``levels`` of one factor, in row ``factor`` of ``factors``: the rows from ``start`` on."""

    def __init__(self, folder: Path, factor: Mapping[str, Any], start: int) -> None:
        self._file, self._factor, self._start = folder / "levels.parquet", factor, start
        self.columns = tuple(factor["columns"])
        self._stop = start + int(factor["levels"])

    def every(self) -> Levels:
        """All of them."""
        return self._at(np.arange(self._start, self._stop))

    def none(self) -> Levels:
        """None of them."""
        return self._at(np.zeros(0, np.int64))

    def of_rows(self, texts: Texts) -> Levels:
        """At least those of rows with these labels."""
        if not self._factor["is_plain"]:
            return self.every()
        rows = set(zip(*(texts[name] for name in self.columns), strict=True))
        forms = {text: {text, *plain_forms(text)} for row in rows for text in row if text is not None}
        wanted = {key for row in rows if None not in row for key in product(*(forms[text] for text in row if text is not None))}
        found: Any = self._among({key[-1] for key in wanted}, ("level", "parent_level"))
        level = found["level"]
        if len(self.columns) > 1:
            level = _joined(found["parent_level"], level, BETWEEN)
            chosen = {BETWEEN.join((":".join(key[:-1]), key[-1])) for key in wanted}
        else:
            chosen = {key[0] for key in wanted}
        return self._at(self._numbers(found, pc.is_in(level, pa.array(sorted(chosen), pa.string()))))

    def names(self, places: Integers) -> list[str]:
        """How the levels at ``places`` are named, each for itself: ``parent:level`` where they have parents."""
        found = self.every()
        if found.parents is None:
            return [found.levels[place] for place in places]
        return [f"{found.parents[place]}:{found.levels[place]}" for place in places]

    def named(self, labels: Iterable[str]) -> Levels:
        """Those that a label names as ``level`` or ``parent:level``."""
        written = list(labels)
        ends = {label[at:] for label in written for at in (0, *(at + 1 for at, letter in enumerate(label) if letter == ":"))}
        found: Any = self._among(ends, ("level", "parent_level"))
        whole = _joined(found["parent_level"].fill_null(""), found["level"], ":")
        names = pa.array(written, pa.string())
        return self._at(self._numbers(found, pc.or_(pc.is_in(found["level"], names), pc.is_in(whole, names))))

    def _among(self, ends: set[str], columns: Sequence[str]) -> pa.Table:
        texts = sorted(ends)
        return read_between(self._file, self._start, self._stop, "level", texts, columns)

    def _numbers(self, found: pa.Table, mask: Any) -> Integers:
        """Row numbers in the file."""
        return np.asarray(found["row"].to_numpy()[mask.to_numpy(zero_copy_only=False).astype(np.bool_)], dtype=np.int64)

    def _at(self, numbers: Integers) -> Levels:
        columns = ["level", "parent_level", "place", "keys", "log_variance", "log_variance_error"]
        found = read_at(self._file, numbers, columns).sort_by("place")
        levels = tuple(found["level"].to_pylist())
        several = len(self.columns) > 1
        keys = tuple(zip(*found["keys"].to_pylist(), strict=True)) if several and levels else ((),) * len(self.columns)
        has_variance = found["log_variance"].null_count < max(found.num_rows, 1)
        return Levels(
            found["place"].to_numpy().astype(np.int64),
            levels,
            tuple(found["parent_level"].to_pylist()) if self._factor["is_nested"] else None,
            keys if several else (levels,),
            tuple(found["log_variance"].to_pylist()) if has_variance else (),
            tuple(found["log_variance_error"].to_pylist()) if has_variance else (),
        )
