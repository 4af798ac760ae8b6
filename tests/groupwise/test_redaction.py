"""``privacy`` from the rows to the published folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from groupwise.pipeline.model_fit import check
from groupwise.pipeline.release import release
from groupwise.redaction import protect
from groupwise.run_folder import RunFolder
from multilevel.errors import DataError

type Fitted = Callable[[pd.DataFrame, str], RunFolder]

STUDY = """
name: private
formula: amount ~ 1 + rank + (1 | region/city) + (1 | category) + (1 | customer)
source: {parquet: lines.parquet}
engine: likelihood
cells: [region, category]
privacy: {of: customer, k: 10}
"""


def lines(n: int = 6_000) -> pd.DataFrame:
    """Four regions of 40 customers, one of 4; each customer in one of three cities; six categories, one bought by three people."""
    rng = np.random.default_rng(4)
    customer = rng.integers(164, size=n)
    region = np.minimum(customer // 40, 4)
    category = rng.integers(5, size=n)
    rare = np.isin(customer, [0, 41, 82]) & (rng.random(n) < 0.3)
    return pd.DataFrame(
        {
            "amount": 1 + 0.1 * region + rng.normal(0, 0.3, 164)[customer] + rng.normal(size=n),
            "customer": [f"customer-{i}" for i in customer],
            "rank": region * 1.5,
            "region": np.where(region == 4, "Atlantis", [f"region-{i}" for i in region]),
            "city": [f"city-{i}" for i in customer % 3],
            "category": np.where(rare, "saffron", [f"category-{i}" for i in category]),
        }
    )


@pytest.fixture(scope="module")
def fitted(run_until_fitted: Any) -> Fitted:
    """A run in the working directory as far as its fit, before anything is suppressed."""

    def run(frame: pd.DataFrame, text: str) -> RunFolder:
        frame.to_parquet("lines.parquet")
        Path("private.yaml").write_text(text)
        return run_until_fitted("private.yaml")

    return run


@pytest.fixture
def fitted_here(fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fitted:
    monkeypatch.chdir(tmp_path)
    return fitted


@pytest.fixture(scope="module")
def published(fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, pd.DataFrame], Path]:
    place = tmp_path_factory.mktemp("private")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run = fitted(lines(), STUDY)
        protect(run)
        check(run)
        folder = release(run).folder
        assert isinstance(folder, Path)
        return {path.stem: pd.read_parquet(path) for path in (place / folder).glob("*.parquet")}, place / "published"


def test_small_groups_and_what_is_inside_them_are_in_no_table(published: tuple[dict[str, pd.DataFrame], Path]) -> None:
    tables, _ = published
    for name in ("group_estimates", "group_coefficients"):
        seen = tables[name][~tables[name]["is_new"]]
        assert "customer" not in set(tables[name]["grouping_factor"])
        assert not {"Atlantis", "saffron"} & {*seen["level"], *seen["parent_level"].dropna()}
        # Atlantis alone would be the total less the others: a second region is suppressed beside it
        assert len(set(seen.loc[seen["grouping_factor"] == "region", "level"])) == 3
        assert len(set(seen.loc[seen["grouping_factor"] == "category", "level"])) == 4
    cells = tables["cell_estimates"].query("not is_new")
    assert not {"Atlantis", "saffron"} & {*cells["customer_group"], *cells["product_group"]}


def test_diagnostics_count_what_is_suppressed_and_name_nobody(published: tuple[dict[str, pd.DataFrame], Path]) -> None:
    tables, _ = published
    values = tables["diagnostics"].set_index("check")["value"]
    assert values["withheld_groups[region]"] == 2
    assert values["withheld_groups[category]"] == 2
    assert values["withheld_groups[customer]"] == 164


def test_no_file_below_the_published_folder_names_a_suppressed_group(published: tuple[dict[str, pd.DataFrame], Path]) -> None:
    _, root = published
    files = [path for path in root.rglob("*") if path.is_file()]
    assert any(path.suffix == ".html" for path in files)
    for path in files:
        content = path.read_bytes()
        assert b"Atlantis" not in content, path
        assert b"saffron" not in content, path
        assert b"customer-" not in content, path


def test_a_suppressed_group_has_no_point_in_the_report(published: tuple[dict[str, pd.DataFrame], Path]) -> None:
    _, root = published
    text = next(root.rglob("reports/*/r1.html")).read_text(encoding="utf-8")
    data = json.loads(text.split('id="page-data">', 1)[1].split("</script>", 1)[0])
    lines = {figure["id"]: figure["spec"] for figure in data["figures"] if figure["id"].startswith("predictor-")}
    points = next(
        layer["data"]["values"] for layer in lines["predictor-region-intercept-rank"]["layer"] if len(layer["data"]["values"]) == 3
    )
    seen = {row["label"] for row in points}
    assert len(seen) == 3
    assert all(label.startswith("region-") for label in seen)
    assert not any("predictor-customer" in name for name in lines)


def test_nothing_but_tables_and_the_report_is_published(published: tuple[dict[str, pd.DataFrame], Path]) -> None:
    _, root = published
    kinds = {path.suffix for path in (root / "private").rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert kinds == {".parquet", ".html", ".json", ".yaml"}
    assert not [path for path in root.rglob("*") if "quarantine" in path.name or "joint" in path.name or "validation" in path.name]


@pytest.mark.operations
def test_a_factor_inside_another_follows_it_though_the_formula_does_not_say(fitted_here: Fitted) -> None:
    # shops are within regions: two suppressed regions must take their shops along, or the sum of shops tells of a region
    frame = lines(2_000).assign(shop=lambda rows: rows["region"] + rows["city"].str[-1])
    run = fitted_here(frame, STUDY.replace("(1 | region/city)", "(1 | region) + (1 | shop)").replace("rank + ", ""))
    protect(run)
    table = run.read_tables()["group_estimates"].to_pandas().query("not is_new")
    regions, shops = (set(table.loc[table["grouping_factor"] == name, "level"]) for name in ("region", "shop"))
    assert len(regions) == 3
    assert shops <= {f"{region}{i}" for region in regions for i in range(3)}


@pytest.mark.operations
def test_a_predictors_category_of_few_people_is_refused_by_name(fitted_here: Fitted) -> None:
    frame = lines(2_000).assign(size=lambda rows: np.where(rows["customer"].isin(["customer-3", "customer-9"]), "XXL", "M"))
    run = fitted_here(frame, STUDY.replace("rank", "size"))
    with pytest.raises(DataError, match=r"predictor size has a category 'XXL' with 2 distinct customer, fewer than 10"):
        protect(run)
