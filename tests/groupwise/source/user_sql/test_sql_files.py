"""The files that hold users' SQL: whatever stands at their path, it is a query of bounded size or refused at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from groupwise.compression.mix_query import keep_mix
from groupwise.source.relation import Relation
from groupwise.study.study import Study
from multilevel.errors import SourceError

type Describe = Callable[..., Relation]
type Lay = Callable[[Path], object]


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


IN_THE_WAY: dict[str, tuple[Lay, str]] = {
    "a pipe": (os.mkfifo, "this is no regular file; name a file with one SELECT"),
    "a device": (_device, "this is no regular file"),
    "a folder": (Path.mkdir, "this is a folder"),
    "a large file": (lambda path: path.write_bytes(b" " * 300_000), "larger than 256 KB"),
    "no text": (lambda path: path.write_bytes(b"select \xff"), "not UTF-8 text"),
    "nothing": (lambda path: None, "does not exist|no such file"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("lay", "message"), IN_THE_WAY.values(), ids=IN_THE_WAY)
def test_what_is_no_sql_file_is_refused_without_waiting(
    described: Describe, shop: Path, study: Callable[..., Study], lay: Lay, message: str
) -> None:
    Path("lines.sql").unlink(missing_ok=True)
    lay(Path("lines.sql"))
    with pytest.raises(SourceError, match=rf"source.line_items.*({message})"):
        described()
    mixed = study(standardise_to={"database": "shop.duckdb", "query": "lines.sql"})
    with pytest.raises(SourceError, match=rf"standardise_to.query.*({message})"):
        keep_mix(mixed, shop)
