"""The fields of a study that ``gw.fit`` takes beside the formula, the data, the family and the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Literal, TypedDict


class StudyFields(TypedDict, total=False):
    """Fields of a study file, with its meaning and its default (``gw.Study``); a mapping is written as in YAML."""

    title: str
    expectations: str | None
    rules: Sequence[Mapping[str, object]]
    where: str | None
    types: Mapping[str, str]
    levels: Mapping[str, Sequence[object]]
    labels: Mapping[str, object]
    timezone: str | None
    missing: Mapping[str, Literal["exclude", "level", "mean_and_indicator"]]
    window: Mapping[str, object] | None
    as_of: date | str
    cells: Sequence[str] | None
    method: Literal["reml", "ml"] | None
    interval: float
    publish_to: str
    unit: str | None
    currency: str | None
    quarantine_limit: float
    max_cells: int
    predict_for: Mapping[str, object] | Sequence[Mapping[str, object]]
    sampled: Sequence[str]
    standardise_to: Mapping[str, str] | None
    priors: Mapping[str, Any] | None
    sampling: Mapping[str, object]
    draws: Mapping[str, int] | None
    seed: int
    quadrature_points: int
    intervals: Literal["wald", "profile", "bootstrap"]
    bootstrap_samples: int
    privacy: Mapping[str, object] | None
    diff: Mapping[str, object]
    resources: Mapping[str, object]
    runs: Mapping[str, int]
    statistics: Mapping[str, str] | None
