"""Write this shop's examples into docs/multilevel-models.md, section 3, from the tables that without_households and line_spend published.

README's picture is drawn from line_spend's.

Run: ``python -m benchmarks._shop_examples_page [publish_to]`` (``make examples`` estimates both studies first). Every example is a mistake
that can be made with published numbers, next to the column that answers the question. The
levels are named here; their numbers come from the tables.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks._calibration_page import markdown
from benchmarks._reliability_page import provenance, replace_block
from groupwise.kept_models import SavedModels, saved_of
from groupwise.predictions import contrast_averages, contrast_levels
from groupwise.publishing.target import open_target
from groupwise.report import write_picture
from groupwise.study.study_file import load_study

WITHOUT, LINES = "docs/guide/without_households.yaml", "studies/line_spend.yaml"
PAGE = Path("docs") / "multilevel-models.md"
PICTURE = Path("docs") / "images" / "line_spend.png"
FACTOR, FEW, MIXED = "income_group", "200-249K", "175-199K"
"""The factor of the examples, its level with few households, and the one whose line items are of dearer categories."""
PAIR = ("FLORAL", "GARDEN CENTER")
"""Two departments that differ in what they consist of."""

type Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shop:
    """What the examples are made of: tables of both studies by name, the saved models of without_households."""

    lines: Mapping[str, pa.Table]
    households: Mapping[str, pa.Table]
    saved: SavedModels
    source: str


def main(publish_to: str = "published") -> None:
    """Replace the three examples, and the picture."""
    shop = read_shop(publish_to)
    text = PAGE.read_text(encoding="utf-8")
    for name, block in blocks(shop).items():
        text = replace_block(text, name, block)
    PAGE.write_text(text, encoding="utf-8")
    study = load_study(LINES, {"publish_to": publish_to})
    write_picture(shop.households, study.model_dump(mode="json"), PICTURE)
    print(f"{PAGE}, {PICTURE}: {shop.source}")


def read_shop(publish_to: str) -> Shop:
    """The latest versions of both studies."""
    found, said = {}, []
    for file in (WITHOUT, LINES):
        study = load_study(file, {"publish_to": publish_to})
        name = study.name
        target = open_target(study.publish_to, study.name)
        latest = target.latest()
        if latest is None:
            raise SystemExit(f"{publish_to}: nothing is published of {name}; run make examples, which estimates it first.")
        found[name] = target.tables(latest)
        said.append(f"`{name}` (as of {latest.as_of}, run {latest.run_id})")
    where = provenance()
    source = f"From the tables of {' and '.join(said)}; written on {where['date']} at commit {where['commit']}; {where['machine']}.\n"
    lines = load_study(WITHOUT, {"publish_to": publish_to})
    target = open_target(lines.publish_to, lines.name)
    latest = target.latest()
    assert latest is not None
    return Shop(found["without_households"], found["line_spend"], saved_of(lines, latest, target.joint(latest, Path(publish_to))), source)


def blocks(shop: Shop) -> dict[str, str]:
    """Name of the place on the page -> its text."""
    made = {"example-steps": steps(shop), "example-households": few_households(shop), "example-contrast": contrast(shop)}
    return {name: f"{text}\n{shop.source}" for name, text in made.items()}


def steps(shop: Shop) -> str:
    """Composition taken for pooling: each step of two income groups."""
    rows = []
    for level in (MIXED, FEW):
        plain, mixed, pooled = (level_of(shop.lines, level)[name] for name in ("observed_mean", "no_pooling_estimate", "estimate"))
        rows.append((level, money(plain), money(mixed), money(pooled), signed(mixed - plain), signed(pooled - mixed)))
    columns = ("`without_households`", "`observed_mean`", "`no_pooling_estimate`", "`estimate`", "the mix moved it", "pooling moved it")
    own = level_of(shop.households, MIXED)
    names = ("observed_mean", "no_pooling_estimate", "population_no_pooling_estimate", "population_estimate")
    second = ("`line_spend`", *(f"`{name}`" for name in names))
    return (
        f"{markdown(columns, rows)}\n"
        f"With households in the formula there is one step more, {own['n_sampled']:,} households that count once each:\n\n"
        f"{markdown(second, [(MIXED, *(money(own[name]) for name in names))])}"
    )


def few_households(shop: Shop) -> str:
    """A first rank that rests on few households: what each interval speaks of."""
    alone, both = level_of(shop.lines, FEW), level_of(shop.households, FEW)
    n = f"{both['n_sampled']:,} households"
    rows = [
        (
            "`without_households`: `estimate`",
            f"every line item is new evidence, as if the {n} were not",
            *interval_of(alone, ""),
            rank_of(alone),
        ),
        ("`line_spend`: `estimate`", f"these {n}, as they are", *interval_of(both, ""), ""),
        (
            "`line_spend`: `population_estimate`",
            "a new household with such an income",
            *interval_of(both, "population_"),
            rank_of(both),
        ),
    ]
    of_all = len(levels_of(shop.lines))
    columns = (f"{FEW}, {n}", "what its interval speaks of", "estimate", "95 % interval", f"rank of {of_all}, 95 % interval")
    [effect] = [row for row in shop.lines["diagnostics"].to_pylist() if row["check"].startswith(f"design_effect[{FACTOR},")]
    wider = width_of(both, "population_") / width_of(alone, "")
    return (
        f"{markdown(columns, rows)}\n"
        f"The last interval is {wider:.1f} times as wide as the first. `design_effect[{FACTOR}, customer_id]` of `without_households` is "
        f"{effect['value']:.1f}{'' if effect['passed'] else ', which fails'}.\n"
    )


def contrast(shop: Shop) -> str:
    """A contrast of coefficients read as one of the published averages."""
    [averages], _, _ = contrast_averages(shop.saved, PAIR)
    [link] = [each for each in contrast_levels(shop.saved, *PAIR) if each.term == "Intercept"]
    own = [" (".join(interval_of(level_of(shop.lines, level, "department"), "")) + ")" for level in PAIR]
    ratio = "" if averages.ratio is None else f"{averages.ratio[0]:.2f}"
    medians = "" if link.ratio is None else f"{link.ratio[0]:.2f}"
    rows = [
        ("`contrast`: the categories that each has, as in the table", *own, ratio, chance(averages.probability)),
        ("`--of coefficient`: a new category in each", "", "", medians, chance(link.probability_greater)),
    ]
    return markdown(("what is compared", *PAIR, "first over second", "probability that the first is above"), rows)


def levels_of(tables: Mapping[str, pa.Table], factor: str = FACTOR) -> Sequence[Row]:
    """Seen levels of a factor."""
    return [row for row in tables["group_estimates"].to_pylist() if row["grouping_factor"] == factor and not row["is_new"]]


def level_of(tables: Mapping[str, pa.Table], level: str, factor: str = FACTOR) -> Row:
    """One of them."""
    [found] = [row for row in levels_of(tables, factor) if row["level"] == level]
    return found


def interval_of(row: Row, kind: str) -> tuple[str, str]:
    """The estimate, and its bounds."""
    return money(row[f"{kind}estimate"]), f"{money(row[f'{kind}lower'])} to {money(row[f'{kind}upper'])}"


def width_of(row: Row, kind: str) -> float:
    """Of the interval."""
    return float(row[f"{kind}upper"] - row[f"{kind}lower"])


def rank_of(row: Row) -> str:
    """Bounds of the headline's rank."""
    low, high = int(row["rank_lower"]), int(row["rank_upper"])
    return f"{low}" if low == high else f"{low} to {high}"


def money(value: float) -> str:
    """Dollars and cents."""
    return f"${value:,.2f}"


def signed(value: float) -> str:
    """A difference in dollars and cents; none where it rounds to zero."""
    cents = round(value, 2)
    return money(0.0) if not cents else f"{'−' if cents < 0 else '+'}{money(abs(cents))}"


def chance(probability: float | None) -> str:
    """A probability in per cent."""
    return "" if probability is None else f"{100 * probability:.1f} %"


if __name__ == "__main__":
    main(*sys.argv[1:2])
