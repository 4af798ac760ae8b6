"""Versions of a study: what changed, going back, removing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from multilevel.errors import PublishError
from multilevel.tables.catalogue import TABLES, arrow_schema
from tasks.history import difference, find, prune, rollback, versions
from tasks.publish import publish
from tasks.publish_layout import Layout

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
        | {"no_pooling_std_error": 0.6, "complete_pooling_estimate": 1.0, "rank_lower": 1.0, "rank_upper": 2.0}
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
    monkeypatch.setattr("tasks.publish._check_contract", lambda tables: None)

    def make(*made: tuple[str, date, dict[str, float], bool]) -> Layout:
        for run_id, as_of, means, passed in made:
            (tmp_path / "report.html").write_text(run_id)
            publish(
                tables_of(run_id, means, passed=passed, as_of=as_of),
                publish_to="published",
                study="small",
                as_of=as_of,
                run_id=run_id,
                provenance={},
                report=tmp_path / "report.html",
            )
        return Layout(tmp_path / "published", "small")

    return make


def three(published: Callable[..., Layout]) -> Layout:
    return published(
        ("run-1", date(2026, 1, 1), {"east": 1.0, "west": 2.0}, True),
        ("run-2", date(2026, 1, 2), {"east": 1.0, "north": 5.0, "west": 4.0}, False),
        ("run-3", date(2026, 1, 3), {"east": 1.25, "north": 5.0}, False),
    )


def test_versions_are_listed_newest_first_and_the_pointed_one_is_known(published: Callable[..., Layout]) -> None:
    known = versions(three(published))
    assert [version.run_id for version in known] == ["run-3", "run-2", "run-1"]
    assert [version.is_latest for version in known] == [True, False, False]


def test_a_difference_says_who_moved_by_how_many_sds_who_came_and_which_check_changed(published: Callable[..., Layout]) -> None:
    found = difference(three(published), "run-1", "run-2")
    (largest, still) = found.groups.moves
    assert (largest.level, largest.before, largest.after) == ("west", 2.0, 4.0)
    assert largest.standard_errors == pytest.approx(2.0 / 0.5)
    assert still.standard_errors == 0.0
    assert found.groups.n_moved == 1
    assert found.groups.new == ("region: north",)
    assert found.groups.gone == ()
    (check,) = found.checks
    assert (check.check, check.before, check.after, check.message) == ("singular", True, False, "a variance is zero")
    assert found.coefficients[0].standard_errors == pytest.approx((10 / 3 - 1.5) / 0.5)


def test_without_names_the_latest_is_compared_with_the_version_before(published: Callable[..., Layout]) -> None:
    found = difference(three(published))
    assert (found.earlier.run_id, found.later.run_id) == ("run-2", "run-3")
    assert found.groups.gone == ("region: west",)
    assert found.checks == ()


def test_the_first_version_has_none_before_it(published: Callable[..., Layout]) -> None:
    with pytest.raises(PublishError, match="run-1 is the first version"):
        difference(three(published), later="run-1")


def test_an_unknown_run_is_refused_with_those_there_are(published: Callable[..., Layout]) -> None:
    with pytest.raises(PublishError, match="no version of run 'run-9'; there are: run-3, run-2, run-1"):
        find(three(published), "run-9")


def test_nothing_published_is_said_and_no_folder_is_made(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "published", "small")
    for act in (lambda: rollback(layout, "run-1"), lambda: prune(layout, 1), lambda: difference(layout)):
        with pytest.raises(PublishError, match="nothing is published"):
            act()
    assert not layout.home.exists()


def test_a_rollback_moves_pointer_and_link_and_removes_nothing(published: Callable[..., Layout]) -> None:
    layout = three(published)
    assert rollback(layout, "run-1").run_id == "run-3"
    assert layout.latest_folder() == layout.version("2026-01-01", "run-1")
    assert layout.current.resolve() == layout.version("2026-01-01", "run-1").resolve()
    assert json.loads(layout.pointer.read_text())["manifest"] == "manifests/2026-01-01/run-1.json"
    assert [version.is_latest for version in versions(layout)] == [False, False, True]


def test_a_rollback_to_a_version_without_its_files_is_refused(published: Callable[..., Layout]) -> None:
    layout = three(published)
    (layout.version("2026-01-01", "run-1") / "diagnostics.parquet").unlink()
    with pytest.raises(PublishError, match="has no diagnostics"):
        rollback(layout, "run-1")
    assert layout.latest_folder() == layout.version("2026-01-03", "run-3")


def test_pruning_keeps_the_newest_and_the_one_pointed_at(published: Callable[..., Layout]) -> None:
    layout = three(published)
    rollback(layout, "run-1")
    done = prune(layout, 1)
    assert [version.run_id for version in done.removed] == ["run-2"]
    assert [version.run_id for version in versions(layout)] == ["run-3", "run-1"]
    left = sorted(str(path.relative_to(layout.home)) for path in layout.home.rglob("*run-2*"))
    assert left == []
    assert not (layout.home / "versions" / "dt=2026-01-02").exists()
    assert layout.latest_folder() == layout.version("2026-01-01", "run-1")


def test_pruning_twice_removes_nothing_more(published: Callable[..., Layout]) -> None:
    layout = three(published)
    assert len(prune(layout, 2).removed) == 1
    assert prune(layout, 2).removed == ()


def test_an_interrupted_pruning_can_be_run_again(published: Callable[..., Layout], monkeypatch: pytest.MonkeyPatch) -> None:
    layout = three(published)
    with monkeypatch.context() as broken:
        broken.setattr("tasks.history.shutil.rmtree", lambda path: (_ for _ in ()).throw(OSError("stopped")))
        with pytest.raises(OSError, match="stopped"):
            prune(layout, 1)
    prune(layout, 1)
    assert [version.run_id for version in versions(layout)] == ["run-3"]
    assert not list(layout.home.rglob("*run-1*"))


def test_at_least_one_version_stays(published: Callable[..., Layout]) -> None:
    with pytest.raises(PublishError, match="--keep 0"):
        prune(three(published), 0)
