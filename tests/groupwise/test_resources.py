"""What a run may take: the study's words, then the environment's, then the container's; what does not fit goes to disk, and is removed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from groupwise import resources as own
from groupwise.pipeline.inputs import files_key
from groupwise.resources import Wishes, resources
from groupwise.run_folder import RunFolder
from groupwise.source.relation import Relation, connect
from groupwise.study.study_file import load_study
from multilevel.errors import ResourceError, StudyError

GB = 1_000_000_000
STUDY = "name: small\nformula: amount ~ 1 + (1 | category)\nsource: {database: shop.duckdb, line_items: lines.sql}\nengine: bayesian\n"

type Describe = Callable[..., Relation]


@pytest.fixture(autouse=True)
def _container(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container of 8 GB and 3 processors, and nothing in the environment."""
    monkeypatch.setattr(own, "memory_bytes", lambda: 8 * GB)
    monkeypatch.setattr(own, "processors", lambda: 3)
    for name in (own.MEMORY, own.THREADS, own.SPILL):
        monkeypatch.delenv(name, raising=False)


def test_what_nobody_asks_for_is_the_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resources() == own.Resources(8 * GB, 3_200_000_000, 3, None)
    monkeypatch.setattr(own, "memory_bytes", lambda: 2 * GB)
    assert resources().query_memory == 800_000_000
    monkeypatch.setattr(own, "memory_bytes", lambda: 64 * GB)
    assert resources().query_memory == 4 * GB, "other programs have room where nobody says how much there is"


def test_the_study_comes_before_the_environment(tmp_path: Path) -> None:
    environment = {own.MEMORY: "2 GiB", own.THREADS: "2", own.SPILL: "/there"}
    assert resources(Wishes(), environment) == own.Resources(2 * 2**30, int(0.4 * 2 * 2**30), 2, Path("/there"))
    assert resources(Wishes(GB, 1, str(tmp_path)), environment) == own.Resources(GB, 400_000_000, 1, tmp_path)
    assert resources(Wishes(), dict.fromkeys(environment, "")).threads == 3


def test_more_than_the_container_has_is_not_promised() -> None:
    assert resources(Wishes(memory=100 * GB)).memory == 8 * GB


@pytest.mark.parametrize(
    ("name", "value"), [(own.MEMORY, "lots"), (own.MEMORY, "1MB"), (own.MEMORY, "-4GB"), (own.THREADS, "0"), (own.THREADS, "2.5")]
)
def test_a_variable_that_cannot_be_read_is_named(name: str, value: str) -> None:
    with pytest.raises(ResourceError, match=rf"{name}={value} \(environment\): write a"):
        resources(Wishes(), {name: value})


@pytest.mark.parametrize(
    ("written", "size"), [("4GB", 4 * GB), ("'512 MB'", 512_000_000), ("1.5G", 1_500_000_000), ("1gib", 2**30), ("300000000", 300_000_000)]
)
def test_sizes_as_people_write_them(written: str, size: int, shop: Path) -> None:
    Path("study.yaml").write_text(STUDY)
    assert load_study("study.yaml", {"resources.memory": written}).wishes.memory == size


@pytest.mark.parametrize(
    "setting", ["memory: lots", "memory: 1MB", "memory: true", "threads: 0", "threads: 1.5", "spill: ../up", "disk: /x"]
)
def test_a_study_that_says_it_wrongly_is_refused(setting: str, shop: Path) -> None:
    Path("study.yaml").write_text(f"{STUDY}resources: {{{setting}}}\n")
    with pytest.raises(StudyError, match="resources"):
        load_study("study.yaml", {})


def settings_of(relation: Relation, folder: Path) -> tuple[str, int, str]:
    with connect(relation, folder) as connection:
        shown = "current_setting('memory_limit'), current_setting('threads'), current_setting('temp_directory')"
        [found] = connection.sql(f"select {shown}").fetchall()
    return found


def test_a_querys_memory_threads_and_spill_folder(described: Describe, shop: Path) -> None:
    memory, threads, spill = settings_of(described(), shop / "run")
    assert (memory, threads) == ("2.9 GiB", 3)
    assert Path(spill).parent == shop / "run"
    (shop / "disk").mkdir()
    relation = described(resources={"memory": "1GB", "threads": 1, "spill": "disk"})
    (shop / "run" / "relation.json").write_text(relation.to_json())
    memory, threads, spill = settings_of(RunFolder(shop / "run").relation(), shop / "run")
    assert (memory, threads) == ("381.4 MiB", 1)
    assert Path(spill).parent == shop / "disk"
    assert Path(spill).name.startswith("groupwise-run-")


@pytest.mark.parametrize("place", ["disk", pytest.param("run", marks=pytest.mark.operations)])
def test_what_does_not_fit_into_memory_is_removed(place: str, described: Describe, shop: Path) -> None:
    (shop / "disk").mkdir()
    relation = described(resources={"memory": "250MB", "threads": 1, "spill": None if place == "run" else "disk"})
    many = "select i, count(*) as n, any_value(repeat(md5(i::varchar), 6)) as t from range(600000) as r(i) group by i"
    before = set((shop / place).iterdir())
    with connect(relation, shop / "run") as connection:
        connection.execute(f"create temp table many as {many}")
        spilled = sum(path.stat().st_size for path in (shop / place).rglob("*") if path.is_file() and path not in before)
    assert spilled > 10_000_000
    assert set((shop / place).iterdir()) == before


def test_a_spill_folder_that_is_not_there_is_named(described: Describe, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResourceError, match=r"small: the folder to spill to, nowhere \(resources.spill"):
        described(resources={"spill": "nowhere"})
    monkeypatch.setenv(own.SPILL, str(shop / "shop.duckdb"))
    with pytest.raises(ResourceError, match="GROUPWISE_SPILL"):
        described()


def test_samplers_take_no_more_cores_than_there_are_threads(shop: Path) -> None:
    Path("study.yaml").write_text(STUDY)
    cores = [
        load_study("study.yaml", written).sampler_settings["cores"] for written in ({}, {"resources.threads": "2"}, {"sampling.cores": "5"})
    ]
    assert cores == [3, 2, 5]


def test_resources_are_no_input(shop: Path) -> None:
    Path("study.yaml").write_text(STUDY)
    written = ({}, {"resources.memory": "1GB", "resources.threads": "1"}, {"seed": "3"})
    plain, bounded, other = (files_key(load_study("study.yaml", more), None, date(2026, 1, 1)) for more in written)
    assert plain == bounded != other
