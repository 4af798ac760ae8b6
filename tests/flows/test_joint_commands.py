"""``groupwise contrast`` and ``predict`` on a published study: what they print and write, and what they refuse."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groupwise.pipeline.release import release
from groupwise.run_folder import RunFolder

STUDY = """
name: spend
title: Spend a line
formula: amount ~ 1 + on_sale + age + age_missing + (1 | band) + (1 | store)
source: {parquet: lines.parquet}
missing: {band: level, age: mean_and_indicator}
engine: likelihood
cells: [band, store]
"""

type Run = Callable[..., tuple[int, str, str]]
type Publish = Callable[..., RunFolder]


@pytest.fixture(scope="module")
def unpublished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a study and its line items."""
    folder = tmp_path_factory.mktemp("joint")
    rng = np.random.default_rng(8)
    n = 1_500
    band, store = rng.integers(0, 5, n), rng.integers(0, 9, n)
    frame = pd.DataFrame(
        {
            "band": pd.Series([f"B{i}" if i else None for i in band], dtype=object),
            "store": store + 100,
            "on_sale": rng.random(n) < 0.4,
            "age": np.where(rng.random(n) < 0.2, np.nan, rng.integers(20, 60, n)),
        }
    )
    frame["amount"] = 5.0 + 0.5 * band + 0.3 * store - frame.on_sale + 0.02 * frame.age.fillna(40) + rng.normal(size=n)
    frame.to_parquet(folder / "lines.parquet")
    (folder / "spend.yaml").write_text(STUDY)
    return folder


@pytest.fixture(scope="session")
def publish(run_until_fitted: Callable[..., RunFolder]) -> Publish:
    """Publish the study in the working folder."""

    def run(run_id: str = "r1", settings: tuple[str, ...] = ()) -> RunFolder:
        fitted = run_until_fitted("spend.yaml", run_id, settings=settings)
        release(fitted)
        return fitted

    return run


type Published = tuple[Path, dict[str, pa.Table]]


