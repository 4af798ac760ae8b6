"""Interactions in standardised averages: a level meets the common mix with the effect of that very combination."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from multilevel.cells.from_rows import cells_from_frame
from multilevel.formula.parse import parse_formula
from multilevel.study.fit_study import fit_study
from multilevel.study.options import fit_options

INVERSE = {"gaussian": lambda eta: eta, "poisson": np.exp, "binomial": expit}
# a logit bin draws its row in for what differs within it; the others are exact
TOLERANCE = {"gaussian": 1e-9, "poisson": 1e-9, "binomial": 2e-3}


def shop(family: str, *, seen: float = 1.0, n: int = 6_000) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    a, b, c = rng.integers(4, size=n), rng.choice(5, size=n, p=[0.4, 0.3, 0.15, 0.1, 0.05]), rng.integers(3, size=n)
    b = np.where(rng.random(n) < 0.3, a, b)  # a's own mix of b is not the common one
    kept = (a * 5 + b) % 7 != 0 if seen < 1.0 else np.ones(n, dtype=bool)
    eta = rng.normal(0, 0.4, 4)[a] + rng.normal(0, 1.0, 5)[b] + rng.normal(0, 0.3, 3)[c] + rng.normal(0, 0.6, (4, 5))[a, b]
    eta = eta + rng.normal(0, 0.3, (4, 5, 3))[a, b, c]
    y = {"gaussian": eta + rng.normal(size=n), "poisson": rng.poisson(np.exp(eta)), "binomial": rng.random(n) < expit(eta)}[family]
    return pd.DataFrame({"y": y, "a": [f"a{i}" for i in a], "b": [f"b{i}" for i in b], "c": [f"c{i}" for i in c]})[kept]


def tables(rows: pd.DataFrame, text: str, family: str, pair: tuple[str, str] | None = None) -> dict[str, pd.DataFrame]:
    formula = parse_formula(text)
    options = fit_options("s", date(2026, 1, 1), "r", "likelihood", cells_pair=pair)
    fitted = fit_study(formula, cells_from_frame(formula, rows, family), options)
    return {name: table.to_pandas() for name, table in fitted.tables.items()}


def effects(found: dict[str, pd.DataFrame], *factors: str) -> dict[tuple[str, ...], float]:
    table = found["group_coefficients"]
    table = table[(table["grouping_factor"] == ":".join(factors)) & (table["pooling"] == "partial") & ~table["is_new"]]
    whole = [
        tuple(level.split(":")) if level.count(":") == len(factors) - 1 else (*up.split(":"), level)
        for level, up in zip(table["level"], table["parent_level"], strict=True)
    ]
    return dict(zip(whole, table["deviation"], strict=True))


def intercept(found: dict[str, pd.DataFrame]) -> float:
    table = found["population_coefficients"]
    return float(table[table["pooling"] == "partial"]["estimate"].iloc[0])


@pytest.mark.parametrize("family", ["gaussian", *(pytest.param(family, marks=pytest.mark.parity) for family in ("poisson", "binomial"))])
def test_each_level_meets_the_whole_mix_with_its_own_interactions(family: str) -> None:
    rows = shop(family)
    found = tables(rows, "y ~ 1 + (1 | a) + (1 | b) + (1 | c) + (1 | a:b) + (1 | a:b:c)", family, ("a", "c"))
    one, two, three = effects(found, "a"), effects(found, "b"), effects(found, "c")
    both, every = effects(found, "a", "b"), effects(found, "a", "b", "c")
    mix = rows.groupby(["b", "c"]).size() / len(rows)
    estimates = found["group_estimates"].query("grouping_factor == 'a' and not is_new").set_index("level")["estimate"]
    for level in ("a0", "a1", "a2", "a3"):
        expected = sum(
            weight * INVERSE[family](intercept(found) + one[(level,)] + two[(b,)] + three[(c,)] + both[level, b] + every[level, b, c])
            for (b, c), weight in mix.items()
        )
        assert estimates[level] == pytest.approx(expected, rel=TOLERANCE[family])
    b_mix = rows["b"].value_counts(normalize=True)
    combinations = found["cell_estimates"].set_index(["customer_group", "product_group"])["estimate"]
    for level, c in (("a0", "c0"), ("a3", "c2")):
        expected = sum(
            weight * INVERSE[family](intercept(found) + one[(level,)] + two[(b,)] + three[(c,)] + both[level, b] + every[level, b, c])
            for b, weight in b_mix.items()
        )
        assert combinations[level, c] == pytest.approx(expected, rel=TOLERANCE[family])


def test_a_combination_that_was_never_seen_has_an_unknown_effect() -> None:
    rows = shop("poisson", seen=0.8, n=2_000)
    found = tables(rows, "y ~ 1 + (1 | a) + (1 | b) + (1 | a:b)", "poisson")
    one, two, both = effects(found, "a"), effects(found, "b"), effects(found, "a", "b")
    components = found["variance_components"].set_index("grouping_factor")["estimate"]
    mix = rows["b"].value_counts(normalize=True)
    estimates = found["group_estimates"].query("grouping_factor == 'a' and not is_new").set_index("level")["estimate"]
    assert len(both) < 20
    for level in ("a0", "a1", "a2", "a3"):
        expected = sum(
            weight * np.exp(intercept(found) + one[(level,)] + two[(b,)] + both.get((level, b), components["a:b"] ** 2 / 2))
            for b, weight in mix.items()
        )
        assert estimates[level] == pytest.approx(expected, rel=1e-6)
