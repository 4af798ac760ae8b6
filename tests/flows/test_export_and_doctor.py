"""``groupwise export``, ``doctor``, and ``estimate`` of several studies: what they write, print and refuse."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

STUDY = """
name: {name}
formula: amount ~ 1 + (1 | store)
source: {{parquet: {source}}}
engine: likelihood
"""

type Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two studies on the same lines, one store of which has the name of a formula, and a study whose file is missing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    rng = np.random.default_rng(3)
    store = rng.integers(0, 6, 300)
    names = np.array(["=1+1", "Zürich", "B", "C", "D", "E"])
    pd.DataFrame({"store": names[store], "amount": 5.0 + 0.5 * store + rng.normal(size=300)}).to_parquet("lines.parquet")
    for name, source in (("one", "lines.parquet"), ("two", "lines.parquet"), ("lost", "gone.parquet")):
        Path(f"{name}.yaml").write_text(STUDY.format(name=name, source=source))
    return tmp_path


def test_several_studies_have_one_summary_and_one_exit_code(place: Path, groupwise: Run) -> None:
    code, out, err = groupwise("estimate", "one.yaml", "lost.yaml", "two.yaml")
    assert code == 1
    folders = out.split()
    assert [Path(folder).parts[-4] for folder in folders] == ["one", "two"]
    assert all(Path(folder).is_dir() for folder in folders)
    summary = [line.split()[:2] for line in err.splitlines() if line.lstrip().startswith(("one.yaml", "lost.yaml", "two.yaml"))]
    assert [row for row in summary if row[1] in ("published", "refused")] == [
        ["one.yaml", "published"],
        ["lost.yaml", "refused"],
        ["two.yaml", "published"],
    ]
    assert "gone.parquet" in err
    code, out, err = groupwise("estimate", "one.yaml", "two.yaml")
    assert (code, out.split()) == (0, folders)
    assert err.count("unchanged") == 2
    code, out, _ = groupwise("estimate", "one.yaml", "lost.yaml", "--format", "json")
    assert (code, [(row["study"], row["outcome"], row["folder"]) for row in json.loads(out)]) == (
        1,
        [("one.yaml", "unchanged", folders[0]), ("lost.yaml", "refused", None)],
    )
    code, out, _ = groupwise("estimate", "one.yaml", "--format", "csv")
    assert (code, out.splitlines()[0]) == (0, "study,outcome,seconds,message,folder")
    code, _, err = groupwise("estimate", "one.yaml", "one.yaml")
    assert code == 1
    assert "named twice" in err


def test_csv_files_are_the_tables_as_published(place: Path, groupwise: Run) -> None:
    folder = Path(groupwise("estimate", "one.yaml")[1].strip())
    code, out, _ = groupwise("export", "one.yaml", "--output", "tables")
    assert code == 0
    written = [Path(line) for line in out.split()]
    assert sorted(file.stem for file in written) == sorted(file.stem for file in folder.glob("*.parquet"))
    for file in written:
        table = pq.read_table(folder / f"{file.stem}.parquet")
        text = io.StringIO(file.read_text(encoding="utf-8"))
        reader = csv.DictReader(text)
        rows = list(reader)
        assert reader.fieldnames == table.column_names
        for row, wanted in zip(rows, table.to_pylist(), strict=True):
            for name, value in wanted.items():
                if isinstance(value, float):
                    assert float(row[name]) == value
                elif not isinstance(value, bool):
                    assert row[name] == ("" if value is None else str(value))
    code, out, err = groupwise("export", "one.yaml", "--output", "tables")
    assert code == 1
    assert "--force replaces it" in err
    assert groupwise("export", str(folder), "--output", "groups.csv", "--table", "group_estimates", "--force")[0] == 0
    assert not list(place.glob("**/*.partial"))


def test_a_workbook_has_a_sheet_for_every_table_and_texts_stay_texts(place: Path, groupwise: Run) -> None:
    pytest.importorskip("xlsxwriter")
    folder = Path(groupwise("estimate", "one.yaml")[1].strip())
    code, out, _ = groupwise("export", "one.yaml", "--output", "tables.xlsx")
    assert (code, out.strip()) == (0, "tables.xlsx")
    with zipfile.ZipFile("tables.xlsx") as book:
        names = ElementTree.fromstring(book.read("xl/workbook.xml"))
        sheets = [sheet.attrib["name"] for sheet in names.iter() if sheet.tag.endswith("}sheet")]
        everything = b"".join(book.read(name) for name in book.namelist())
    assert sheets[0] == "about"
    assert set(sheets[1:]) == {file.stem for file in folder.glob("*.parquet")}
    assert b"<f>" not in everything
    assert b"=1+1" in everything


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--output", "all.csv"), "holds one table"),
        (("--output", "tables.ods"), ".xlsx or .csv"),
        (("--output", "x", "--table", "groups"), "the version has"),
    ],
)
def test_what_cannot_be_exported_is_refused(arguments: tuple[str, ...], said: str, place: Path, groupwise: Run) -> None:
    groupwise("estimate", "one.yaml")
    code, out, err = groupwise("export", "one.yaml", *arguments)
    assert (code, out) == (1, "")
    assert said in err


def test_a_doctor_finds_nothing_where_runs_work(place: Path, groupwise: Run) -> None:
    code, out, _ = groupwise("doctor", "one.yaml", "--format", "json")
    found = {row["check"]: row for row in json.loads(out)}
    assert code == 0
    assert {row["state"] for row in found.values()} <= {"ok", "absent", "warning"}
    assert found["one: publish_to"]["state"] == "ok"
    assert found["prefect"]["found"].startswith("no server is configured")


def test_a_doctor_names_what_is_wrong_and_what_to_do(place: Path, groupwise: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUPWISE_MEMORY", "plenty")
    Path("broken.yaml").write_text("name: broken\n")
    code, out, _ = groupwise("doctor", "broken.yaml", "--format", "csv")
    found = {row["check"]: row for row in csv.DictReader(io.StringIO(out))}
    assert code == 1
    assert found["resources"]["state"] == "fault"
    assert "GROUPWISE_MEMORY=plenty" in found["resources"]["found"]
    assert found["broken.yaml"]["state"] == "fault"
