"""How to read the variance components, in sentences: shares (ICC), what group-level predictors explain, how strongly levels are pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.report.parts import INTERCEPTS
from tasks.report.subject import Subject, number, term_words

type Component = Mapping[str, Any]

LATENT = {
    "binomial": "The outcome is true or false, so its own variation is that of a latent logistic variable, π²/3 on the link scale.",
    "poisson": "What counts vary by themselves is taken as log(1 + 1/mean) on the link scale.",
    "negative_binomial": "What counts vary by themselves is taken as log(1 + 1/mean + 1/φ) on the link scale.",
    "gamma": "What outcomes vary by themselves is taken as log(1 + 1/shape) on the link scale.",
}
"""Residual variances of generalised models (Nakagawa, Johnson and Schielzeth 2017)."""

MOSTLY = 0.5
"""Pooling factor from which on levels rest more on each other than on their own rows (Gelman and Pardoe 2006)."""


def variance_sentences(subject: Subject) -> tuple[str, ...]:
    """Shares of each factor, what its group-level predictors explain, which coefficients are pooled; empty where there is no variance."""
    sds = [row for row in subject.tables["variance_components"].to_pylist() if row["quantity"] == "sd"]
    sds = [row for row in sds if row["grouping_factor"] != "residual"]
    sentences = [sentence for row in sds if row["term"] in INTERCEPTS for sentence in _share(subject, row, sds)]
    sentences += [sentence for row in sds for sentence in _explained(subject, row)]
    sentences += _pooled(subject, sds)
    if subject.family in LATENT and sentences:
        sentences.append(LATENT[subject.family])
    return tuple(sentences)


def _share(subject: Subject, row: Component, sds: Sequence[Component]) -> list[str]:
    """The intraclass correlation where only the level varies; else a share, which depends on where the predictors lie."""
    share, factor = row["variance_share"], subject.factor_words(row["grouping_factor"])
    if share is None:
        return []
    alone = sum(other["grouping_factor"] == row["grouping_factor"] and other["part"] == row["part"] for other in sds) == 1
    part = f" ({row['part']})" if row["part"] else ""
    if alone:
        return [
            f"{share:.1%} of the variance that predictors leave lies between levels of {factor}{part}. That is the intraclass correlation "
            "(ICC): how alike two line items are that have no more in common than this."
        ]
    return [f"{share:.1%} of the variance that predictors leave is of {factor}{part}, its slopes included, at the predictors' own values."]


def _explained(subject: Subject, row: Component) -> list[str]:
    without, r_squared = row["estimate_without_group_predictors"], row["r_squared"]
    if without is None or r_squared is None:
        return []
    what = f"{term_words(row['term'])} of {subject.factor_words(row['grouping_factor'])}"
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
        "rest mostly on what the levels have in common": [row for row in known if row["pooling_factor"] >= MOSTLY],
        "rest mostly on each level's own line items": [row for row in known if row["pooling_factor"] < MOSTLY],
    }
    said = [f"{', '.join(_named(subject, row) for row in rows)} {words}" for words, rows in sides.items() if rows]
    return [f"Pooling factors (0 none, 1 complete): {'; '.join(said)}."] if said else []


def _named(subject: Subject, row: Component) -> str:
    return f"{term_words(row['term'])} of {subject.factor_words(row['grouping_factor'])} ({row['pooling_factor']:.2f})"