@pytest.fixture(scope="module")
def first_version(unpublished: Path, publish: Publish, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The working folder once a version is published, and the version's tables. Each test works on a copy."""
    folder = tmp_path_factory.mktemp("published") / "shop"
    shutil.copytree(unpublished, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, publish().read_tables()


@pytest.fixture
def place(unpublished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder before anything is published."""
    shutil.copytree(unpublished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def published(first_version: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, pa.Table]:
    """The tables of the version that is published in the working folder."""
    folder, tables = first_version
    shutil.copytree(folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tables


def test_a_contrast_is_that_of_the_tables_estimates(groupwise: Run, published: dict[str, pa.Table]) -> None:
    code, out, err = groupwise("contrast", "spend.yaml", "B4", "(missing)")
    assert (code, err) == (0, "")
    assert "B4 is above (missing) with probability over 99.9 %" in out
    code, out, _ = groupwise("contrast", "spend.yaml", "B4", "(missing)", "--format", "json")
    [found] = json.loads(out)
    groups = pd.DataFrame(published["group_estimates"].to_pylist()).set_index(["grouping_factor", "level"])
    pair = groups.loc["band"].loc[["B4", "(missing)"]]
    assert found["difference"] == pytest.approx(pair.estimate["B4"] - pair.estimate["(missing)"], abs=1e-9)
    assert (found["of"], found["scale"], found["ratio"]) == ("members", "response", None)
    # what both bands share cancels: the error is that of two nearly independent effects, not of two levels
    assert found["std_error"] == pytest.approx(np.hypot(*groups.loc["band"].no_pooling_std_error[["B4", "(missing)"]]), rel=0.1)
    # a mixture over the variances, which many rows know well: nearly normal
    assert found["upper"] - found["lower"] == pytest.approx(2 * 1.959964 * found["std_error"], rel=1e-3)


TABULAR = (
    ("show", "spend.yaml"),
    ("plan", "spend.yaml"),
    ("predict", "spend.yaml", "--at", "lines.parquet"),
    ("versions", "spend.yaml"),
    ("list", "spend.yaml"),
    pytest.param(("compare", "spend.yaml", "--folds", "0"), marks=pytest.mark.operations),
)


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("words", TABULAR, ids=lambda words: words[0])
def test_what_prints_a_table_prints_json_and_csv_and_nothing_else_there(groupwise: Run, words: tuple[str, ...]) -> None:
    code, out, _ = groupwise(*words, "--format", "json")
    assert code == 0
    assert json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    code, out, _ = groupwise(*words, "--format", "csv")
    assert code == 0
    assert len(pd.read_csv(io.StringIO(out))) > 0
    code, _, err = groupwise(*words, "--format", "xml")
    assert (code, "--format xml: write table, json or csv" in err) == (1, True)


@pytest.mark.usefixtures("published")
def test_all_rows_are_printed_for_programs_and_nan_is_null(groupwise: Run) -> None:
    _, out, err = groupwise("predict", "spend.yaml", "--at", "lines.parquet", "--format", "json")
    rows = json.loads(out)
    assert len(rows) == 1_500
    assert None in {row["age"] for row in rows}
    assert "1,500 rows, 0 with a group never seen" in err
    _, out, _ = groupwise("show", "spend.yaml", "--format", "csv", "--table", "variance_components")
    assert list(pd.read_csv(io.StringIO(out)).grouping_factor) == ["band", "store", "residual"]
    code, _, err = groupwise("show", "spend.yaml", "--table", "groups")
    assert (code, "--table groups: there is no such table; they are" in err) == (1, True)


@pytest.mark.usefixtures("published")
def test_several_levels_give_all_pairs_at_once_and_a_choice(groupwise: Run) -> None:
    code, out, err = groupwise("contrast", "spend.yaml", "B1", "B2", "B4")
    assert (code, err) == (0, "")
    assert "hold for all 3 pairs at once" in out and "P(highest)" in out
    code, out, _ = groupwise("contrast", "spend.yaml", "B1", "B2", "B4", "--format", "csv")
    pairs = pd.read_csv(io.StringIO(out))
    assert list(zip(pairs.level_a, pairs.level_b, strict=True)) == [("B1", "B2"), ("B1", "B4"), ("B2", "B4")]
    assert pairs.difference[0] + pairs.difference[2] == pytest.approx(pairs.difference[1], abs=1e-9)
    reach = ((pairs.upper - pairs.lower) / 2 / pairs.std_error).to_numpy()
    # between one interval's 1.96 and Bonferroni's 2.39
    assert np.ptp(reach) < 1e-9 and 2.2 < reach[0] < 2.39


def test_coefficients_are_compared_where_they_are_asked_for(groupwise: Run, published: dict[str, pa.Table]) -> None:
    code, out, err = groupwise("contrast", "spend.yaml", "B4", "(missing)", "--of", "coefficient")
    assert (code, err) == (0, "")
    assert "band: B4 minus (missing), as of" in out
    groups = pd.DataFrame(published["group_coefficients"].to_pylist()).set_index(["grouping_factor", "level", "term"])
    difference = groups.estimate["band", "B4", "Intercept"] - groups.estimate["band", "(missing)", "Intercept"]
    assert f"{difference:,.3g}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["B4"], "name two levels, or more"),
        (["B4", "B1", "--of", "odds"], "--of odds: write members, population or coefficient"),
        (["B4", "B1", "--format", "xml"], "--format xml: write table, json or csv"),
        (["B4", "B1", "B2", "--of", "coefficient"], "--of coefficient: name two levels"),
        (["B4", "B4"], "name each level once"),
        (["B4", "B1", "--of", "population"], "band has no population estimates"),
        (["B4", "104"], "levels of different factors"),
    ],
)
@pytest.mark.usefixtures("published")
def test_what_cannot_be_compared_is_refused(groupwise: Run, arguments: list[str], message: str) -> None:
    code, out, err = groupwise("contrast", "spend.yaml", *arguments)
    assert code == 1 and message in err and out == ""


@pytest.mark.usefixtures("published")
def test_levels_are_chosen_by_their_averages(groupwise: Run) -> None:
    code, out, _ = groupwise("contrast", "spend.yaml", "--factor", "band", "--top", "3", "--format", "json")
    found = json.loads(out)
    assert code == 0 and len(found) == 3 and all(each["is_simultaneous"] for each in found)
    assert all(each["difference"] >= 0 for each in found), "the first of a pair has the higher average"
    code, out, err = groupwise("contrast", "spend.yaml", "B1", "--top", "3")
    assert code == 1 and "name no levels beside them" in err and out == ""
    code, out, err = groupwise("contrast", "spend.yaml", "--top", "3")
    assert code == 1 and "Name the factor with --factor: " in err and out == ""


@pytest.mark.usefixtures("published")
def test_the_next_outcome_varies_more_than_its_expectation(groupwise: Run) -> None:
    rows = {"band": ["B2", None], "store": [104.0, 104.0], "on_sale": [1, 0], "age": [30.0, 44.0]}
    pd.DataFrame(rows).to_parquet("at.parquet")
    widths = {}
    for interval in ("0.9", "next:0.9"):
        code, out, _ = groupwise("predict", "spend.yaml", "--at", "at.parquet", "--interval", interval, "--output", "out.parquet")
        assert code == 0
        table = pd.read_parquet("out.parquet")
        widths[interval] = table.upper - table.lower
    assert (widths["next:0.9"] > widths["0.9"]).all()
    code, out, err = groupwise("predict", "spend.yaml", "--at", "at.parquet", "--interval", "nxt")
    assert code == 1 and "write a probability between 0 and 1, such as 0.9, next, or next:0.9" in err and out == ""


def test_predictions_are_written_beside_the_tables_own_columns(groupwise: Run, published: dict[str, pa.Table]) -> None:
    rows = {
        "who": ["a", "b", "c"],
        "band": ["B2", None, "B9"],
        "store": [104.0, 104.0, 104.0],
        "on_sale": [1, 0, 0],
        "age": [30.0, None, 44.0],
    }
    pd.DataFrame(rows).to_parquet("at.parquet")
    code, out, err = groupwise("predict", "spend.yaml", "--at", "at.parquet", "--output", "out.parquet")
    assert (code, err) == (0, "")
    assert "Spend a line: 3 rows, 1 with a group never seen" in out
    assert out.strip().splitlines()[-1] == "out.parquet"
    found = pq.read_table("out.parquet").to_pandas()
    assert list(found.columns) == ["who", "band", "store", "on_sale", "age", "estimate", "std_error", "lower", "upper", "is_new"]
    assert list(found.is_new) == [False, False, True]
    beta = pd.DataFrame(published["population_coefficients"].to_pylist()).query("pooling == 'partial'").set_index("term").estimate
    groups = pd.DataFrame(published["group_coefficients"].to_pylist()).query("not is_new").set_index(["grouping_factor", "level"]).deviation
    by_hand = beta["Intercept"] + beta["on_sale[true]"] + 30 * beta["age"] + groups["band", "B2"] + groups["store", "104"]
    assert found.estimate[0] == pytest.approx(by_hand, rel=1e-6)
    mean_age = pd.read_parquet("lines.parquet").age.mean()
    filled = beta["Intercept"] + mean_age * beta["age"] + beta["age_missing"] + groups["band", "(missing)"] + groups["store", "104"]
    assert found.estimate[1] == pytest.approx(filled, rel=1e-6)
    assert found.std_error[2] > 3 * found.std_error[0]


@pytest.mark.usefixtures("published")
def test_predictions_are_printed_where_no_file_is_named_and_csv_is_read(groupwise: Run) -> None:
    Path("at.csv").write_text("band,store,on_sale,age\nB1,103,true,25\nB1,103,false,25\n")
    code, out, _ = groupwise("predict", "spend.yaml", "--at", "at.csv", "--interval", "0.5")
    assert code == 0
    assert out.count("B1") == 2
    code, _, _ = groupwise("predict", "spend.yaml", "--at", "at.csv", "--output", "out.csv")
    assert code == 0
    assert len(pd.read_csv("out.csv")) == 2


@pytest.mark.usefixtures("published")
def test_show_says_where_the_study_is_no_longer_what_was_published(groupwise: Run) -> None:
    """Two studies of one name are one study with two versions."""
    code, out, err = groupwise("show", "spend.yaml")
    assert (code, err, "amount ~ 1 + on_sale + age + age_missing + (1 | band) + (1 | store)   (gaussian)" in out) == (0, "", True)
    Path("spend.yaml").write_text(
        STUDY.replace("(1 | band) + (1 | store)", "(1 | store)").replace("cells: [band, store]", "where: amount > 0")
    )
    code, _, err = groupwise("show", "spend.yaml")
    assert (code, err.startswith("spend.yaml has another formula and another where than this version, which is r1;")) == (0, True)
    assert groupwise("show", "published/spend")[2] == ""


@pytest.mark.usefixtures("published")
def test_a_csv_file_is_read_as_a_source_is(groupwise: Run) -> None:
    """Semicolons, decimal commas, and an encoding that the study says."""
    Path("at.csv").write_text("band;store;on_sale;age\nB1;103;true;25,5\nB1;103;true;26,5\n")
    code, out, _ = groupwise("predict", "spend.yaml", "--at", "at.csv", "--format", "json")
    found = json.loads(out)
    assert (code, [row["age"] for row in found], [row["is_new"] for row in found]) == (0, [25.5, 26.5], [False, False])
    Path("at.json").write_text(json.dumps([{"band": "B1", "store": 103, "on_sale": True, "age": 25.5}]))
    code, out, _ = groupwise("predict", "spend.yaml", "--at", "at.json", "--format", "json")
    assert (code, json.loads(out)[0]["estimate"]) == (0, pytest.approx(found[0]["estimate"]))
    Path("at.csv").write_bytes("band,store,on_sale,age\nBé,103,true,25\n".encode("cp1252"))
    code, _, err = groupwise("predict", "spend.yaml", "--at", "at.csv")
    assert (code != 0, "at.csv is no utf-8 text; save it as UTF-8" in " ".join(err.split())) == (True, True)


@pytest.mark.usefixtures("published")
def test_a_table_whose_name_holds_wildcards_is_read_as_itself(groupwise: Run) -> None:
    names = ("at[1].csv", "at?.parquet", "at*.csv", "copy [1]/at.parquet", "**.parquet")
    others = ("at1.csv", "atx.parquet", "atx.csv", "copy 1/at.parquet", "other.parquet")
    for file in (*names, *others):
        who = "asked" if file in names else "another"
        frame = pd.DataFrame({"who": [who], "band": ["B2"], "store": [104], "on_sale": [1], "age": [30.0]})
        Path(file).parent.mkdir(exist_ok=True)
        frame.to_csv(file, index=False) if file.endswith("csv") else frame.to_parquet(file)
    for name in names:
        for at in (name, f"file://{Path.cwd()}/{name}"):
            code, out, err = groupwise("predict", "spend.yaml", "--at", at)
            assert (code, err) == (0, "")
            assert ("asked" in out, "another" in out, "1 rows" in out) == (True, False, True)


def test_an_earlier_version_is_asked_in_a_folder_whose_name_holds_wildcards(place: Path, groupwise: Run, publish: Publish) -> None:
    elsewhere = ("publish_to=pub[1]*",)
    publish("r1", elsewhere)
    publish("r2", (*elsewhere, "where=amount > 5"))
    Path("spend.yaml").write_text(STUDY + 'publish_to: "pub[1]*"\n')
    Path("at.csv").write_text("band,store,on_sale,age\nB1,103,true,25\n")
    for run in ("r1", "r2"):
        code, out, err = groupwise("predict", "spend.yaml", "--at", "at.csv", "--run", run)
        assert (code, err, f"run {run}" in out) == (0, "", True)
    code, out, _ = groupwise("show", "spend.yaml")
    assert (code, "r2" in out) == (0, True)
    _, latest, _ = groupwise("contrast", "spend.yaml", "B1", "B2")
    _, earlier, _ = groupwise("contrast", "spend.yaml", "B1", "B2", "--run", "r1")
    assert "run r2" in latest
    assert "run r1" in earlier


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--at", "nowhere.parquet"), "--at nowhere.parquet: there is no such file"),
        (("--at", "spend.yaml"), "spend.yaml is no Parquet file"),
        (("--at", "short.csv"), "the formula needs the columns store, on_sale, age; the table has band"),
        (("--at", "taken.csv"), "rename the table's own estimate"),
        (("--at", "empty.csv"), "the table has no rows"),
        (("--at", "words.csv"), "a column is not of the type that the formula needs"),
        (("--at", "nulls.csv"), "`on_sale`|on_sale is None"),
        (("--at", "good.csv", "--interval", "95"), "--interval 95: write a probability between 0 and 1"),
        (("--at", "good.csv", "--run", "r7"), "no version of run 'r7'"),
        (("--at", "good.csv", "--output", "no/such/folder.parquet"), "--output no/such/folder.parquet: cannot be written"),
    ],
)
@pytest.mark.usefixtures("published")
def test_what_cannot_be_predicted_is_refused_in_one_message(groupwise: Run, arguments: tuple[str, ...], complaint: str) -> None:
    import re

    header = "band,store,on_sale,age\n"
    Path("short.csv").write_text("band\nB1\n")
    Path("taken.csv").write_text("band,store,on_sale,age,estimate\nB1,103,true,25,1\n")
    Path("empty.csv").write_text(header)
    Path("words.csv").write_text(header + "B1,103,true,old\n")
    Path("nulls.csv").write_text(header + "B1,103,,25\n")
    Path("good.csv").write_text(header + "B1,103,true,25\n")
    code, out, err = groupwise("predict", "spend.yaml", *arguments)
    assert code != 0
    assert out == ""
    assert re.search(complaint, err), err
    assert "Traceback" not in err


def test_before_anything_is_published_it_says_so(place: Path, groupwise: Run) -> None:
    code, _, err = groupwise("contrast", "spend.yaml", "B1", "B2")
    assert (code != 0, "nothing is published in published yet" in err) == (True, True)


@pytest.mark.usefixtures("published")
def test_where_nothing_is_kept_it_says_why(groupwise: Run, publish: Publish) -> None:
    next(Path("published").rglob("r1/core.parquet")).unlink()
    code, _, err = groupwise("contrast", "spend.yaml", "B1", "B2")
    assert (code != 0, "core.parquet is not there; it was removed by hand" in err, "groupwise estimate" in err) == (True, True, True)
    Path("spend.yaml").write_text(STUDY + "privacy: {of: age, k: 2}\n")
    publish("r2")
    assert not list(Path("published").rglob("r2/core.parquet"))
    code, _, err = groupwise("predict", "spend.yaml", "--at", "lines.parquet")
    assert (code != 0, "under privacy nothing of single groups is kept" in err) == (True, True)
