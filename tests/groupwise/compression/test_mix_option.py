"""``standardise_to``: a table of weights that the study names, read with the line items and said wherever the numbers are."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from pydantic import ValidationError

from groupwise.compression.mix_query import keep_mix, mix_words, read_mix
from groupwise.source.relation import Relation
from groupwise.study.study import Study
from multilevel.errors import GroupwiseError, SourceError

type Studies = Callable[..., Study]


def parquet(query: str, path: str = "mix.parquet") -> None:
    duckdb.sql(f"copy ({query}) to '{path}' (format parquet)")


def test_a_parquet_table_is_kept_with_the_run(shop: Path, study: Studies, described: Callable[..., Relation]) -> None:
    parquet("select * from (values ('C0', true, 2), ('C1', false, 3)) t(category, is_sold, weight)")
    chosen = study(standardise_to={"parquet": "mix.parquet"})
    described(standardise_to={"parquet": "mix.parquet"})
    table = read_mix(chosen, shop / "run")
    assert dict(table.columns) == {"category": ["C0", "C1"], "is_sold": ["true", "false"]}
    assert table.weight.tolist() == [2.0, 3.0]
    assert "mix.parquet: weights of category, is_sold (2 rows, sha256 " in mix_words(chosen, shop / "run")


def test_a_query_on_a_database_gives_the_table(shop: Path, study: Studies) -> None:
    Path("mix.sql").write_text("select region, count(*) as weight from lines group by region;")
    keep_mix(study(standardise_to={"database": "shop.duckdb", "query": "mix.sql"}), shop / "run")
    assert sorted(read_mix(study(), shop / "run").columns["region"]) == ["R0", "R1"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select 'C0' as category, 1 as share", "has no column weight; it has category, share"),
        ("select 'C0' as category, -1 as weight", "weight -1 in row 1"),
        ("select 'C0' as category, 'nan'::double as weight", "weight nan in row 1"),
        ("select 'C0' as category, 0 as weight", "the weights of 1 rows sum to 0"),
        ("select null::varchar as category, 1 as weight", "category is null in 1 rows"),
        ("select 'C0' as category, 'much' as weight", "cannot be read"),
    ],
)
def test_weights_that_cannot_be_are_refused_before_anything_is_fitted(shop: Path, study: Studies, query: str, said: str) -> None:
    parquet(query)
    with pytest.raises(GroupwiseError, match=said):
        keep_mix(study(standardise_to={"parquet": "mix.parquet"}), shop / "run")


def test_a_table_that_is_not_there_is_named(shop: Path, study: Studies) -> None:
    with pytest.raises(SourceError, match=r"standardise_to\.parquet gone\.parquet matches no file"):
        keep_mix(study(standardise_to={"parquet": "gone.parquet"}), shop / "run")
    with pytest.raises(SourceError, match=r"standardise_to\.query: gone\.sql: no such file"):
        keep_mix(study(standardise_to={"database": "shop.duckdb", "query": "gone.sql"}), shop / "run")
    Path("two.sql").write_text("select 1; select 2")
    with pytest.raises(SourceError, match="exactly one SELECT"):
        keep_mix(study(standardise_to={"database": "shop.duckdb", "query": "two.sql"}), shop / "run")


@pytest.mark.parametrize(
    "fields", [{}, {"database": "a.duckdb"}, {"parquet": "a", "query": "b"}, {"parquet": "a", "database": "a", "query": "b"}]
)
def test_a_half_named_table_is_no_study(study: Studies, fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="write either"):
        study(standardise_to=fields)


def test_without_a_table_the_line_items_are_the_mix(shop: Path, study: Studies) -> None:
    keep_mix(study(), shop / "run")
    assert not (shop / "run" / "mix.parquet").exists()
    assert mix_words(study(), shop / "run") == "the line items themselves"
