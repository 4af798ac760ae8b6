"""Figures that more than one page shows."""

from __future__ import annotations

import altair as alt

from benchmarks.guide.figures import COLOUR, figure
from benchmarks.guide.shop_versions import levels
from benchmarks.guide.wording import interval


def income_groups() -> str:
    """Every income group of ``line_spend``: plain mean, estimate with its interval, and how many households stand behind it."""
    rows = sorted(levels("line_spend", "income_group"), key=lambda row: -row["population_estimate"])
    points = [
        {
            "label": f"{'not told' if row['level'] == '(missing)' else row['level']} ({row['n_sampled']:,})",
            "plain": row["observed_mean"],
            "estimate": row["population_estimate"],
            "lower": row["population_lower"],
            "upper": row["population_upper"],
        }
        for row in rows
    ]
    order = [point["label"] for point in points]
    few = min(rows, key=lambda row: row["n_sampled"])

    def draw(width: int) -> alt.LayerChart:
        y = alt.Y("label:N", sort=order, title=None)
        base = alt.Chart(alt.Data(values=points))
        title = ["dollars per line item:", "plain mean (diamond), estimate (circle)"]
        x = alt.X("lower:Q", title=title, scale=alt.Scale(zero=False))
        rule = base.mark_rule(color=COLOUR["partial"], strokeWidth=2).encode(x=x, x2="upper:Q", y=y)
        plain = base.mark_point(filled=True, shape="diamond", size=70, color=COLOUR["none"], opacity=1)
        dots = base.mark_point(filled=True, size=60, color=COLOUR["partial"], opacity=1)
        return alt.layer(rule, plain.encode(x="plain:Q", y=y), dots.encode(x="estimate:Q", y=y)).properties(
            width=width, height=24 * len(order)
        )

    said = f"{few['level']}, with {few['n_sampled']} households, has the interval {interval(few, 'population_')}"
    return figure(
        draw,
        alt=f"{len(rows)} income groups with plain mean, estimate and interval. {said}; groups of many households have narrower ones.",
        caption="**Income groups**, and in parentheses how many households stand behind each. The diamond is what a GROUP BY shows. "
        "The circle is the estimate for households with such an income, with its 95 % interval.",
    )
