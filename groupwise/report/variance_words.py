"""How to read the variance components, in sentences: shares (ICC), what group-level predictors explain, how strongly levels are pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from groupwise.report.compared import effect_name
from groupwise.report.subject import Subject, number
from multilevel.families.registry import family_named

type Component = Mapping[str, Any]

MOSTLY = 0.5
"""Pooling factor above which levels rest more on each other than on their own rows (Gelman and Pardoe 2006)."""


def variance_sentences(subject: Subject) -> tuple[str, ...]:
    """Shares of each factor, what its group-level predictors explain, which coefficients are pooled; empty where there is no variance."""
    sds = [row for row in subject.tables["variance_components"].to_pylist() if row["quantity"] == "sd"]
    sds = [row for row in sds if row["grouping_factor"] != "residual"]
    sentences = [sentence for part in dict.fromkeys(row["part"] for row in sds) for sentence in _shares(subject, sds, part)]
    if sentences:
        sentences.append("Such a share is the intraclass correlation (ICC): what being of one level adds to how alike two line items are.")
    sentences += [sentence for row in sds for sentence in _explained(subject, row)]
    sentences += _pooled(subject, sds)
    latent = "" if subject.has_two_parts else family_named(subject.family).words.latent_variance
    sentences += [latent] if latent and sentences else []
    return tuple(sentences)


def _shares(subject: Subject, sds: Sequence[Component], part: str | None) -> list[str]:
    """One sentence for the model, or for one of its two parts."""
    own = [row for row in sds if row["part"] == part]
    said: list[str] = []
    for row in own:
        if row["variance_share"] is None:
            continue
        varying = [other for other in own if other["grouping_factor"] == row["grouping_factor"]]
        slopes = " (slopes included, at the predictors' own values)" if len(varying) > 1 else ""
        said.append(
            f"{row['variance_share']:.1%} {'' if said else 'lies '}between levels of {subject.factor_words(row['grouping_factor'])}{slopes}"
        )
    of_part = f" of {part}" if part else ""
    return [f"Of the variance{of_part} that predictors leave {', '.join(said)}."] if said else []


def _explained(subject: Subject, row: Component) -> list[str]:
    without, r_squared = row["estimate_without_group_predictors"], row["r_squared"]
    if without is None or r_squared is None:
        return []
    what = f"{effect_name(subject, row['term'])} of {subject.factor_words(row['grouping_factor'])}"
    sentence = (
        f"Levels differ in {what} by an sd of {number(row['estimate'])}; without the group-level predictors it would be {number(without)}"
    )
    if r_squared <= 0:
        return [f"{sentence}: they explain nothing of it (R² {number(r_squared)})."]
    return [f"{sentence}: they explain {r_squared:.0%} of how these coefficients differ (R²)."]


def _pooled(subject: Subject, sds: Sequence[Component]) -> list[str]:
    """Which coefficients lean on the other levels, and which on their own rows."""
    known = [row for row in sds if row["pooling_factor"] is not None]
    sides = {
        "mostly from what the levels have in common": [row for row in known if row["pooling_factor"] >= MOSTLY],
        "mostly from each level's own line items": [row for row in known if row["pooling_factor"] < MOSTLY],
    }
    said = [f"{words}: {', '.join(_named(subject, row) for row in rows)}" for words, rows in sides.items() if rows]
    return [f"Coefficients with their pooling factors (0 none, 1 complete), {'; '.join(said)}."] if said else []


def _named(subject: Subject, row: Component) -> str:
    return f"{effect_name(subject, row['term'])} of {subject.factor_words(row['grouping_factor'])} ({row['pooling_factor']:.2f})"
