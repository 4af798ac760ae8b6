"""A study that asks for draws: what it may ask for, and where they are kept."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import yaml
from pydantic import ValidationError

from groupwise.publishing.folder.folder_publish import publish
from groupwise.publishing.folder.folder_versions import prune
from groupwise.publishing.layout import Layout
from groupwise.publishing.publication import Publication
from groupwise.publishing.stage import Attachments
from groupwise.study.study import Study
from multilevel.catalogue.published_tables import EVERY_TABLE, TABLES, arrow_schema
from multilevel.errors import PublishError

DAY = date(2026, 11, 1)
PLAIN = {"name": "small", "formula": "y ~ 1 + (1 | g)", "source": {"parquet": "x.parquet"}}


def put(root: Path, run_id: str, *names: str, as_of: date = DAY) -> Publication:
    """Empty tables, with a posterior where draws are among them."""
    posterior = root.parent / "posterior.nc"
    posterior.write_bytes(b"posterior")
    return publish(
        {name: pa.Table.from_pylist([], arrow_schema(name)) for name in names},
        publish_to=str(root),
        study="small",
        as_of=as_of,
        run_id=run_id,
        provenance={},
        attachments=Attachments(posterior=posterior if "draws" in names else None),
    )


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "published", "small")


def test_draws_are_not_asked_for_by_default():
    assert Study.model_validate(PLAIN).draws is None
    asked = Study.model_validate(PLAIN | {"draws": {}})
    assert asked.draws is not None
    assert asked.draws.rows == 1000


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"draws": {"rows": 99}}, "greater than or equal to 100"),
        ({"draws": {"rows": 4001}}, "the sampler keeps 4000 draws; write 4000 or fewer"),
        ({"draws": {"rows": 500}, "privacy": {"of": "customer_id", "k": 10}}, "the small groups' that privacy suppresses too"),
        ({"draws": {"columns": 3}}, "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_published_is_refused(fields: dict[str, object], complaint: str):
    with pytest.raises(ValidationError, match=complaint):
        Study.model_validate(PLAIN | fields)


def test_the_likelihood_engine_draws_as_many_as_are_asked_for():
    study = Study.model_validate(PLAIN | {"engine": "likelihood", "draws": {"rows": 20_000}})
    assert study.draws is not None
    assert study.draws.rows == 20_000


def test_draws_are_in_the_manifest_the_contract_and_the_catalog(layout: Layout):
    made = put(layout.root, "r1", *EVERY_TABLE)
    manifest = json.loads(made.manifest.read_text())
    assert "draws" in {entry["table"] for entry in manifest["files"]}
    assert (layout.home / manifest["posterior"]["path"]).read_bytes() == b"posterior"
    assert layout.posterior(DAY, "r1").parent == layout.report(DAY, "r1").parent
    assert "draws" in {table["name"] for table in yaml.safe_load(layout.contract.read_text())["schema"]}
    with duckdb.connect() as connection:
        connection.execute((layout.root / "catalog.sql").read_text())
        assert connection.sql("select count(*) from small.draws").fetchall() == [(0,)]


def test_a_version_without_draws_says_nothing_of_them(layout: Layout):
    put(layout.root, "r1", *EVERY_TABLE)
    made = put(layout.root, "r2", *TABLES, as_of=DAY + timedelta(days=1))
    assert json.loads(made.manifest.read_text())["posterior"] is None
    assert [table["name"] for table in yaml.safe_load(layout.contract.read_text())["schema"]] == list(TABLES)
    assert ".draws as" not in (layout.root / "catalog.sql").read_text()


def test_draws_alone_are_no_publication(layout: Layout):
    with pytest.raises(PublishError, match="this run has draws"):
        put(layout.root, "r1", "draws")


def test_pruned_and_dead_versions_take_their_posterior_with_them(layout: Layout):
    put(layout.root, "r1", *EVERY_TABLE)
    layout.posterior(DAY, "dead").write_bytes(b"left by a run that died")
    put(layout.root, "r2", *EVERY_TABLE, as_of=DAY + timedelta(days=1))
    assert sorted(path.name for path in layout.reports.glob("*/*.nc")) == ["r1.posterior.nc", "r2.posterior.nc"]
    prune(layout, 1)
    assert [path.name for path in layout.reports.glob("*/*.nc")] == ["r2.posterior.nc"]
