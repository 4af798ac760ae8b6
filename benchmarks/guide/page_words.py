"""What sentences and hidden code of the guide's pages may use without an import."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.guide import figures, practice, recurring, shop_versions, wording

WORDS: Mapping[str, object] = {
    each.__name__: each
    for each in (
        wording.money,
        wording.number,
        wording.percent,
        wording.interval,
        wording.table,
        figures.figure,
        shop_versions.version,
        shop_versions.rows,
        shop_versions.row,
        shop_versions.level,
        shop_versions.levels,
        shop_versions.select,
        recurring.income_groups,
        practice.coffee,
        practice.coffee_script,
    )
} | {"COLOUR": figures.COLOUR}
