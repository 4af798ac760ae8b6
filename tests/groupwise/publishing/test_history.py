"""What changed between two versions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import norm

from groupwise.publishing.difference import difference, find
from groupwise.publishing.folder.folder_publish import publish
from groupwise.publishing.layout import Layout
from multilevel.catalogue.published_tables import TABLES, arrow_schema
from multilevel.errors import PublishError

type Tables = dict[str, pa.Table]

DAY = date(2026, 1, 1)


def tables_of(run_id: str, means: dict[str, float], *, passed: bool = True, as_of: date = DAY) -> Tables:
    """A study with one factor: ``means`` of its levels, each with a standard error of 0.5."""
    common = {"study": "small", "as_of": as_of, "run_id": run_id, "engine": "bayesian", "pooling": "partial"}
    number = {"estimate": 1.0, "std_error": 0.5, "lower": 0.0, "upper": 2.0}
    groups = [
        common
        | {"grouping_factor": "region", "level": level, "parent_level": None, "is_new": False, "n": 10}
        | {"estimate": mean, "std_error": 0.5, "lower": mean - 1, "upper": mean + 1, "no_pooling_estimate": mean}
        | {"no_pooling_std_error": 0.6, "complete_pooling_estimate": 1.0, "rank_lower": 1.0, "rank_upper": 2.0, "headline": "members"}
        for level, mean in sorted(means.items())
    ]
    rows: dict[str, list[dict[str, object]]] = {
        "population_coefficients": [
            common | number | {"term": "Intercept", "kind": "individual", "estimate": np.mean(list(means.values()))}
        ],
        "group_estimates": groups,
        "diagnostics": [
            common
            | {"check": "singular", "value": 0.0, "threshold": 0.0, "passed": passed, "message": "" if passed else "a variance is zero"}
        ],
    }
    return {name: pa.Table.from_pylist(rows.get(name, []), arrow_schema(name)) for name in TABLES}


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Layout]:
    """Publish versions, each (run id, as_of, levels' means, whether its check passed)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("groupwise.publishing.folder.folder_publish.check_contract", lambda tables: None)

    def make(*made: tuple[str, date, dict[str, float], bool]) -> Layout:
        for run_id, as_of, means, passed in made:
            publish(
                tables_of(run_id, means, passed=passed, as_of=as_of),
                publish_to="published",
                study="small",
                as_of=as_of,
                run_id=run_id,
                provenance={},
            )
        return Layout(tmp_path / "published", "small")

    return make


def three(published: Callable[..., Layout]) -> Layout:
    return published(
        ("run-1", date(2026, 1, 1), {"east": 1.0, "west": 2.0}, True),
        ("run-2", date(2026, 1, 2), {"east": 1.0, "north": 5.0, "west": 4.0}, False),
        ("run-3", date(2026, 1, 3), {"east": 1.25, "north": 5.0}, False),
    )


def test_a_difference_says_who_moved_how_surely_who_came_and_which_check_changed(published: Callable[..., Layout]) -> None:
    found = difference(three(published), "run-1", "run-2")
    (moved,) = found.groups.moves
    assert (moved.level, moved.before, moved.after) == ("west", 2.0, 4.0)
    # 2 % of 2.0; both standard errors are 0.5
    assert moved.probability == pytest.approx(norm.cdf((2.0 - 0.04) / np.hypot(0.5, 0.5)))
    assert (found.groups.n_moved, found.groups.n_compared) == (1, 2)
    assert [(level.factor, level.level, level.estimate) for level in found.groups.new] == [("region", "north", 5.0)]
    assert found.groups.gone == ()
    (check,) = found.checks
    assert (check.check, check.before, check.after, check.message) == ("singular", True, False, "a variance is zero")
    assert found.coefficients[0].standard_errors == pytest.approx((10 / 3 - 1.5) / 0.5)


def test_without_names_the_latest_is_compared_with_the_version_before(published: Callable[..., Layout]) -> None:
    found = difference(three(published))
    assert (found.earlier.run_id, found.later.run_id) == ("run-2", "run-3")
    assert [str(level) for level in found.groups.gone] == ["region: west"]
    assert found.checks == ()


def test_the_first_version_has_none_before_it(published: Callable[..., Layout]) -> None:
    with pytest.raises(PublishError, match="run-1 is the first version"):
        difference(three(published), later="run-1")


def test_an_unknown_run_is_refused_with_those_there_are(published: Callable[..., Layout]) -> None:
    with pytest.raises(PublishError, match="no version has the run id run-9; the newest are run-3, run-2, run-1"):
        find(three(published), "run-9")


def test_nothing_published_is_said_and_no_folder_is_made(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "published", "small")
    with pytest.raises(PublishError, match="nothing is published"):
        difference(layout)
    assert not layout.home.exists()
