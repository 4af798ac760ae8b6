"""A whole ``groupwise estimate`` into object storage, and the commands that read what it published."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groupwise.commands.contrast import show_contrast
from groupwise.commands.diff import show_difference
from groupwise.commands.history import prune_versions, roll_back
from groupwise.commands.show import show_tables
from groupwise.pipeline.run_start import begin
from multilevel.errors import PublishError

STUDY = "name: small\nformula: y ~ 1 + (1 | g)\nsource: {parquet: lines.parquet}\nengine: likelihood\npublish_to: s3://warehouse/estimates/shop/\n"


def groupwise(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "groupwise", *arguments], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.operations
def test_estimate_publishes_to_the_bucket_and_show_diff_rollback_and_prune_read_it(
    bucket: Any, capsys: Any, monkeypatch: Any, put: Any
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    generator, groups = np.random.default_rng(1), np.repeat(np.arange(8), 20)
    pq.write_table(pa.table({"y": generator.normal(size=160) + groups, "g": [f"g{i}" for i in groups]}), "lines.parquet")
    Path("study.yaml").write_text(STUDY)
    estimated = groupwise("estimate", "study.yaml", "--as-of", "2026-11-02")
    assert estimated.returncode == 0, estimated.stderr
    folder = estimated.stdout.strip().splitlines()[-1]
    assert folder.startswith("s3://warehouse/estimates/shop/small/versions/dt=2026-11-02/rev=")
    run_id = folder.rpartition("rev=")[2]
    assert bucket.latest() == run_id
    again = groupwise("estimate", "study.yaml", "--as-of", "2026-11-02")
    assert (again.stdout.strip().splitlines()[-1], bucket.latest()) == (folder, run_id)
    assert "small: Unchanged. Run " in again.stderr
    for text in [path.read_text(errors="replace") for path in Path(".groupwise").rglob("*") if path.is_file()]:
        assert "not-a-secret-but-shown-nowhere" not in text
    for shown in ("study.yaml", folder, "s3://warehouse/estimates/shop/small"):
        show_tables(shown, 3)
        assert run_id in capsys.readouterr().out

    show_contrast("study.yaml", ["g3", "g1"], factor=None, of=None, style="table", run_id=None)
    assert "g3 is above g1 with probability" in capsys.readouterr().out

    put("earlier")
    show_difference("study.yaml", None, None, 3)
    assert "from run earlier as of 2026-11-01" in capsys.readouterr().out
    assert "the latest version is now that of run earlier" in roll_back("study.yaml", "earlier")
    assert roll_back("study.yaml", run_id)
    assert prune_versions("study.yaml", 1) == "small: 1 versions kept, 1 removed (earlier)."


def test_a_bucket_that_is_not_there_is_said_before_anything_is_computed(bucket: Any) -> None:
    Path("study.yaml").write_text(STUDY.replace("warehouse", "nowhere"))
    with pytest.raises(PublishError, match="there is no bucket nowhere"):
        begin("study.yaml", engine=None, publish_to=None, settings=[], run_id=None)
    assert not Path(".groupwise").exists()
